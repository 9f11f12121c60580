"""Nothing that a picture file holds beside its pixels reaches an upload, a file that is written, a cache or an export.

What is sent, and what services write down: tests/server/test_metadata.py. The page's part: tests/server/test_page.py.
The app's: tests/android/test_pictures.py.
"""

import json
import os
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.runs import build_run
from tests.pictures.corpus import app1, encoded, segment, with_segments
from tests.pictures.metadata import (
    ORIENTATION,
    SIGN,
    TRANSPARENT,
    Hidden,
    corpus_cases,
    exif_with,
    hidden,
)
from typer import Typer
from typer.testing import CliRunner

from sfumato.cli import perturb
from sfumato.core.image_io import load, read_rgb
from sfumato.data import open_dataset
from sfumato.export.pipeline import export
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.phone_model import PhoneModel

KEY = bytes(range(32))
DOCS = Path(__file__).parents[2] / "docs"
ACTING = (ORIENTATION,)
LONG_AGO = 915_148_800
"""Seconds: a time of a file that nothing may repeat."""


@pytest.fixture(scope="module")
def phone(sealed: Path) -> PhoneModel:
    return PhoneModel.load(sealed)


def unpacked(content: bytes) -> bytes:
    """The file and whatever is compressed or written in hexadecimal in it."""
    found = [content]
    for start in (match.start() for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content)):
        try:
            text = zlib.decompressobj().decompress(content[start:])
        except zlib.error:
            continue
        found += [
            text,
            *(bytes.fromhex(part.decode()) for part in re.findall(rb"(?:[0-9a-f]{2}){16,}", text)),
        ]
    return b"\n".join(found)


def test_every_place_holds_what_it_says() -> None:
    """A marker that is not in its file, or pixels that are those of the bare file, would show nothing."""
    cases = hidden()
    assert len({(case.container, case.place) for case in cases}) == len(cases)
    markers = [case.marker for case in cases if case.marker is not None]
    assert len(set(markers)) == len(markers)
    for case in cases:
        assert case.content != case.bare, case.name
        assert SIGN not in unpacked(case.bare), case.name
        if case.marker is not None:
            assert case.marker in unpacked(case.content), case.name


def test_the_pixels_are_those_of_the_bare_picture() -> None:
    for case in hidden():
        found, bare = read_rgb(case.content), read_rgb(case.bare)
        np.testing.assert_array_equal(
            found, bare[::-1, ::-1] if case.place in ACTING else bare, err_msg=case.name
        )
    for one in corpus_cases():
        if one.expected is not None:
            np.testing.assert_array_equal(read_rgb(one.content), one.expected, err_msg=one.name)


def test_an_upload_is_that_of_the_bare_picture(phone: PhoneModel) -> None:
    """Bytes, rate and warning; from a file's bytes, as the gateway reads them."""
    size = phone.contract.size
    for case in hidden():
        found = phone.perturb(case.content, key=KEY)
        turned = np.ascontiguousarray(load(case.bare, *size)[::-1, ::-1])
        bare = phone.perturb(turned if case.place in ACTING else case.bare, key=KEY)
        assert found.content == bare.content, case.name
        assert (found.draw, found.rate_bits, found.unlike) == (bare.draw, bare.rate_bits, bare.unlike), (
            case.name
        )
        assert SIGN not in found.content


GROUPS = {
    "comment": (
        "comment before the scan",
        "comment behind the pixels",
        "compressed comment",
        "comment in several languages",
    ),
    "IPTC, 8BIM": ("IPTC, own tag",),
    "values that no pixel shows": ("bytes between pixels", "colour that no pixel has"),
}
"""Row of the table -> further places that belong to it."""


def row_of(place: str) -> str:
    if place.startswith(("segment ", "chunk ")):
        return "private tag or chunk"
    if place.startswith("tag of "):
        return "patient and study"
    return next((row for row, places in GROUPS.items() if place in places), place)


