"""Damaged, hostile and strange files: a correct result or one line, never a crash, a hang or a flood of memory.

`SFUMATO_FUZZ=2000` sets how many mutations of each kind are tried; the default keeps the tests quick. Models are read in
a process of their own, with little memory.
"""

import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.contract import parse_contract
from sfumato.device import PhoneModel
from sfumato.errors import SfumatoError
from sfumato.verify import verify

ROUNDS = int(os.environ.get("SFUMATO_FUZZ", "150"))
KEY = bytes(32)
SECONDS = 5
ROOT = Path(__file__).resolve().parents[2]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, insert or overwrite a few places."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, kind = rng.randrange(max(1, len(data))), rng.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            data[at : at + 4] = struct.pack("<i", rng.choice((-1, 0, 2**31 - 1, -(2**31), 65536)))
        elif kind == 4:
            data[at:at] = data[: rng.randrange(1, 200)]
        else:
            data[at : at + rng.randrange(1, 64)] = bytes(rng.randrange(1, 64))
    return bytes(data)


def one_line(work: Callable[[], object]) -> bool:
    """Whether `work` succeeded; its only excuse is a `SfumatoError` of one line, within the time."""
    started, said = time.monotonic(), None
    try:
        work()
    except SfumatoError as error:
        said = str(error)
    assert time.monotonic() - started < SECONDS
    assert said is None or (said and "\n" not in said)
    return said is None


def test_mutated_contracts(sealed: Path) -> None:
    content = (sealed / "contract.json").read_bytes()
    rng = random.Random(1)
    for _ in range(ROUNDS):
        changed = mutate(content, rng)
        one_line(lambda changed=changed: parse_contract(changed))  # type: ignore[misc]


STRANGE: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    "",
    "\0",
    "../x",
    [],
    {},
    [[]],
    ["a"] * 1000,
    "x" * 10_000,
)


def test_contracts_with_strange_values(bundle: Path) -> None:
    """Every value replaced by strange ones; what still parses must still load or be refused."""
    values = json.loads((bundle / "contract.json").read_text())
    rng = random.Random(2)

    def places(node: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in items:
            yield (*path, key)
            yield from places(child, (*path, key))

    every = [path for path in places(values) if path[0] not in ("provenance", "figures")]
    for _ in range(ROUNDS):
        changed = json.loads(json.dumps(values))
        *way, last = rng.choice(every)
        node = changed
        for key in way:
            node = node[key]
        node[last] = rng.choice(STRANGE)
        (bundle / "contract.json").write_text(json.dumps(changed))
        one_line(lambda: PhoneModel.load(bundle))


def test_mutated_models_are_told_by_their_hash(bundle: Path) -> None:
    path = bundle / "local_int8.tflite"
    content, rng = path.read_bytes(), random.Random(3)
    for _ in range(ROUNDS):
        changed = mutate(content, rng)
        path.write_bytes(changed)
        assert one_line(lambda: PhoneModel.load(bundle)) == (changed == content)
    assert not verify(bundle).passed


CHILD = """
import random, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from sfumato.errors import SfumatoError
from sfumato.tflite_file import read_graph
from sfumato.lint import graph_findings, nnapi_findings
from test_fuzz_bundle import mutate
content, rng = Path(sys.argv[1]).read_bytes(), random.Random(4)
slowest = 0.0
for _ in range(int(sys.argv[2])):
    started = time.monotonic()
    try:
        graph = read_graph(mutate(content, rng))
        nnapi_findings(graph), graph_findings(graph)
    except SfumatoError as error:
        assert "\\n" not in str(error)
    slowest = max(slowest, time.monotonic() - started)
assert slowest < 5, slowest
"""


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))


def test_the_reader_of_models_survives_anything(sealed: Path) -> None:
    """Without the hash's protection: the flatbuffer reader and the lint on the mutated bytes themselves."""
    path = ":".join([str(ROOT / "train"), str(ROOT / "export")])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CHILD,
            str(sealed / "local_int8.tflite"),
            str(ROUNDS),
            str(Path(__file__).parent),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit_memory,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def seeds(picture: NDArray[np.uint8]) -> dict[str, bytes]:
    """Pictures of many kinds."""
    rgb = Image.fromarray(picture)
    sixteen = Image.fromarray(picture[..., 0].astype(np.uint16) * 257)
    return {
        "jpeg": encoded(rgb, "JPEG"),
        "progressive jpeg": encoded(rgb, "JPEG", progressive=True),
        "cmyk jpeg": encoded(rgb.convert("CMYK"), "JPEG"),
        "grey jpeg": encoded(rgb.convert("L"), "JPEG"),
        "png": encoded(rgb, "PNG"),
        "16-bit png": encoded(sixteen, "PNG"),
        "alpha png": encoded(rgb.convert("RGBA"), "PNG"),
        "palette png": encoded(rgb.convert("P"), "PNG"),
        "one-bit png": encoded(rgb.convert("1"), "PNG"),
        "animated gif": encoded(rgb.convert("P"), "GIF", save_all=True, append_images=[rgb.convert("P")] * 3),
        "animated webp": encoded(rgb, "WEBP", save_all=True, append_images=[rgb] * 3),
        "tiff": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "bmp": encoded(rgb, "BMP"),
    }


KINDS = tuple(seeds(np.zeros((8, 8, 3), np.uint8)))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind_and_their_mutations(
    sealed: Path, kind: str, photo: Callable[[int, int], NDArray[np.uint8]]
) -> None:
    model = PhoneModel.load(sealed)
    content, rng = seeds(photo(45, 60))[kind], random.Random(kind)
    upload = model.perturb(content, key=KEY)
    assert upload.levels.shape == (32, 32, 3)
    for _ in range(ROUNDS // len(KINDS) + 1):
        changed = mutate(content, rng)
        one_line(lambda changed=changed: model.perturb(changed, key=KEY))  # type: ignore[misc]


def png(width: int, height: int, body: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in chunks
    )


def test_bombs_are_refused_without_being_unpacked(sealed: Path) -> None:
    model = PhoneModel.load(sealed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in (12_000, 60_000, 2**31 - 1):
        bomb = png(size, size, bytes(30_000_000))
        assert not one_line(lambda bomb=bomb: model.perturb(bomb, key=KEY))  # type: ignore[misc]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB
