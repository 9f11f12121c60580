"""vectors.json: known answers that Python, Kotlin and JavaScript must all give, byte for byte.

Noise and sampler cases cover the edges (probabilities 0 and 255/256, every bit depth, clipped and silent gaussian noise);
upload cases lead from key and picture to the packed upload, for every channel; model cases run formula-made pictures through
the shipped int8 model, and point cases do so at each strength that the contract offers. No photo is in them: the file ships.
contract.json lists this file by its hash, so no case can hold the contract's own digest: each names the digest that stands in
for it.

    vectors = make_vectors(PhoneModel.load(folder))
    problems = check_vectors(vectors, model)
"""

import base64
import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError
from sfumato.core.sound import load_sound
from sfumato.core.strengths import FULL
from sfumato.runtime.answer import TOTAL, decide, draw, plain_word, state, word_bytes, word_image
from sfumato.runtime.index_code import IndexCode
from sfumato.runtime.keyed_noise import image_hash, keyed_noise, stream_iv, stream_key
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import dither, gaussian, normal_table, to_int8, weaken
from sfumato.runtime.upload_codec import pack

SCHEMA = "sfumato-vectors/2"
FILE = "vectors.json"
REFERENCE = "ai-edge-litert"
"""The runtime that the export's checks use."""
KEYS = (bytes(32), bytes(range(32)), hashlib.sha256(b"sfumato").digest())
CONTRACT = hashlib.sha256(b"sfumato-vectors").digest()
"""Stands in for the digest of contract.json."""

Bytes = NDArray[np.uint8]


def black(height: int, width: int) -> Bytes:
    """All 0."""
    return np.zeros((height, width, 3), dtype=np.uint8)


def white(height: int, width: int) -> Bytes:
    """All 255."""
    return np.full((height, width, 3), 255, dtype=np.uint8)


def ramp(height: int, width: int) -> Bytes:
    """`(4 x + 2 y + 85 c) mod 256`."""
    y, x, c = np.indices((height, width, 3))
    picture: Bytes = ((4 * x + 2 * y + 85 * c) % 256).astype(np.uint8)
    return picture


def checks(height: int, width: int) -> Bytes:
    """255 where `floor(x / 4) + floor(y / 4) + c` is odd, else 0."""
    y, x, c = np.indices((height, width, 3))
    return np.where((x // 4 + y // 4 + c) % 2 == 1, 255, 0).astype(np.uint8)


def grain(height: int, width: int) -> Bytes:
    """Byte i of the picture is byte `i mod 32` of SHA-256 over `floor(i / 32)` as eight big-endian bytes."""
    return hashed_bytes(height * width * 3).reshape(height, width, 3)


PATTERNS: dict[str, Callable[[int, int], Bytes]] = {
    "black": black,
    "white": white,
    "ramp": ramp,
    "checks": checks,
    "grain": grain,
}


def hashed_bytes(count: int, start: int = 0) -> Bytes:
    """`count` reproducible bytes, from block `start` on."""
    blocks = [hashlib.sha256((start + block).to_bytes(8, "big")).digest() for block in range(-(-count // 32))]
    return np.frombuffer(b"".join(blocks)[:count], dtype=np.uint8)


def make_vectors(model: PhoneModel) -> dict[str, Any]:
    """All cases for a model; the same model gives the same file."""
    model = replace(model, digest=CONTRACT)
    points = point_cases(model)
    return {
        "schema": SCHEMA,
        "normal_table_sha256": hashlib.sha256(normal_table().tobytes()).hexdigest(),
        "noise": noise_cases(),
        "dither": dither_cases(gray=bool(model.contract.channel.gray), colours=model.contract.channel.planes),
        "gaussian": gaussian_cases(),
        "upload": upload_cases(),
        "answer": answer_cases(),
        "model": [model_case(model, name, KEYS[i % 3]) for i, name in enumerate(PATTERNS)],
        **({"points": points} if points else {}),
        **({"index": index_cases()} if model.contract.index is not None else {}),
        **({"sound": sound_cases()} if model.contract.sound is not None else {}),
    }


def point_cases(model: PhoneModel) -> list[dict[str, Any]]:
    """One for each point of the contract: what becomes of every byte of an open block, and a picture's upload."""
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 256)
    names = list(PATTERNS)
    return [
        {
            "strength": strength,
            "bytes": weaken(every, strength, gates=False).tobytes().hex(),
            **model_case(model, names[-1 - i % len(names)], KEYS[i % 3], strength),
        }
        for i, strength in enumerate(model.contract.strengths)
    ]


def noise_cases() -> list[dict[str, Any]]:
    """Every key with every picture; then another contract, and parameters that differ in one bit."""
    q = hashed_bytes(48, 400)
    other = q.copy()
    other[17] ^= 1
    cases = [noise_case(key, CONTRACT, q, name) for key in KEYS for name in ("black", "ramp", "grain")]
    another = hashlib.sha256(CONTRACT).digest()
    return [
        *cases,
        noise_case(KEYS[1], another, q, "ramp"),
        noise_case(KEYS[1], CONTRACT, other, "ramp"),
        noise_case(KEYS[1], CONTRACT, q[:0], "ramp"),
    ]


def noise_case(key: bytes, contract: bytes, q: Bytes, pattern: str) -> dict[str, Any]:
    """The keystream for a 16 x 16 picture and given parameter bytes."""
    image, parameters = PATTERNS[pattern](16, 16), q.tobytes()
    return {
        "key": key.hex(),
        "contract": contract.hex(),
        "parameters": parameters.hex(),
        "pattern": pattern,
        "height": 16,
        "width": 16,
        "image_sha256": image_hash(image).hex(),
        "stream_key": stream_key(key).hex(),
        "iv": stream_iv(key, contract, hashlib.sha256(parameters).digest(), image_hash(image)).hex(),
        # 80 bytes reach over five cipher blocks, so the counter's byte order is checked.
        "noise": keyed_noise(key, contract, parameters, image, 80).tobytes().hex(),
    }


def dither_cases(*, gray: bool, colours: int = 3) -> list[dict[str, Any]]:
    """Every bit depth with ordinary and extreme probabilities, and all 256 thresholds against their neighbours."""
    cases = []
    for bits in (1, 2, 4):
        shape, count = (4, 4, colours * bits), 16 * colours * bits
        for q in (
            hashed_bytes(count, bits).reshape(shape),
            np.zeros(shape, np.uint8),
            np.full(shape, 255, np.uint8),
        ):
            cases.append(dither_case(q, hashed_bytes(count, 100 + bits), bits, gray))
    every = np.arange(256, dtype=np.uint8)
    # u = q - 1, q, q + 1 around each q: 768 thresholds, 16 x 16 samples of 3 colours, or 16 x 48 of one.
    q = np.repeat(every, 3).reshape(16, -1, colours)
    u = (np.repeat(every.astype(int), 3) + np.tile([-1, 0, 1], 256)).clip(0, 255).astype(np.uint8)
    return [*cases, dither_case(q, u, 1, gray)]


def dither_case(q: Bytes, noise: Bytes, bits: int, gray: bool) -> dict[str, Any]:
    """One draw; a bundle has cases of a Gray code, or of one plane, only if its uploads are such."""
    levels = dither(q, noise, bits=bits, gray=gray)
    return {
        "bits": bits,
        **({"gray": True} if gray else {}),
        **({"colours": 1} if levels.shape[2] == 1 else {}),
        "height": q.shape[0],
        "width": q.shape[1],
        "p": q.tobytes().hex(),
        "noise": noise.tobytes().hex(),
        "levels": levels.tobytes().hex(),
        "packed": pack(levels, bits=bits).hex(),
    }


def index_cases() -> list[dict[str, Any]]:
    """Both depths and powers, with ordinary, smallest and largest probabilities and every number of bits a step.

    Only a bundle whose uploads are indices has them: other readers do not know them.
    """
    shape, cases = (5, 4), []
    for planes, bits, gray, power, memory in (
        (3, 20, False, 1, 4),
        (3, 60, False, 2, 6),
        (6, 47, True, 1, 8),
        (6, 60, True, 2, 10),
        (6, 80, False, 2, 5),
    ):
        count = 20 * planes
        for q in (hashed_bytes(count, bits), np.zeros(count, np.uint8), np.full(count, 255, np.uint8)):
            code = IndexCode(*shape, planes, bits, gray, power, memory)
            noise = hashed_bytes(code.noise_bytes, 500 + bits)
            cases.append(index_case(code, q.reshape(*shape, planes), noise))
    return cases


def index_case(code: IndexCode, q: Bytes, noise: Bytes) -> dict[str, Any]:
    """One draw of an index, and its entry of the book."""
    index = code.draw(q, noise)
    return {
        "height": code.height,
        "width": code.width,
        "planes": code.planes,
        "bits": code.bits,
        "gray": code.gray,
        "power": code.power,
        "memory": code.memory,
        "p": q.tobytes().hex(),
        "noise": noise.tobytes().hex(),
        "index": index.hex(),
        "levels": code.levels(index).tobytes().hex(),
        "rate_bits": round(code.exact_bits(q), 9),
    }


def sound_cases() -> list[dict[str, Any]]:
    """Every form of a file and rates above the contract's; loud, faint, silent, one sample, and longer than the picture.

    Only a bundle that takes recordings has them: other readers do not know them.
    """
    chirp = (np.arange(7000) ** 2 // 40 * 5 % 65536 - 32768) * np.minimum(np.arange(7000), 800) // 800
    grainy = hashed_bytes(2400, 600).astype(np.int64) * 8 - 1024
    files = {
        "long": wav_bytes(chirp, rate=8000),
        "eight bits, faint": wav_bytes(grainy[:1600] // 40, rate=8000, bits=8),
        "two channels": wav_bytes(grainy, rate=16000, channels=2),
        "another clock": wav_bytes(chirp[2000:5000], rate=11025),
        "studio": wav_bytes(chirp[1000:6000], rate=44100),
        "silence": wav_bytes(np.zeros(200, np.int64), rate=48000),
        "one sample": wav_bytes(grainy[:1], rate=8000),
    }
    sizes = ((32, 64), (64, 16), (16, 48))
    return [sound_case(name, content, *sizes[i % 3]) for i, (name, content) in enumerate(files.items())]


def sound_case(name: str, content: bytes, bands: int, frames: int) -> dict[str, Any]:
    """One WAV file and its picture, whose three planes are equal: one is kept."""
    return {
        "name": name,
        "wav": encode(content),
        "height": bands,
        "width": frames,
        "picture": encode(load_sound(content, bands, frames)[:, :, 0].tobytes()),
    }


def wav_bytes(samples: NDArray[np.int64], *, rate: int, channels: int = 1, bits: int = 16) -> bytes:
    """A WAV file of 16-bit values (n,), those of all channels in turn; 8 bits keep the upper ones."""
    stored = samples.astype("<i2") if bits == 16 else ((samples >> 8) + 128).astype(np.uint8)
    frame, body = channels * bits // 8, stored.tobytes()
    header = struct.pack("<HHIIHH", 1, channels, rate, rate * frame, frame, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def gaussian_cases() -> list[dict[str, Any]]:
    """Both forms, ordinary, silent and loud noise, and the ends of the table."""
    shape, cases = (4, 4, 3), []
    for additive in (False, True):
        for largest in (0.5, 2.0):
            mean = hashed_bytes(48, 200).reshape(shape)
            for scale in (
                hashed_bytes(48, 201).reshape(shape),
                np.zeros(shape, np.uint8),
                np.full(shape, 255, np.uint8),
            ):
                cases.append(gaussian_case(mean, scale, hashed_bytes(96, 202), largest, additive))
    ends = np.tile(np.array([0, 0, 255, 255, 255, 127, 0, 128], dtype=np.uint8), 12)
    mean = np.tile(np.array([0, 128, 255], dtype=np.uint8), 16).reshape(shape)
    return [*cases, gaussian_case(mean, np.full(shape, 77, np.uint8), ends, 0.5, False)]


def gaussian_case(mean: Bytes, scale: Bytes, noise: Bytes, largest: float, additive: bool) -> dict[str, Any]:
    """One draw."""
    levels = gaussian(mean, scale, noise, largest_scale=largest, additive=additive)
    return {
        "additive": additive,
        "largest_scale": largest,
        "height": mean.shape[0],
        "width": mean.shape[1],
        "mean": mean.tobytes().hex(),
        "scale": scale.tobytes().hex(),
        "noise": noise.tobytes().hex(),
        "levels": levels.tobytes().hex(),
    }


SCHEMES: tuple[dict[str, Any], ...] = (
    {"bits": 1},
    {"bits": 2},
    {"bits": 4},
    {"additive": False, "largest_scale": 0.5},
    {"additive": True, "largest_scale": 2.0},
)
"""Every form of channel; without `bits` it is gaussian."""


def upload_cases() -> list[dict[str, Any]]:
    """The whole way with given parameters, every channel with ordinary, smallest and largest bytes, and another key."""
    cases = []
    for scheme in SCHEMES:
        planes = 3 * scheme.get("bits", 1)
        ordinary = hashed_bytes(16 * planes, 300).reshape(4, 4, planes)
        silent, loud = np.zeros_like(ordinary), np.full_like(ordinary, 255)
        cases += [upload_case(KEYS[1], "ramp", scheme, q) for q in (ordinary, silent, loud)]
        cases += [upload_case(KEYS[2], pattern, scheme, ordinary) for pattern in ("ramp", "white")]
    return cases


def upload_case(key: bytes, pattern: str, scheme: dict[str, Any], q: Bytes) -> dict[str, Any]:
    """Key, 4 x 4 picture and parameters -> noise and upload; a gaussian mean is `255 - scale` unless it is the picture."""
    image, bits = PATTERNS[pattern](4, 4), scheme.get("bits")
    mean: Bytes = image if scheme.get("additive") else (255 - q).astype(np.uint8)
    # In the order in which contracts list them.
    parameters = {"p": q} if bits else {"scale": q} if scheme["additive"] else {"mean": mean, "scale": q}
    given = b"".join(value.tobytes() for value in parameters.values())
    noise = keyed_noise(key, CONTRACT, given, image, q.size * (1 if bits else 2))
    levels = dither(q, noise, bits=bits) if bits else gaussian(mean, q, noise, **scheme)
    return {
        "key": key.hex(),
        "contract": CONTRACT.hex(),
        "pattern": pattern,
        "height": 4,
        "width": 4,
        "image_sha256": image_hash(image).hex(),
        **scheme,
        "parameters": {name: value.tobytes().hex() for name, value in parameters.items()},
        "noise": noise.tobytes().hex(),
        "packed": pack(levels, bits=bits or 8).hex(),
    }


def answer_cases() -> list[dict[str, Any]]:
    """Scores -> decision -> word: ordinary scores, ties, the first and the last word; with a table every end of a row."""
    cases = []
    for classes in ((2,), (3,), (9, 2), (2, 2, 2), (16, 16), (257,), (256, 256)):
        count = sum(classes)
        last = np.concatenate([np.arange(each) == each - 1 for each in classes]).astype(np.uint8)
        for q in (hashed_bytes(count, 400), np.full(count, 128, np.uint8), last * np.uint8(255)):
            cases.append(answer_case(q, classes, (), None, 0))
    for classes, margins in (((2,), ()), ((3,), (1, 16, 255)), ((9, 2), (40,))):
        words = math.prod(classes)
        even = [TOTAL * (word + 1) // words for word in range(words)]
        for row in (even, [TOTAL] * words, [0] * (words - 1) + [TOTAL]):
            edges = sorted({0, max(row[0] - 1, 0), min(row[0], TOTAL - 1), TOTAL - 1})
            for place, u in enumerate(edges):
                q = hashed_bytes(sum(classes), 410 + place)
                cases.append(answer_case(q, classes, margins, row, u))
    return cases


def answer_case(
    q: Bytes, classes: Sequence[int], margins: Sequence[int], row: Sequence[int] | None, u: int
) -> dict[str, Any]:
    """One answer; `row` is the table's row for the decision's state and `u` the noise, None stands for no table."""
    words, decision = math.prod(classes), decide(to_int8(q), classes)
    given: dict[str, Any] = {"classes": list(classes), "margins": list(margins), "scores": q.tobytes().hex()}
    if row is None:
        word = int(plain_word(decision, classes))
    else:
        noise = np.array([u & 255, u >> 8], dtype=np.uint8)
        word = int(draw(np.array([row], dtype=np.uint32), np.array(0), noise))
        given |= {"row": list(row), "noise": noise.tobytes().hex()}
        given["state"] = int(state(decision, classes, margins))
    return {
        **given,
        "height": 16,
        "width": 20,
        "decision": np.stack([decision.first, decision.second, decision.margin], axis=1).tolist(),
        "word": word,
        "bytes": word_bytes(word, words).hex(),
        "packed": pack(word_image(word, words, 16, 20), bits=1).hex(),
    }


def pattern_for(model: PhoneModel, name: str) -> Bytes:
    """A picture of the model's size; a model of grey pictures takes the red plane."""
    return np.ascontiguousarray(PATTERNS[name](*model.contract.size)[..., : model.contract.planes])


def model_case(model: PhoneModel, pattern: str, key: bytes, strength: int = FULL) -> dict[str, Any]:
    """One picture through model, noise and sampler; `parameters` are the model's own, whatever the strength."""
    image = pattern_for(model, pattern)
    parameters = model.parameters(image)
    drawn = parameters if strength == FULL else model.at_strength(parameters, strength)
    noise = model.noise(image, drawn, key)
    levels = model.sample(image, drawn, noise)
    index = {} if model.book is None else {"index": encode(model.book.draw(drawn["p"], noise))}
    return {
        "pattern": pattern,
        "image_sha256": image_hash(image).hex(),
        "key": key.hex(),
        "contract": CONTRACT.hex(),
        "parameters": {name: encode(value.tobytes()) for name, value in parameters.items()},
        "noise_sha256": hashlib.sha256(noise.tobytes()).hexdigest(),
        "upload_packed": encode(pack(levels, bits=model.contract.channel.bits)),
        **index,
        "rate_bits": round(model.rate_bits(image, drawn), 9),
    }


def encode(content: bytes) -> str:
    """Base64 without line breaks."""
    return base64.b64encode(content).decode("ascii")


def check_vectors(vectors: Any, model: PhoneModel) -> list[str]:
    """What this machine computes differently, one sentence each; empty if nothing.

    Noise, sampler and uploads must agree to the byte, and so must the model's bytes under the runtime that made the file:
    its int8 kernels give the same bytes on every processor. Another runtime, or another version, may differ by 2 where it
    rounds differently; the draw is checked from the stored bytes.

    Raises:
        SfumatoError: the file is not what its schema says.
    """
    if not isinstance(vectors, dict) or vectors.get("schema") != SCHEMA:
        raise SfumatoError(f"{FILE} does not have the schema {SCHEMA}")
    expected = make_vectors(model)
    found = [
        f"{part}: differs from {FILE}"
        for part in (
            "normal_table_sha256",
            "noise",
            "dither",
            "gaussian",
            "upload",
            "answer",
            "index",
            "sound",
        )
        if vectors.get(part) != expected.get(part)
    ]
    for part in ("model", "points"):
        cases, wanted = vectors.get(part, []), expected.get(part, [])
        if not isinstance(cases, list) or len(cases) != len(wanted):
            found.append(f"{part}: {FILE} holds other cases")
            continue
        for stored, made in zip(cases, wanted, strict=True):
            name = f"{part}, {made['strength'] if part == 'points' else made['pattern']}"
            try:
                found += [f"{name}: {problem}" for problem in _model_problems(stored, made, model)]
            except (KeyError, TypeError, ValueError) as error:
                raise SfumatoError(f"{FILE}: {name}: damaged ({type(error).__name__})") from None
    return found


def tolerance(model: PhoneModel) -> int:
    """Steps of 1/256 by which a model's bytes may differ under the runtime at hand."""
    runtime, packages = model.session.runtime, model.contract.provenance.get("packages", {})
    same = (
        runtime.name == REFERENCE
        and isinstance(packages, dict)
        and packages.get(REFERENCE) == runtime.version
    )
    return 0 if same else 2


def _model_problems(stored: Mapping[str, Any], made: Mapping[str, Any], model: PhoneModel) -> list[str]:
    given = (
        "pattern",
        "image_sha256",
        "key",
        "contract",
        *(("strength", "bytes") if "strength" in made else ()),
    )
    found = [name for name in given if stored[name] != made[name]]
    parameters: dict[str, Bytes] = {}
    for tensor in model.contract.outputs:
        old, new = (
            np.frombuffer(base64.b64decode(case["parameters"][tensor.name], validate=True), dtype=np.uint8)
            for case in (stored, made)
        )
        if old.shape != new.shape or np.abs(old.astype(int) - new.astype(int)).max() > tolerance(model):
            return [*found, f"the model's {tensor.name} differs"]
        parameters[tensor.name] = old.reshape(tensor.shape[1:])
    if "strength" in made:
        parameters = model.at_strength(parameters, made["strength"])
    image = pattern_for(model, made["pattern"])
    noise = replace(model, digest=CONTRACT).noise(image, parameters, bytes.fromhex(made["key"]))
    if hashlib.sha256(noise.tobytes()).hexdigest() != stored["noise_sha256"]:
        found.append("the noise differs")
    levels = model.sample(image, parameters, noise)
    if encode(pack(levels, bits=model.contract.channel.bits)) != stored["upload_packed"]:
        found.append("the upload differs")
    if model.book is not None and encode(model.book.draw(parameters["p"], noise)) != stored["index"]:
        found.append("the index differs")
    if abs(model.rate_bits(image, parameters) - stored["rate_bits"]) > 1e-6 * max(1.0, stored["rate_bits"]):
        found.append("the rate differs")
    return [f"{name} differs" if " " not in name else name for name in found]
