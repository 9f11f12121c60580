"""The error of confidences, against one that is counted bin by bin."""

import numpy as np
import pytest
from studies.calibration import calibration_error


@pytest.mark.parametrize("sharper", [0.3, 1.0, 4.0])
def test_calibration_error_is_what_counting_gives(sharper: float) -> None:
    rng = np.random.default_rng(5)
    honest = rng.normal(0, 1.5, (3000, 3))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (rng.random(len(honest))[:, None] > shares.cumsum(1)).sum(1)
    error, sure = calibration_error(sharper * honest, labels, bins=7)

    told = np.exp(sharper * honest) / np.exp(sharper * honest).sum(1, keepdims=True)
    slow = 0.0
    for low in np.arange(7) / 7:
        mine = (told.max(1) >= low) & (told.max(1) < low + 1 / 7)
        if mine.any():
            slow += mine.mean() * abs(told.max(1)[mine].mean() - (told.argmax(1) == labels)[mine].mean())
    assert error == pytest.approx(slow)
    assert sure == pytest.approx(told.max(1).mean() - (told.argmax(1) == labels).mean())
    if sharper == 1:
        assert error < 0.03  # chance alone
    else:
        assert error > 0.1
        assert (sure > 0) == (sharper > 1)


def test_certain_confidences_have_a_place() -> None:
    logits = np.array([[900.0, 0.0], [0.0, 900.0]])
    assert calibration_error(logits, np.array([0, 1])) == (0.0, 0.0)
    assert calibration_error(logits, np.array([1, 0])) == (1.0, 1.0)
