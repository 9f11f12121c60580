"""Files that are damaged, hostile or merely strange, made from good ones.

Every mutation depends on its random generator alone, so a case that went wrong can be made again from its number.

    changed = mutate_model(content, random.Random("0/models/17"))
"""

import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfumato.runtime.tflite_graph import tensor_places

EXTREMES = (-1, 0, 1, 2**31 - 1, -(2**31), 65_536, 2**20)
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, "", "\0", "../x", "é" * 300, "x" * 10_000),
    *([], {}, [[]], ["a"] * 1000, {"a": {"a": {}}}, [1, 10**9, 10**9, 3], [1, 4096, 4096, 12]),
)
"""Values that no field of a contract expects."""


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, insert, repeat or overwrite a few places."""
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
            data[at : at + 4] = struct.pack("<i", rng.choice(EXTREMES))
        elif kind == 4:
            data[at:at] = data[: rng.randrange(1, 200)]
        else:
            data[at : at + rng.randrange(1, 64)] = bytes(rng.randrange(1, 64))
    return bytes(data)


def mutate_model(content: bytes, rng: random.Random) -> bytes:
    """A .tflite file with wrong types or huge dimensions in its tensors, or damaged anywhere."""
    if rng.random() < 0.5:
        return mutate(content, rng)
    data = bytearray(content)
    places = tensor_places(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind, at = rng.choice(rng.choice(places))
        if kind == "type":
            data[at] = rng.randrange(20)
        else:
            struct.pack_into("<i", data, at, rng.choice(EXTREMES))
    return bytes(data)


def mutate_contract(content: bytes, rng: random.Random) -> bytes:
    """A contract.json with strange values in it, or damaged anywhere."""
    if rng.random() < 0.5:
        return mutate(content, rng)
    values = json.loads(content)
    every = list(_places(values))
    for _ in range(rng.choice((1, 1, 2))):
        *way, last = rng.choice(every)
        node = values
        try:
            for key in way:
                node = node[key]
            node[last] = rng.choice(STRANGE)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
    return json.dumps(values).encode()


def mutate_network(content: bytes, rng: random.Random) -> bytes:
    """A cloud.onnx whose weights lie elsewhere or are no numbers, whose shapes are huge, or that is damaged anywhere."""
    if rng.random() < 0.4:
        return mutate(content, rng)
    import onnx

    model = onnx.load_model_from_string(content)
    weights = rng.choice(model.graph.initializer)
    kind = rng.randrange(6)
    if kind == 0:
        weights.data_location = onnx.TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", rng.choice(["/etc/passwd", "../contract.json", "/dev/zero", ""])
    elif kind == 1:
        node = rng.choice(model.graph.node)
        hidden = onnx.TensorProto(name="hidden", data_location=onnx.TensorProto.EXTERNAL)
        node.attribute.append(onnx.helper.make_attribute(f"own{rng.randrange(9)}", hidden))
    elif kind == 2 and weights.raw_data:
        weights.raw_data = rng.choice([b"\xff\xff\xff\x7f", b"\0\0\x80\x7f"]) * (len(weights.raw_data) // 4)
    elif kind == 3 and weights.dims:
        weights.dims[rng.randrange(len(weights.dims))] = rng.choice(EXTREMES)
    elif kind == 4:
        _flood(model, rng.choice([10, 10_000, 700_000_000, 2**40]))
    return bytes(model.SerializeToString())


def _flood(model: Any, count: int) -> None:
    """Add a node that makes `count` numbers out of one; nothing needs them but the output itself."""
    import onnx

    size = onnx.helper.make_tensor("flood_size", onnx.TensorProto.INT64, [2], [count, 1])
    zero = onnx.helper.make_tensor("flood_zero", onnx.TensorProto.FLOAT, [1, 1], [0.0])
    model.graph.initializer.extend([size, zero])
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["flood_before" if name == output else name for name in node.output]
    axes = {"axes": [0, 1], "keepdims": 1}
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["flood_before"], ["flood_one"], **axes),
            onnx.helper.make_node("Expand", ["flood_one", "flood_size"], ["flood"]),
            onnx.helper.make_node("ReduceMean", ["flood"], ["flood_mean"], **axes),
            onnx.helper.make_node("Mul", ["flood_mean", "flood_zero"], ["flood_nothing"]),
            onnx.helper.make_node("Add", ["flood_before", "flood_nothing"], [output]),
        ]
    )


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON file as it is, with strange values, damaged, or made to exhaust its reader."""
    kind = rng.randrange(8)
    if kind == 0:
        return content
    if kind == 1:
        return rng.choice([b"[", b'{"a":']) * rng.choice([100, 5_000, 100_000])
    if kind == 2:
        return b'{"cloud": "subprocess:run", ' + content.lstrip()[1:]
    if kind == 3:
        return content.replace(b": 0", b": NaN", 1).replace(b": 1", b": 1e999", 1)
    if kind == 4:
        return content.replace(b"\n", b"\r\n")
    return mutate_contract(content, rng)


SPECIAL = ("pipe", "link", "link to a device", "folder", "nothing")


