"""From photo to upload, step by step, with the very functions that `sfumato perturb` calls.

stages = measure_stages(PhoneModel.load(Path("export")), rounds=10, runs=200)
"""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from sfumato.bench.results import RAW, Stage
from sfumato.bench.timing import Times, interleave
from sfumato.core.image_io import fit, read_rgb, to_grey
from sfumato.runtime.answer import word_bytes
from sfumato.runtime.phone_model import Bytes, PhoneModel
from sfumato.runtime.upload_codec import encode_png

PHOTO = (3000, 4000)
"""Height and width of the made-up photo: 12 megapixels, as phones take them."""
KEY = bytes(range(32))
DECODED = "perturb a decoded photo"
"""Everything but the decoding, as one call."""
SIZED = "perturb a picture of the model's size"
"""The same without resizing."""


def make_photo() -> bytes:
    """A JPEG with edges, gradients and grain, the same everywhere; no picture of anyone."""
    height, width = PHOTO
    y, x = np.mgrid[0:height:4, 0:width:4]
    waves = [120 * np.sin(6 * k * x / width + c * y / height) for c, k in enumerate((1.0, 2.0, 3.0))]
    grain = np.random.default_rng(1).integers(0, 16, (*y.shape, 3))
    small = np.clip(127 + np.stack(waves, 2) + grain + 40 * ((x // 96 + y // 96) % 2)[..., None], 0, 255)
    stream = io.BytesIO()
    picture = Image.fromarray(small.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def stage_calls(model: PhoneModel) -> dict[str, Callable[[], object]]:
    """Each step of a photo's way as a call that repeats it; in answer mode the sampler chooses the word."""
    height, width = model.contract.size
    photo = make_photo()
    decoded = read_rgb(photo)

    def resize() -> Bytes:
        fitted = fit(decoded, height, width)
        return to_grey(fitted) if model.contract.planes == 1 else fitted

    image = resize()
    parameters = model.parameters(image)
    noise = model.noise(image, parameters, KEY)
    sample, encode = last_steps(model, image, parameters, noise)
    return {
        "decode": lambda: read_rgb(photo),
        "resize": resize,
        "network": lambda: model.parameters(image),
        "noise": lambda: model.noise(image, parameters, KEY),
        "sampler": sample,
        "rate": lambda: model.rate_bits(image, parameters),
        "encode": encode,
        RAW: model.session.interpreter.invoke,
        DECODED: lambda: model.perturb(resize(), key=KEY),
        SIZED: lambda: model.perturb(image, key=KEY),
    }


def last_steps(
    model: PhoneModel, image: Bytes, parameters: dict[str, Bytes], noise: Bytes
) -> tuple[Callable[[], object], Callable[[], bytes]]:
    """The draw of an image's upload, and its encoding as it travels when nothing else is asked for."""
    answer, bits = model.contract.answer, model.contract.channel.bits
    if answer is not None:
        word = model.word(parameters, noise)
        return lambda: model.word(parameters, noise), lambda: word_bytes(word, answer.words)
    levels = model.sample(image, parameters, noise)
    return lambda: model.sample(image, parameters, noise), lambda: encode_png(levels, bits=bits)


def measure_stages(model: PhoneModel, *, rounds: int, runs: int, seconds: float) -> tuple[Stage, ...]:
    """Time every step and the whole, interleaved."""
    times = interleave(stage_calls(model), rounds=rounds, runs=runs, seconds=seconds)
    return tuple(timed_stage(name, found) for name, found in times.items())


def over_network(stages: tuple[Stage, ...], name: str) -> float:
    """How many runs of the network alone a stage takes."""
    found = {stage.name: stage.p50_ms or math.nan for stage in stages}
    return found[name] / found[RAW]


def timed_stage(name: str, times: Times) -> Stage:
    """A step from its times."""
    return Stage(name=name, p50_ms=times.p(50), p90_ms=times.p(90), runs=times.runs)
