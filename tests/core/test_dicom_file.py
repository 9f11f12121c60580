"""DICOM pixels against the formulas of the standard, what is refused, and windows of 16-bit pictures."""

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.pictures.corpus import png, tiff
from tests.pictures.metadata import DEEP, Element, dicom, short

from sfumato.core.console import note_once
from sfumato.core.dicom_file import read_dicom, windowed
from sfumato.core.errors import DataError
from sfumato.core.image_io import fit, load, read_rgb
from sfumato.core.picture_file import DICOM, PictureError, inspect
from sfumato.data import open_dataset

pytest.importorskip("pydicom")
CLEAN = (0x0028, 0x0301, "CS", b"NO")


def text(number: int, value: str) -> Element:
    """A decimal string of group 0028."""
    return 0x0028, number, "DS", value.encode()


def slow_linear(x: float, centre: float, width: float) -> float:
    """PS3.3 C.11.2.1.2.1, as it stands there, onto 0..255."""
    if x <= centre - 0.5 - (width - 1) / 2:
        return 0
    if x > centre - 0.5 + (width - 1) / 2:
        return 255
    return ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500), (1024.5, 2), (0, 3000)])
def test_a_file_s_own_window_and_rescaling_are_the_standard_s(
    signed: bool, centre: float, width: float
) -> None:
    rng = np.random.default_rng(4)
    values: NDArray[Any] = rng.integers(-2048 if signed else 0, 2048 if signed else 4096, (7, 9))
    more = [
        CLEAN,
        text(0x1050, f"{centre}\\99"),
        text(0x1051, f"{width}\\9"),
        text(0x1052, "-1024"),
        text(0x1053, "1.5"),
    ]
    found = read_dicom(dicom(values, *more, signed=signed))
    slow = [[slow_linear(1.5 * int(v) - 1024, centre, width) for v in row] for row in values]
    assert np.abs(found - np.array(slow)).max() <= 0.5 + 1e-6
    inverted = read_dicom(dicom(values, *more, signed=signed, kind=b"MONOCHROME1"))
    np.testing.assert_array_equal(inverted, 255 - found)


def test_without_a_window_all_stored_values_count() -> None:
    found = read_dicom(dicom(DEEP, CLEAN))
    np.testing.assert_array_equal(found, np.floor(DEEP * (255 / 4095) + 0.5))
    signed = np.array([[-2048, 0, 2047]])
    assert read_dicom(dicom(signed, CLEAN, signed=True)).tolist() == [[0, 128, 255]]
    assert read_dicom(dicom(signed, CLEAN, signed=True), (-1024, 1024)).tolist() == [[0, 128, 255]]