def replace_file(path: Path, kind: str) -> None:
    """Put something that is no file where one was."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "nothing":
        path.symlink_to("/dev/zero" if kind == "link to a device" else "/etc/hostname")


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from _places(child, (*path, key))


def mutate_picture(kind: str, rng: random.Random) -> bytes:
    """A picture of one of `PICTURES`: as it is, under some EXIF orientation, claiming to be huge, or damaged."""
    content = PICTURES[kind](scene(rng))
    choice = rng.random()
    if choice < 0.1:
        return content
    if choice < 0.2 and kind in ORIENTABLE:
        return oriented(content, rng.randrange(12))
    if choice < 0.35:
        return enlarged(content, rng)
    return mutate(content, rng)


def scene(rng: random.Random) -> Image.Image:
    """A small smooth RGB picture of a random size."""
    height, width = rng.randrange(1, 120), rng.randrange(1, 120)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(6 * k * x / width + c * y / height) for c, k in enumerate((1, 2, 3))]
    return Image.fromarray((127 + 120 * np.stack(waves, axis=2)).astype(np.uint8))


def oriented(content: bytes, orientation: int) -> bytes:
    """The same picture with an EXIF orientation; 0 and values above 8 do not exist."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(io.BytesIO(content)) as image:
        return _saved(image, str(image.format), exif=exif)


def enlarged(content: bytes, rng: random.Random) -> bytes:
    """The same bytes with a header that claims another size, huge or empty; a PNG gets its checksum mended."""
    data = bytearray(content)
    size = [rng.choice((0, 1, 5_000, 10_900, 60_000, 2**31 - 1)) for _ in range(2)]
    short = struct.pack("<HH", *(min(side, 65_535) for side in size))
    if data[:4] == b"\x89PNG":
        data[16:24] = struct.pack(">II", *size)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif data[:3] == b"GIF":
        data[6:10] = short
    elif data[:2] == b"BM":
        data[18:26] = struct.pack("<ii", *size)
    elif data[:2] == b"\xff\xd8":
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        data[at + 5 : at + 9] = struct.pack(">HH", *(min(side, 65_535) for side in size))
    else:  # WebP, TIFF: a number somewhere in the first kilobyte
        at = rng.randrange(8, min(len(data), 1000))
        data[at : at + 4] = short
    return bytes(data)


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _sixteen(image: Image.Image, form: str) -> bytes:
    return _saved(Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257), form)


def _float(image: Image.Image) -> bytes:
    return _saved(Image.fromarray(np.asarray(image)[..., 0].astype(np.float32)), "TIFF")


def _alpha(image: Image.Image, form: str) -> bytes:
    layer = image.convert("RGBA")
    layer.putalpha(image.convert("L"))
    return _saved(layer, form)


def _animated(image: Image.Image, form: str) -> bytes:
    return _saved(image, form, save_all=True, append_images=[image.rotate(90 * k) for k in (1, 2, 3)])


def png(width: int, height: int, depth: int, colour: int, rows: int) -> bytes:
    """A PNG of zeros that claims `width` x `height` and carries `rows` rows of them."""
    planes = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = bytes(1 + (width * planes * depth + 7) // 8)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in chunks
    )


def scans(count: int) -> bytes:
    """A progressive JPEG of 64 megapixels with `count` scans of nothing: small to send, long to decode."""
    content = _saved(Image.new("L", (8000, 8000)), "JPEG", progressive=True, quality=1)
    first = content.index(b"\xff\xda")
    second = content.index(b"\xff\xda", first + 2)
    return content[:first] + content[first:second] * count + content[second:]


BOMBS: dict[str, Callable[[], bytes]] = {
    "largest that is decoded, rgb": lambda: png(6300, 6300, 8, 2, 6300),
    "largest that is decoded, alpha": lambda: png(6300, 6300, 8, 6, 6300),
    "largest that is decoded, 16 bit": lambda: png(6300, 6300, 16, 0, 6300),
    "120 megapixels": lambda: png(10_900, 10_900, 8, 2, 10_900),
    "3.6 gigapixels, one bit": lambda: png(60_000, 60_000, 1, 0, 60_000),
    "a giant's header": lambda: png(2**31 - 1, 2**31 - 1, 8, 2, 0),
    "one row, two billion columns": lambda: png(30_000_000, 1, 8, 2, 1),
    "a thousand scans": lambda: scans(1000),
}
"""Small files that would unfold into a flood."""

PICTURES: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: _saved(image, "JPEG"),
    "progressive jpeg": lambda image: _saved(image, "JPEG", progressive=True),
    "cmyk jpeg": lambda image: _saved(image.convert("CMYK"), "JPEG"),
    "grey jpeg": lambda image: _saved(image.convert("L"), "JPEG"),
    "png": lambda image: _saved(image, "PNG"),
    "16-bit png": lambda image: _sixteen(image, "PNG"),
    "alpha png": lambda image: _alpha(image, "PNG"),
    "palette png": lambda image: _saved(image.convert("P"), "PNG"),
    "one-bit png": lambda image: _saved(image.convert("1"), "PNG"),
    "animated png": lambda image: _animated(image, "PNG"),
    "animated gif": lambda image: _animated(image, "GIF"),
    "webp": lambda image: _saved(image, "WEBP"),
    "animated webp": lambda image: _animated(image, "WEBP"),
    "lzw tiff": lambda image: _saved(image, "TIFF", compression="tiff_lzw"),
    "16-bit tiff": lambda image: _sixteen(image, "TIFF"),
    "float tiff": _float,
    "cmyk tiff": lambda image: _saved(image.convert("CMYK"), "TIFF"),
    "bmp": lambda image: _saved(image, "BMP"),
}
"""Makers of a good picture of each kind."""

ORIENTABLE = ("jpeg", "progressive jpeg", "cmyk jpeg", "grey jpeg", "png", "alpha png", "webp")
"""Kinds whose writer takes any EXIF orientation, also those that do not exist."""
