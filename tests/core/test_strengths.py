"""Lists of strengths, as a command line, a configuration and a contract give them."""

import pytest

from sfumato.core.errors import UsageError
from sfumato.core.strengths import check_strengths, read_strengths


def test_what_is_written_is_read() -> None:
    assert read_strengths(" 128,64 , 32,") == (128, 64, 32)
    assert read_strengths("0") == (0,)
    assert read_strengths("") == ()


@pytest.mark.parametrize("text", ["64.5", "-1", "half", "64 32", "1" * 5000, "\u0664"])
def test_what_is_no_whole_number_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="a strength is a whole number, not"):
        read_strengths(f"128,{text}")


@pytest.mark.parametrize("strengths", [(128,), (128, 1), (128, 127, 126)])
def test_points_descend_from_full_strength(strengths: tuple[int, ...]) -> None:
    check_strengths(strengths)


@pytest.mark.parametrize(
    "strengths",
    [(), (64,), (127, 64), (129, 128), (128, 128), (128, 64, 64), (128, 32, 64), (128, 0), (128, -1)],
)
def test_other_lists_are_refused(strengths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="points are strengths from 128 on") as caught:
        check_strengths(strengths)
    assert str(caught.value).endswith(f"not {', '.join(map(str, strengths)) or 'none'}")