def test_a_window_of_the_caller_s_goes_before_that_of_the_file() -> None:
    own = (text(0x1050, "100"), text(0x1051, "50"))
    asked = (0.0, 2000.0)
    np.testing.assert_array_equal(
        read_dicom(dicom(DEEP, CLEAN, *own), asked), read_dicom(dicom(DEEP, CLEAN), asked)
    )
    assert not np.array_equal(read_dicom(dicom(DEEP, CLEAN, *own)), read_dicom(dicom(DEEP, CLEAN)))


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "colour": (dicom(DEEP, (0x0028, 0x0002, "US", short(3)), kind=b"RGB"), "form", "RGB"),
    "a palette": (dicom(DEEP, kind=b"PALETTE COLOR"), "form", "PALETTE"),
    "frames": (dicom(DEEP, (0x0028, 0x0008, "IS", b"2")), "form", "2 frames"),
    "compressed": (dicom(DEEP, syntax=b"1.2.840.10008.1.2.4.90"), "form", "without compression"),
    "deflated": (dicom(DEEP, syntax=b"1.2.840.10008.1.2.1.99"), "form", "without compression"),
    "no syntax": (dicom(DEEP, syntax=b""), "form", "transfer syntax none"),
    "a table": (dicom(DEEP, (0x0028, 0x3000, "SQ", b"")), "form", "what a table says"),
    "a window table": (dicom(DEEP, (0x0028, 0x3010, "SQ", b"")), "form", "window is a table"),
    "sigmoid": (
        dicom(DEEP, text(0x1050, "9"), text(0x1051, "9"), (0x0028, 0x1056, "CS", b"SIGMOID")), "form", "SIGMOID",
    ),
    "17 bits": (dicom(DEEP, (0x0028, 0x0101, "US", short(17))), "form", "17 bits in 16"),
    "large": (dicom(DEEP, (0x0028, 0x0010, "US", short(65535)), (0x0028, 0x0011, "US", short(65535))), "size", "65535"),
    "few pixels": (dicom(DEEP, (0x0028, 0x0010, "US", short(300))), "damaged", "too few pixels"),
    "no rows": (dicom(DEEP, without=(0x0010,)), "damaged", "Rows is missing"),
    "slope 0": (dicom(DEEP, text(0x1053, "0")), "damaged", "slope is 0"),
    "a window of words": (dicom(DEEP, text(0x1050, "wide"), text(0x1051, "9")), "damaged", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_one_plain_grey_picture_is_one_line(name: str) -> None:
    content, reason, said = REFUSED[name]
    with pytest.raises(PictureError) as caught:
        read_rgb(content)
    assert caught.value.reason == reason
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_file_is_one_line() -> None:
    content = dicom(DEEP[:6, :8], CLEAN, (0x0010, 0x0010, "PN", b"PRIVATE"))
    assert inspect(content).kind == DICOM
    for end in range(132, len(content) - 1):
        with pytest.raises(PictureError) as caught:
            read_rgb(content[:end])
        assert "\n" not in str(caught.value)
        assert "PRIVATE" not in str(caught.value)


def test_without_pydicom_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(PictureError, match=r"sfumato\[medical\]") as caught:
        read_rgb(dicom(DEEP, CLEAN))
    assert caught.value.reason == "kind"


def test_text_in_the_pixels_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for more in ((CLEAN,), ((0x0028, 0x0301, "CS", b"YES"),), ()):
        note_once.cache_clear()
        read_dicom(dicom(DEEP, *more))
        said.append(" ".join(capsys.readouterr().err.split()))
    assert said[0] == ""
    assert "text is burned into its pixels" in said[1]
    assert "does not say whether text" in said[2]


def test_a_folder_of_dicom_with_a_window_is_a_data_set_of_one_plane(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = ["file,finding"]
    for number in range(520):
        (tmp_path / f"{number}.dcm").write_bytes(dicom(rng.integers(0, 4096, (32, 32)), CLEAN))
        rows.append(f"{number}.dcm,{('no', 'yes')[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = open_dataset(f"folder:{tmp_path},size=32,planes=1,window=500:3500", keep=["finding"])
    assert (data.images.shape, data.window) == ((520, 32, 32, 1), (500.0, 3500.0))
    first = read_dicom((tmp_path / "0.dcm").read_bytes(), (500, 3500))
    assert any(np.array_equal(image[..., 0], first) for image in data.images)
    other = open_dataset(f"folder:{tmp_path},size=32,planes=1", keep=["finding"])
    assert other.id != data.id  # another window, another entry of the cache, another data set


# --- windows of PNG and TIFF ---


@pytest.mark.parametrize("kind", ["png", "tiff", "tiff that begins with white", "big-endian tiff"])
def test_sixteen_bits_are_read_through_the_window(kind: str) -> None:
    values = np.random.default_rng(2).integers(0, 65536, (19, 23, 1)).astype(np.uint16)
    content = {
        "png": lambda: png(values, 0, 16),
        "tiff": lambda: tiff(values, "<", 1),
        "tiff that begins with white": lambda: tiff(values, "<", 0),
        "big-endian tiff": lambda: tiff(values, ">", 1),
    }[kind]()
    low, high = 1000, 5000
    slow = np.floor(((values[..., 0].astype(float) - low) * 255 / (high - low)) + 0.5).clip(0, 255)
    found = read_rgb(content, window=(low, high))[..., 1]
    np.testing.assert_array_equal(found, 255 - slow if "white" in kind else slow)
    np.testing.assert_array_equal(
        load(content, 8, 8, window=(low, high)), fit(read_rgb(content, window=(low, high)), 8, 8)
    )


def test_a_window_is_for_grey_pictures_beyond_8_bits() -> None:
    eight = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(eight, "PNG")
    colour = png(np.zeros((4, 4, 3), int), 2, 16)
    clear = png(np.zeros((4, 4, 2), int), 4, 16)
    for content in (eight.getvalue(), colour, clear):
        with pytest.raises(PictureError, match="a window is given") as caught:
            read_rgb(content, window=(0, 4095))
        assert caught.value.reason == "form"


def test_a_folder_of_sixteen_bits_without_a_window_is_told_what_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, rows = np.random.default_rng(3), ["file,finding"]
    for number in range(520):
        values = rng.integers(0, 4096, (16, 16, 1))
        (tmp_path / f"{number}.png").write_bytes(png(values, 0, 16))
        rows.append(f"{number}.png,{('no', 'yes')[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    note_once.cache_clear()
    open_dataset(f"folder:{tmp_path},size=16,planes=1", keep=["finding"])
    assert "all 65,536 grey values become 256" in " ".join(capsys.readouterr().err.split())
    note_once.cache_clear()
    data = open_dataset(f"folder:{tmp_path},size=16,planes=1,window=0:4095", keep=["finding"])
    assert "65,536" not in capsys.readouterr().err
    assert data.images.max() > 250  # without the window no picture is brighter than 16


@pytest.mark.parametrize("window", ["9", "9:9", "10:9", "a:b", "1:2:3", "-:5", "1e3:2e3"])
def test_windows_that_are_none_are_refused(window: str) -> None:
    with pytest.raises(DataError, match="values of black and white"):
        open_dataset(f"folder:photos,window={window}")


def test_drawn_pictures_have_no_window() -> None:
    with pytest.raises(DataError, match="no files of 16 bits"):
        open_dataset("synthetic,count=800,size=32,window=0:9")


def test_windowed_keeps_order_and_ends() -> None:
    values = np.arange(-5, 300)
    found = windowed(values, (10.0, 250.0))
    assert (np.diff(found.astype(int)) >= 0).all()
    assert (found[values <= 10].max(), found[values >= 250].min()) == (0, 255)
    assert struct.pack("B", int(windowed(np.array([130]), (10.0, 250.0))[0])) == b"\x80"
