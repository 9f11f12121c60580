"""DICOM files as grey pictures: pixel data alone, brought to 8 bits by a window. Needs the package pydicom.

Of some 4,000 tags those act that say what the pixel values mean: rows, columns, bits, sign, MONOCHROME1 or 2, rescale slope and
intercept, and the file's own window where none is given. Everything else is left behind: patient, study, times, private tags,
overlays, curves, thumbnails, and the bits of a sample beyond its stored ones, where old overlays lie. What is burned into the
pixels stays, since nothing tells it from the picture: a file that says so, or does not say that it has nothing, is named.
Source: DICOM PS3.3 (C.7.6.3, C.11.1, C.11.2), PS3.5 (8.1, A).

Usage: `grey = read_dicom(Path("chest.dcm").read_bytes(), window=None)      # (H, W) uint8`
"""

import io
import struct
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.core.console import note_once
from sfumato.core.picture_file import MAX_DECODED, Content, PictureError, check_size, damaged

Window: TypeAlias = tuple[float, float]
"""The values that become 0 and 255: what lies between is linear, what lies beyond is cut off."""

PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
"""Little-endian transfer syntaxes without compression. A compressed one needs decoders that unpack what they are given."""
BURNED_IN = "the file says that text is burned into its pixels: whoever it names is in the picture, and may be in uploads"
UNKNOWN = (
    "the file does not say whether text, a name for example, is burned into its pixels: look at the pictures"
)


