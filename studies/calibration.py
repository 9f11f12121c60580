"""Whether a confidence means what it says: expected calibration error on test photos, before and after the temperature.

The temperature is fitted again, as the export does it: on validation photos, by the int8 model. No accuracy and no leak is
measured on those, and the errors printed here are of test photos, which the temperature never saw.

python -m studies.calibration RUN EXPORT        # of the same run, with an int8 model
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sfumato.data import Split
from sfumato.export.answer_bundle import int8_reader, ship
from sfumato.export.calibration import answer_logits, picture_logits, validation_photos
from sfumato.export.tflite import model_file
from sfumato.runtime.confidence import fit_temperature
from sfumato.runtime.interpreter import open_model
from sfumato.training.run import AnswerRun, load_run

BINS = 15
"""Of Guo et al. (ICML 2017)."""

Floats = NDArray[np.float64]


def calibration_error(logits: Floats, labels: NDArray[np.int64], bins: int = BINS) -> tuple[float, float]:
    """Expected calibration error, and mean confidence less accuracy; both in 0..1 and -1..1.

    Args:
        logits: (N, classes).
        labels: (N,) true classes.
        bins: intervals of confidence, of one width.
    """
    shares = np.exp(logits - logits.max(1, keepdims=True))
    confidence = shares.max(1) / shares.sum(1)
    gap = confidence - (logits.argmax(1) == labels)
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    sums = np.bincount(places, weights=gap, minlength=bins)
    return float(np.abs(sums).sum() / len(gap)), float(gap.mean())


def main() -> None:
    """Print a row for every kept attribute."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("run", type=Path)
    options.add_argument("export", type=Path)
    given = options.parse_args()
    run = load_run(given.run)
    session = open_model((given.export / model_file("int8")).read_bytes())

    def logits(images: NDArray[np.uint8]) -> dict[str, Tensor]:
        if isinstance(run, AnswerRun):
            read = int8_reader(session)
            return answer_logits(ship(run, read), read, images)
        return picture_logits(run, session, images)

    rows = run.dataset.splits[Split.TEST]
    photos, known = validation_photos(run)
    fitted, tested = logits(photos), logits(np.array(run.dataset.images[rows]))
    print(
        "| attribute | test photos | temperature | error before | after | surer than right before | after |"
    )
    for name, labels in known.items():
        before, truth = repeated(tested[name], run.dataset.labels[name][rows])
        t = fit_temperature(*repeated(fitted[name], labels))
        (error, sure), (error_t, sure_t) = (calibration_error(before / by, truth) for by in (1.0, t))
        cells = [f"{100 * share:.1f} %" for share in (error, error_t)]
        cells += [f"{100 * gap:+.1f} %" for gap in (sure, sure_t)]
        print(f"| {name} | {len(rows)} | {t} | " + " | ".join(cells) + " |")


def repeated(logits: Tensor, labels: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Logits of several uploads a photo, and as many labels."""
    return logits.double().numpy(), np.tile(labels, len(logits) // len(labels))


if __name__ == "__main__":
    main()
