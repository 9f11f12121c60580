"""The same bytes from Kotlin, Python and JavaScript."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.fixtures import dial, familiar, index_code, ledger_events, sounds
from tests.fixtures.answer import answered, random_answer

from sfumato.core.image_io import TURNS, fit
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.ledger import Ledger, draw_id
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import normal_table
from sfumato.runtime.sealed_log import LogError
from sfumato.runtime.test_vectors import answer_cases, upload_cases
from sfumato.runtime.upload_codec import decode_png, unpack

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "cloud" / "vectors_cli.js"
"""Noise and sampler of the browser page under node."""
LEDGER = ROOT / "cloud" / "ledger_cli.js"
"""Its account."""


@pytest.fixture(scope="module")
def kotlin(kit: Any, app: Any) -> Any:
    """Ask the core: cases in, answers out."""

    def ask(what: str, cases: list[dict[str, Any]], *more: Path | str) -> list[dict[str, Any]]:
        classpath = kit.path([app.tests, app.core, *kit.RUNTIME])
        lines = "".join(json.dumps(case) + "\n" for case in cases)
        done = kit.run(*kit.JAVA, "-cp", classpath, "dev.sfumato.core.CrossLanguage", what, *more, text=lines)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "normal_table.bin"
    path.write_bytes(normal_table().tobytes())
    return path


def photo_cases(model: PhoneModel) -> list[dict[str, Any]]:
    """Whole photos through the exported model: what each language must turn into the same upload."""
    rng = np.random.default_rng(7)
    height, width = model.contract.size
    cases = []
    for _ in range(3):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        parameters = {name: q.tobytes().hex() for name, q in model.parameters(image).items()}
        key = rng.bytes(32)
        shape = {"height": height, "width": width, "pixels": image.tobytes().hex(), "key": key.hex()}
        assert model.digest is not None
        shape["contract"] = model.digest.hex()
        cases.append({**shape, "bits": model.contract.channel.bits, "parameters": parameters})
    return cases


def test_one_upload_from_every_language(kit: Any, kotlin: Any, table: Path, export_folder: Path) -> None:
    model = PhoneModel.load(export_folder)
    height, width = model.contract.size
    photos, vectors = photo_cases(model), upload_cases()
    answers = kotlin("upload", [*photos, *vectors], table)
    for case, answer in zip(photos, answers[:3], strict=True):
        image = np.frombuffer(bytes.fromhex(case["pixels"]), np.uint8).reshape(height, width, 3)
        upload = model.perturb(image, key=bytes.fromhex(case["key"]))
        levels = unpack(bytes.fromhex(answer["packed"]), height=height, width=width, bits=case["bits"])
        assert np.array_equal(levels, upload.levels)
        # Compressed bytes are zlib's choice; pixels and the absence of other chunks are ours.
        png = bytes.fromhex(answer["png"])
        assert np.array_equal(decode_png(png, height=height, width=width, bits=case["bits"]), upload.levels)
    for case, answer in zip(vectors, answers[3:], strict=True):
        assert (answer["noise"], answer["packed"]) == (case["noise"], case["packed"])
        bits = case.get("bits", 8)
        levels = unpack(bytes.fromhex(case["packed"]), height=4, width=4, bits=bits)
        assert np.array_equal(decode_png(bytes.fromhex(answer["png"]), height=4, width=4, bits=bits), levels)
    lines = "".join(json.dumps(case) + "\n" for case in [*photos, *vectors])
    done = kit.run("node", PAGE, "upload", table, text=lines)
    assert done.returncode == 0, done.stderr
    javascript = [json.loads(line) for line in done.stdout.splitlines()]
    assert javascript == [{name: answer[name] for name in ("noise", "packed")} for answer in answers]


def test_vectors_of_one_plane_hold(
    kit: Any, app: Any, build_export: Any, table: Path, tmp_path: Path
) -> None:
    """Contract, picture, noise, draw and rate of a model of grey pictures, by the core's own test."""
    export = build_export("grey", tmp_path / "export")
    (export / "normal_table.bin").write_bytes(table.read_bytes())
    classpath = kit.path([app.tests, app.core, *kit.RUNTIME, *kit.JUNIT])
    options = ("-ea", f"-Dsfumato.export={export}", "-cp", classpath)
    done = kit.run(*kit.JAVA, *options, "org.junit.runner.JUnitCore", "dev.sfumato.core.VectorsTest")
    assert done.returncode == 0, done.stdout
    assert "\nOK (" in done.stdout