def windowed(values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    """Values of any shape -> bytes: `floor(255 (v - low) / (high - low) + 1/2)`, kept within 0..255.

    >>> windowed(np.array([-9, 0, 2048, 4095, 9999]), (0, 4095)).tolist()
    [0, 0, 128, 255, 255]
    """
    low, high = window
    scaled = np.floor((values.astype(np.float64) - low) * (255 / (high - low)) + 0.5)
    return np.asarray(scaled.clip(0, 255).astype(np.uint8))


def read_dicom(content: Content, window: Window | None = None) -> NDArray[np.uint8]:
    """The picture of a file of one frame, (H, W).

    Args:
        content: of the file.
        window: in the values that rescale slope and intercept give (of CT Hounsfield units); None takes the file's own, or the
            range of the stored bits where it has none.

    Raises:
        PictureError: pydicom is missing (`kind`); no pixels, colour, several frames, compressed, or a table where a line is
            expected (`form`); too large (`size`); damaged.
    """
    data = _parsed(content)
    rows, columns = (_whole(data, name) for name in ("Rows", "Columns"))
    check_size(rows, columns, MAX_DECODED)
    _refuse_what_is_no_grey_picture(data)
    values = _stored(data, rows, columns)
    slope, intercept = (
        _number(data, name, default) for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not slope:
        damaged("its rescale slope is 0")
    low, high = window or _own_window(data) or _stored_range(data, slope, intercept)
    found = windowed(values * slope + intercept, (low, high))
    _tell_of_text(str(data.get("BurnedInAnnotation", "")))
    return np.asarray(np.invert(found) if data.PhotometricInterpretation == "MONOCHROME1" else found)


def _parsed(content: Content) -> Any:
    try:
        import pydicom
    except ImportError:
        raise PictureError(
            "DICOM is read where the package pydicom is installed: pip install 'sfumato[medical]'", "kind"
        ) from None
    try:
        syntax = transfer_syntax(content)
        if syntax in PLAIN:  # asked first: of a deflated file pydicom would unpack whatever it says
            return pydicom.dcmread(io.BytesIO(bytes(content)))
    except Exception as error:  # pydicom has many types for damage, struct's and its own
        damaged(" ".join(str(error).split())[:80] or type(error).__name__)
    raise PictureError(
        f"a DICOM of the transfer syntax {syntax or 'none'}; save it without compression (gdcmconv --raw)",
        "form",
    )


def transfer_syntax(content: Content) -> str:
    """Of the file meta information, which is little-endian with explicit VR in every file; empty where it has none.

    Raises:
        IndexError, struct.error: the file ends before it does.
    """
    at = 132
    while content[at : at + 2] == b"\x02\0":
        number, kind = struct.unpack_from("<H2s", content, at + 2)
        long_form = kind in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        (length,) = struct.unpack_from("<I" if long_form else "<H", content, at + 8 if long_form else at + 6)
        at += 12 if long_form else 8
        if number == 0x0010:
            return bytes(content[at : at + length]).rstrip(b"\0 ").decode("ascii")
        at += length
    return ""


def _refuse_what_is_no_grey_picture(data: Any) -> None:
    if "PixelData" not in data:
        raise PictureError("a DICOM without pixels, or of floating-point ones", "form")
    kind = str(data.get("PhotometricInterpretation", ""))
    if _whole(data, "SamplesPerPixel") != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise PictureError(
            f"a DICOM of {kind or 'an unknown kind'}; MONOCHROME1 and MONOCHROME2 are read", "form"
        )
    frames = data.get("NumberOfFrames")
    if frames not in (None, "", 1):
        raise PictureError(
            f"a DICOM of {frames} frames; save the one that is meant as a file of its own", "form"
        )
    if "ModalityLUTSequence" in data:
        raise PictureError(
            "a DICOM whose values mean what a table says; save it with a rescale slope", "form"
        )


def _stored(data: Any, rows: int, columns: int) -> NDArray[np.int64]:
    """The values of the stored bits; what an overlay has put beside them is cut off."""
    allocated, stored, high = (_whole(data, name) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    if allocated not in (8, 16) or not 1 <= stored <= allocated or high != stored - 1:
        raise PictureError(f"a DICOM of {stored} bits in {allocated}, the highest {high}", "form")
    raw = bytes(data.PixelData)
    size = rows * columns * allocated // 8
    if len(raw) < size:
        damaged("it has too few pixels")
    values = np.frombuffer(raw[:size], dtype=f"<u{allocated // 8}").astype(np.int64).reshape(rows, columns)
    values &= (1 << stored) - 1
    if _whole(data, "PixelRepresentation"):
        values -= (values >> (stored - 1)) << stored
    return values


def _own_window(data: Any) -> Window | None:
    """The first of the file's windows, by PS3.3 C.11.2.1.2."""
    centre, width = data.get("WindowCenter"), data.get("WindowWidth")
    if centre in (None, "") or width in (None, ""):
        if "VOILUTSequence" in data:
            raise PictureError("a DICOM whose window is a table; give a window of your own", "form")
        return None
    function = str(data.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if function not in ("LINEAR", "LINEAR_EXACT"):
        raise PictureError(f"a DICOM with a window of the form {function}; give a window of your own", "form")
    try:
        middle, across = (float(one[0] if hasattr(one, "__getitem__") else one) for one in (centre, width))
    except (TypeError, ValueError, IndexError):
        damaged("its window")
    if function == "LINEAR":
        middle, across = middle - 0.5, across - 1
    if not across > 0:  # of a width of 1 every value is black or white
        across = 1e-6
    return middle - across / 2, middle + across / 2


def _stored_range(data: Any, slope: float, intercept: float) -> Window:
    stored, signed = _whole(data, "BitsStored"), _whole(data, "PixelRepresentation")
    least, most = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    return least * slope + intercept, most * slope + intercept


def _whole(data: Any, name: str) -> int:
    value = data.get(name)
    if not isinstance(value, int):
        damaged(f"{name} is missing")
    return int(value)


def _number(data: Any, name: str, default: float) -> float:
    value = data.get(name)
    if value in (None, ""):
        return default
    try:
        return float(value)
    except (TypeError, ValueError):
        damaged(f"{name} is no number")


def _tell_of_text(said: str) -> None:
    if said != "NO":
        note_once(f"DICOM: {BURNED_IN if said == 'YES' else UNKNOWN}")
