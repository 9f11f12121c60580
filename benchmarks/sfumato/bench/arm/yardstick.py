"""What a JPEG of the same picture costs on the emulated core: a yardstick that everybody knows.

count_jpeg(toolbox, "cortex-a76", (64, 64), runs=3).instructions
"""

import io
import tempfile
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
"""Mean difference, in levels of 0..255, to the picture that this computer's JPEG shows."""


@cache
def drawn_photo(height: int, width: int) -> Bytes:
    """The photo of `sfumato.bench.stages`, which is made by a formula, at another size: (H, W, 3)."""
    with Image.open(io.BytesIO(make_photo())) as photo:
        return np.asarray(photo.resize((width, height), Image.Resampling.BOX))


def decoded(content: bytes) -> Bytes:
    """The picture in a JPEG, (H, W, 3)."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def count_jpeg(toolbox: Toolbox, core: str, size: tuple[int, int], *, runs: int, warm: int = 2) -> Stage:
    """Instructions of one encoding by libjpeg-turbo with the settings of `cjpeg -quality 90`: 4:2:0, the slow integer DCT.

    Args:
        toolbox: of `open_toolbox`.
        core: a key of `CORES`.
        size: height and width of the picture.
        runs: counted encodings.
        warm: those before.

    Raises:
        SfumatoError: the emulated program failed, or its JPEG does not show what this computer's does.
    """
    height, width = size
    picture = drawn_photo(height, width)
    with tempfile.TemporaryDirectory(prefix="sfumato-arm-") as name:
        image, file = Path(name) / "image", Path(name) / "jpeg"
        image.write_bytes(picture.tobytes())
        numbers = [str(number) for number in (width, height, QUALITY)]
        found = run_guest(toolbox, core, ["jpeg", toolbox.turbojpeg, image, *numbers, file, str(runs + warm)])
        shown = decoded(file.read_bytes())
    own = io.BytesIO()
    Image.fromarray(picture).save(own, "JPEG", quality=QUALITY, subsampling="4:2:0")
    wanted = decoded(own.getvalue())
    if shown.shape != wanted.shape or np.abs(shown.astype(int) - wanted).mean() > MOST:
        raise SfumatoError(f"the JPEG made on {core} does not show what this computer's shows")
    return make_stage(f"JPEG, quality {QUALITY}, {height}x{width}", core, found[warm:])