def test_one_upload_of_any_strength_from_every_language(kotlin: Any, table: Path) -> None:
    """The page's modules are asked in tests/server/test_page_modules.py."""
    cases, expected = dial.cases(8)
    answers = kotlin("upload", cases, table)
    assert [{name: answer[name] for name in ("noise", "packed")} for answer in answers] == expected


def test_one_answer_from_every_language(kit: Any, kotlin: Any) -> None:
    rng = np.random.default_rng(13)
    cases = [*answer_cases(), *(random_answer(rng) for _ in range(300))]
    expected = [answered(case) for case in cases]
    assert kotlin("answer", cases) == expected
    done = kit.run("node", PAGE, "answer", text="".join(json.dumps(case) + "\n" for case in cases))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


def test_one_index_from_every_language(kotlin: Any) -> None:
    """The page's modules are asked in tests/server/test_page_modules.py."""
    given, expected = index_code.cases(60)
    index_code.compare(kotlin("index", given), expected)


def test_recordings_become_the_same_pictures_in_every_language(kotlin: Any, sound_export: Path) -> None:
    """Tolerance: none. The page's modules are asked in tests/server/test_page_modules.py."""
    cases = sounds.cases([*sounds.recordings(24), *sounds.REFUSED])
    sounds.compare(
        kotlin("sound", [{name: case[name] for name in ("wav", "height", "width")} for case in cases]), cases
    )
    vectors = json.loads((sound_export / "vectors.json").read_text(encoding="utf-8"))["sound"]
    found = kotlin("sound", [{name: case[name] for name in ("wav", "height", "width")} for case in vectors])
    stored = [base64.b64decode(case["picture"]).hex() for case in vectors]
    assert [one["picture"] for one in found] == stored


def test_real_recordings_become_the_same_pictures(kotlin: Any, shared_data: Path) -> None:
    folder = shared_data / "spoken_digits" / "recordings"
    if not folder.is_dir():
        pytest.skip("no spoken_digits")
    cases = sounds.cases(sorted(folder.glob("*.wav"))[::100])
    sounds.compare(
        kotlin("sound", [{name: case[name] for name in ("wav", "height", "width")} for case in cases]), cases
    )


def test_photos_are_as_unlike_in_every_language(kotlin: Any) -> None:
    """The page's modules are asked in tests/server/test_page_modules.py."""
    cases, expected = familiar.cases()
    familiar.compare(kotlin("familiar", cases), expected)


def test_pictures_are_fitted_as_python_does(kotlin: Any) -> None:
    """Tolerance: none."""
    rng = np.random.default_rng(11)
    sizes = [
        (1, 1),
        (1, 40),
        (40, 1),
        (16, 16),
        (17, 31),
        (64, 48),
        (97, 203),
        (300, 41),
        (128, 128),
        (480, 640),
    ]
    targets = [(16, 16), (16, 24), (32, 20)]
    cases, expected = [], []
    for (height, width), (to_height, to_width) in ((size, target) for size in sizes for target in targets):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        shape = {"height": height, "width": width, "to_height": to_height, "to_width": to_width}
        cases.append({**shape, "rgb": image.tobytes().hex()})
        expected.append({"rgb": fit(image, to_height, to_width).tobytes().hex()})
    assert kotlin("fit", cases) == expected