def table(phone: PhoneModel) -> str:
    """Container and place -> what becomes of it, found by comparing uploads."""
    cells: dict[str, dict[str, str]] = {}
    for case in hidden():
        same = phone.perturb(case.content, key=KEY).content == phone.perturb(case.bare, key=KEY).content
        told = ("shown white" if case.place == TRANSPARENT else "left behind") if same else "acts"
        row = cells.setdefault(row_of(case.place), {})
        assert row.setdefault(case.container, told) == told, case.name
    containers = list(dict.fromkeys(case.container for case in hidden()))
    lines = [f"| place | {' | '.join(containers)} |", "|---|" + "---|" * len(containers)]
    lines += [
        f"| {place} | {' | '.join(row.get(one, '-') for one in containers)} |" for place, row in cells.items()
    ]
    return "\n".join(lines)


def test_the_table_of_the_documents_is_what_happens(phone: PhoneModel) -> None:
    assert table(phone) in (DOCS / "hardening.md").read_text(encoding="utf-8"), table(phone)


def write(folder: Path, cases: list[Hidden]) -> list[Path]:
    """Files whose names and times are to be seen nowhere either."""
    folder.mkdir()
    paths = []
    for case in cases:
        path = folder / f"{SIGN.decode()}{case.name}.{case.container.lower()}"
        path.write_bytes(case.content)
        os.utime(path, (LONG_AGO, LONG_AGO))
        paths.append(path)
    return paths


def test_files_of_perturb_say_nothing_of_the_photo(sealed: Path, phone: PhoneModel, tmp_path: Path) -> None:
    cases = hidden()
    write(tmp_path / "album", cases)
    key = tmp_path / "device.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    app = Typer()
    app.command()(perturb.command)
    out = tmp_path / "uploads"
    words = [sealed, tmp_path / "album", "--out", out, "--key", key, "--json"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert len(told["uploads"]) == len(cases)
    assert all("/album/" in row.pop("source") and row.pop("upload") for row in told["uploads"])
    assert SIGN.decode() not in json.dumps(told)  # names stand in these two places alone, for the user
    written = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "album")
    assert len(written) == 2 * len(cases) + 3  # the key, its ledger and the ledger's lock
    for path in written:
        assert SIGN not in unpacked(path.read_bytes()), path
        assert path.stat().st_mtime > LONG_AGO + 86_400
    secret = KeyRing.of(KEY).for_service("files")
    for case in cases:
        (upload,) = out.glob(f"*{case.name}.upload.png")
        assert upload.read_bytes() == phone.perturb(case.content, key=secret).content


def test_neither_cache_nor_export_holds_anything_of_training_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build_run("dither")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    cases = []
    for number in range(520):  # pictures that differ: copies of one would all be in one split
        plain, marker = encoded(np.array(run.dataset.images[number]), "JPEG"), SIGN + b"%04d" % number
        more = (app1(exif_with("EXIF, first directory", marker)), segment(0xFE, marker))
        cases.append(Hidden("jpg", str(number), with_segments(plain, *more) + marker, plain, marker))
    photos = write(tmp_path / "photos", cases)
    rows = [
        f"{path.name},{('no', 'yes')[i % 2]},{('no', 'yes')[i // 2 % 2]}" for i, path in enumerate(photos)
    ]
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["file,glasses,smiling", *rows]))
    dataset = open_dataset(f"folder:{tmp_path / 'photos'},size=32", keep=["glasses"], hide=["smiling"])
    bare = load(cases[0].bare, 32, 32)
    assert any(np.array_equal(image, bare) for image in dataset.images)
    export(replace(run, dataset=dataset), tmp_path / "export", variants=["int8"], allow_missed_goal=True)
    for folder in ("cache", "export"):
        written = [path for path in (tmp_path / folder).rglob("*") if path.is_file()]
        assert written
        for path in written:
            content = unpacked(path.read_bytes())
            assert SIGN not in content, path
            assert str(tmp_path).encode() not in content, path
