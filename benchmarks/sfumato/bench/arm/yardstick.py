"""What a picture of the same size costs on the emulated core as a file that everybody knows: yardsticks.

count_encoder(toolbox, "cortex-a76", "jpeg", (64, 64), runs=3).instructions
"""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from sfumato.bench.arm.emulator import make_stage, run_guest
from sfumato.bench.arm.toolbox import Toolbox
from sfumato.bench.results import Stage
from sfumato.bench.stages import make_photo
from sfumato.core.errors import SfumatoError
from sfumato.runtime.sampler import Bytes

QUALITY = 90
MOST = 1.0
"""Mean difference, in levels of 0..255, to the picture that this computer's encoder keeps."""


@dataclass(frozen=True)
class Encoder:
    """A library for ARM64, and the same settings on this computer."""

    title: str
    library: Callable[[Toolbox], Path]
    own: dict[str, int | str]
    """Pillow's options beside the quality."""


ENCODERS = {
    # The settings of `cjpeg -quality 90`: 4:2:0, the slow integer DCT.
    "jpeg": Encoder("JPEG", lambda toolbox: toolbox.turbojpeg, {"subsampling": "4:2:0"}),
    # Those of `cwebp -q 90`: lossy, method 4 of 0..6.
    "webp": Encoder("WebP", lambda toolbox: toolbox.webp, {"method": 4}),
}
"""Name, for the guest and for Pillow -> encoder."""


@cache
def drawn_photo(height: int, width: int) -> Bytes:
    """The photo of `sfumato.bench.stages`, which is made by a formula, at another size: (H, W, 3)."""
    with Image.open(io.BytesIO(make_photo())) as photo:
        return np.asarray(photo.resize((width, height), Image.Resampling.BOX))


def decoded(content: bytes) -> Bytes:
    """The picture in a file, (H, W, 3)."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def count_encoder(
    toolbox: Toolbox, core: str, encoder: str, size: tuple[int, int], *, runs: int, warm: int = 2
) -> Stage:
    """Instructions of one encoding of a drawn photo at `QUALITY`.

    Args:
        toolbox: of `open_toolbox`.
        core: a key of `CORES`.
        encoder: a key of `ENCODERS`.
        size: height and width of the picture.
        runs: counted encodings.
        warm: those before.

    Raises:
        SfumatoError: the emulated program failed, or its file does not show what this computer's does.
    """
    chosen, (height, width) = ENCODERS[encoder], size
    picture = drawn_photo(height, width)
    with tempfile.TemporaryDirectory(prefix="sfumato-arm-") as name:
        image, file = Path(name) / "image", Path(name) / "file"
        image.write_bytes(picture.tobytes())
        numbers = [str(number) for number in (width, height, QUALITY)]
        arguments: list[str | Path] = [
            encoder,
            chosen.library(toolbox),
            image,
            *numbers,
            file,
            str(runs + warm),
        ]
        found = run_guest(toolbox, core, arguments)
        shown = decoded(file.read_bytes())
    own = io.BytesIO()
    Image.fromarray(picture).save(own, encoder, quality=QUALITY, **chosen.own)
    wanted = decoded(own.getvalue())
    if shown.shape != wanted.shape or np.abs(shown.astype(int) - wanted).mean() > MOST:
        raise SfumatoError(f"the {chosen.title} made on {core} does not show what this computer's shows")
    return make_stage(f"{chosen.title}, quality {QUALITY}, {height}x{width}", core, found[warm:])