def test_pictures_are_turned_as_python_does(kotlin: Any) -> None:
    image = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    answers = kotlin(
        "turn",
        [{"height": 3, "width": 5, "rgb": image.tobytes().hex(), "orientation": turn} for turn in TURNS],
    )
    for turn, answer in zip(TURNS.values(), answers, strict=True):
        turned = np.ascontiguousarray(turn(image))
        assert (answer["height"], answer["width"]) == turned.shape[:2]
        assert answer["rgb"] == turned.tobytes().hex()


def test_transparency_is_laid_over_white_as_python_does(kotlin: Any) -> None:
    """Every value under every opacity."""
    alpha, value = np.indices((256, 256), dtype=np.uint8)
    overlay = np.stack([value, 255 - value, value // 2, alpha], axis=2)
    words = (
        (alpha.astype(int) << 24) | (value.astype(int) << 16) | ((255 - value.astype(int)) << 8) | value // 2
    )
    (answer,) = kotlin("argb", [{"height": 256, "width": 256, "argb": words.reshape(-1).tolist()}])
    white = Image.new("RGBA", (256, 256), "white")
    expected = np.asarray(Image.alpha_composite(white, Image.fromarray(overlay, "RGBA")).convert("RGB"))
    found = np.frombuffer(bytes.fromhex(answer["rgb"]), np.uint8).reshape(256, 256, 3)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("seed", range(2))
def test_one_account_from_every_language(kit: Any, kotlin: Any, tmp_path: Path, seed: int) -> None:
    """The same sentences and refusals, and the same bytes in both files."""
    given = ledger_events.events(seed)
    said, files = ledger_events.play(tmp_path / "python", given)
    assert kotlin("account", given, tmp_path / "kotlin", ledger_events.KEY.hex()) == said
    for ending in ("", ".anchor"):
        assert (tmp_path / f"kotlin{ending}").read_bytes() == (tmp_path / f"python{ending}").read_bytes()
        assert (tmp_path / f"kotlin{ending}").stat().st_mode & 0o777 == 0o600
    lines = "".join(json.dumps(case) + "\n" for case in given)
    done = kit.run("node", LEDGER, "account", ledger_events.KEY.hex(), text=lines)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [*said, files]


def test_one_key_for_a_service_from_every_language(kotlin: Any) -> None:
    rng = np.random.default_rng(5)
    cases = [(rng.bytes(32), name) for name in ("photos.example", "127.0.0.1", "::1", "files")]
    given = [{"key": key.hex(), "service": name} for key, name in cases]
    expected = [{"key": KeyRing.of(key).for_service(name).hex()} for key, name in cases]
    assert kotlin("service", given) == expected


def test_one_draw_from_every_language(kotlin: Any) -> None:
    rng = np.random.default_rng(4)
    cases = [(rng.bytes(32), rng.bytes(32), rng.bytes(40), rng.bytes(48)) for _ in range(9)]
    names = ("key", "contract", "parameters", "pixels")
    given = [{name: value.hex() for name, value in zip(names, case, strict=True)} for case in cases]
    assert kotlin("draw", given) == [{"draw": draw_id(*case).hex()} for case in cases]


def test_kotlin_goes_on_with_pythons_account(kotlin: Any, tmp_path: Path) -> None:
    """One file, two languages in turn; and an older copy is noticed by the other one too."""
    first, second = ledger_events.events(7, 60), ledger_events.events(8, 60)
    path = tmp_path / "ledger"
    said, _ = ledger_events.play(path, first)
    old = path.read_bytes()
    more = kotlin("account", second, path, ledger_events.KEY.hex())
    again, _ = ledger_events.play(tmp_path / "alone", [*first, *second])
    assert [*said, *more] == again
    path.write_bytes(old)
    with pytest.raises(LogError, match="older copy"):
        Ledger(path, ledger_events.KEY).account("photos.example")
