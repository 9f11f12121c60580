"""The public face of `sfumato.runtime` and `sfumato.export`: light to import, and every kind of image gives one upload."""

import io
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import sfumato.export
import sfumato.runtime
from sfumato.core.errors import DataError, SfumatoError
from sfumato.runtime import Contract, PhoneModel, Upload, read_contract, verify

KEY = bytes(range(32))
HEAVY = {"torch", "tensorflow", "onnx", "onnxruntime", "numpy", "pydantic"}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ["runtime", "export"])
def test_the_package_alone_loads_nothing(package: str) -> None:
    """Processor time, the best of five, an empty interpreter included."""
    code = f"import sys, sfumato.{package}; print(sorted({HEAVY!r} & set(sys.modules)))"
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_python(code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.3, times


def test_a_phone_model_needs_neither_torch_nor_tensorflow(sealed: Path) -> None:
    """From import to upload."""
    done = run_python(
        "import sys, numpy\nfrom sfumato.runtime import PhoneModel, verify\n"
        f"upload = PhoneModel.load({str(sealed)!r}).perturb(numpy.zeros((32, 32, 3), numpy.uint8), key=bytes(32))\n"
        f"print(upload.content[1:4].decode(), sorted({{'torch', 'tensorflow'}} & set(sys.modules)))"
    )
    assert done.stdout.strip() == "PNG []", done.stderr


def test_every_kind_of_image_gives_the_same_upload(
    sealed: Path, tmp_path: Path, photo: Callable[[int, int], NDArray[np.uint8]]
) -> None:
    pixels = photo(32, 32)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    model = PhoneModel.load(str(sealed))
    opened = Image.open(io.BytesIO(content))  # not decoded yet
    kinds: dict[str, Any] = {
        "array": pixels,
        "path": tmp_path / "photo.png",
        "text": str(tmp_path / "photo.png"),
        "bytes": content,
        "image": Image.fromarray(pixels),
        "opened image": opened,
    }
    uploads = {name: model.perturb(image, key=KEY).content for name, image in kinds.items()}
    assert [name for name, upload in uploads.items() if upload != uploads["array"]] == []
    assert uploads["array"] != model.perturb(np.flipud(pixels), key=KEY).content
    assert opened.size == (32, 32)
    assert np.array_equal(np.asarray(opened), pixels)


def test_an_image_of_pillow_s_is_turned_and_cropped_like_its_file(
    sealed: Path, tmp_path: Path, photo: Callable[[int, int], NDArray[np.uint8]]
) -> None:
    """EXIF orientation, transparency and size; the image itself stays as it was."""
    exif = Image.Exif()
    exif[0x0112] = 6
    layered = Image.fromarray(np.dstack([photo(80, 50), np.full((80, 50), 200, np.uint8)]), "RGBA")
    layered.save(tmp_path / "photo.png", exif=exif)
    model = PhoneModel.load(sealed)
    with Image.open(tmp_path / "photo.png") as opened:
        one = model.perturb(opened, key=KEY)
        assert (opened.size, opened.mode) == ((50, 80), "RGBA")
    assert one.content == model.perturb(tmp_path / "photo.png", key=KEY).content
    assert one.content != model.perturb(layered, key=KEY).content, "this one carries no orientation"


@pytest.mark.parametrize(
    ("image", "error", "expected"),
    [
        (
            np.zeros((32, 31, 3), np.uint8),
            SfumatoError,
            "takes 32 x 32 RGB bytes, (32, 32, 3), not uint8 (32, 31, 3)",
        ),
        (
            np.zeros((32, 32, 3)),
            SfumatoError,
            "takes 32 x 32 RGB bytes, (32, 32, 3), not float64 (32, 32, 3)",
        ),
        ([[0, 0, 0]], SfumatoError, "or an array of uint8, not list"),
        ("there/is/no.png", DataError, "there/is/no.png: no such file"),
        (b"no picture", DataError, "the image: not a picture of a known kind"),
        (Image.new("F", (32, 32)), DataError, "the image: floating-point grey values"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(
    sealed: Path, image: Any, error: type[SfumatoError], expected: str
) -> None:
    with pytest.raises(error) as caught:
        PhoneModel.load(sealed).perturb(image, key=KEY)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_may_be_text(sealed: Path) -> None:
    model = PhoneModel.load(str(sealed))
    assert isinstance(model.contract, Contract)
    assert isinstance(model.perturb(np.zeros((32, 32, 3), np.uint8)), Upload)
    assert model.contract == read_contract(sealed)
    assert verify(str(sealed)).passed
    assert sfumato.export.load_export(str(sealed)).contract == model.contract
    with pytest.raises(SfumatoError, match=r"nowhere/contract\.json cannot be read"):
        PhoneModel.load("nowhere")
    with pytest.raises(SfumatoError, match="nowhere holds no finished run"):
        sfumato.export.export("nowhere", "out")


def test_one_version_everywhere(sealed: Path) -> None:
    """The installed package's: in the contract, in the doctor's report and on the command line."""
    from importlib.metadata import version

    from sfumato.cli.installation import examine
    from sfumato.core.provenance import own_version

    assert own_version() == version("sfumato")
    assert read_contract(sealed).provenance["sfumato"] == own_version()
    assert examine()["provenance"]["sfumato"] == own_version()
    done = subprocess.run(
        [sys.executable, "-m", "sfumato.cli.main", "--version"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"sfumato {own_version()}"
