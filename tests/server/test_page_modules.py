"""The page's modules under node: noise and sampler as Python computes them, and types that hold."""

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures import dial, familiar, index_code, sounds
from tests.fixtures.answer import answered, random_answer
from tests.runtime import test_contract, test_index_code

from sfumato.audit.plots import noise_maps
from sfumato.channels.dither import Dither
from sfumato.export.parity import channel_parameters
from sfumato.runtime.exact_rate import block_rate, dither_rate
from sfumato.runtime.keyed_noise import keyed_noise
from sfumato.runtime.masks import to_runs
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import dither, gaussian, normal_table
from sfumato.runtime.upload_codec import pack

ROOT = Path(__file__).resolve().parents[2]
TSC = ROOT / "cloud" / "node_modules" / ".bin" / "tsc"
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")


def node(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    command = ["node", str(ROOT / "cloud" / "vectors_cli.js"), *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "normal_table.bin"
    path.write_bytes(normal_table().astype("<i2").tobytes())
    return path


def test_every_vector_holds(bundle: Path, table: Path) -> None:
    done = node("check", bundle / "vectors.json", table)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_vector_of_a_bundle_with_points_holds(dial_export: Path, table: Path) -> None:
    done = node("check", dial_export / "vectors.json", table)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_vector_of_a_bundle_with_a_book_holds(index_export: Path, tmp_path: Path) -> None:
    done = node("check", index_export / "vectors.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    vectors = json.loads((index_export / "vectors.json").read_text(encoding="utf-8"))
    vectors["index"][3]["rate_bits"] += 0.01
    (tmp_path / "wrong.json").write_text(json.dumps(vectors))
    done = node("check", tmp_path / "wrong.json")
    assert (done.returncode, done.stdout) == (1, "index, case 3: differs\n")


def test_every_vector_of_a_bundle_that_takes_recordings_holds(sound_export: Path, tmp_path: Path) -> None:
    done = node("check", sound_export / "vectors.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    vectors = json.loads((sound_export / "vectors.json").read_text(encoding="utf-8"))
    vectors["sound"][4]["picture"] = vectors["sound"][4]["picture"].replace("A", "B", 1)
    (tmp_path / "wrong.json").write_text(json.dumps(vectors))
    done = node("check", tmp_path / "wrong.json")
    assert (done.returncode, done.stdout) == (1, "sound, case 4: differs\n")


def test_recordings_become_the_pictures_that_python_computes() -> None:
    """Not a byte differs, at every rate, and every file that Python refuses is refused."""
    cases = sounds.cases([*sounds.recordings(24), *sounds.REFUSED])
    done = node("sound", given=sounds.lines(cases))
    assert done.returncode == 0, done.stderr
    sounds.compare([json.loads(line) for line in done.stdout.splitlines()], cases)


def test_real_recordings_become_the_same_pictures(shared_data: Path) -> None:
    """`python -m studies.sound_alike FOLDER` compares all of them."""
    folder = shared_data / "spoken_digits" / "recordings"
    if not folder.is_dir():
        pytest.skip("no spoken_digits")
    cases = sounds.cases(sorted(folder.glob("*.wav"))[::100])
    done = node("sound", given=sounds.lines(cases))
    sounds.compare([json.loads(line) for line in done.stdout.splitlines()], cases)


def test_indices_are_drawn_as_python_does() -> None:
    given, expected = index_code.cases(60)
    done = node("index", given="".join(json.dumps(case) + "\n" for case in given))
    assert done.returncode == 0, done.stderr
    index_code.compare([json.loads(line) for line in done.stdout.splitlines()], expected)


PHONE = """
import {readFileSync} from "node:fs";
import {fromBase64, fromHex, importKey, openPhone, perturb, toHex, travelling} from "CORE";
const [folder, secret] = process.argv.slice(1), read = async (name) => readFileSync(`${folder}/${name}`);
const vectors = JSON.parse(await read("vectors.json"));
let asked = 0;  // the network stands in: the stored bytes of each picture in turn, then those of the first
const run = async () => ({p: fromBase64(vectors.model[asked++ % vectors.model.length].parameters.p)});
const phone = await openPhone(read, async () => ({run}));
const [, height, width] = phone.contract.input.shape;
const found = await perturb(phone, await importKey(fromHex(secret)), new Uint8Array(3 * height * width));
const {content, type} = travelling(phone, found, false);
console.log(JSON.stringify({content: toHex(content), type, levels: toHex(found.levels), rate: found.rate}));
""".replace("CORE", str(ROOT / "cloud" / "core.js"))


def test_the_page_s_phone_sends_the_index_that_python_draws(index_export: Path) -> None:
    model, secret = PhoneModel.load(index_export), bytes(range(32))
    command = ["node", "--input-type=module", "-e", PHONE, str(index_export), secret.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    upload = model.perturb(np.zeros((*model.contract.size, 3), np.uint8), key=secret)
    assert (found["content"], found["type"]) == (upload.content.hex(), "application/vnd.sfumato.index")
    assert found["levels"] == upload.levels.tobytes().hex()
    assert found["rate"] == pytest.approx(upload.rate_bits, abs=1e-6)


def test_a_byte_of_another_strength_is_found(dial_export: Path, tmp_path: Path) -> None:
    vectors = json.loads((dial_export / "vectors.json").read_text(encoding="utf-8"))
    text = vectors["points"][1]["bytes"]
    vectors["points"][1]["bytes"] = f"{text[:-2]}00"
    (tmp_path / "wrong.json").write_text(json.dumps(vectors))
    done = node("check", tmp_path / "wrong.json")
    assert (done.returncode, done.stdout) == (1, "points, case 1: differs\n")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("noise", "iv"),
        ("noise", "noise"),
        ("dither", "packed"),
        ("gaussian", "levels"),
        ("upload", "packed"),
        ("answer", "packed"),
    ],
)
def test_a_wrong_vector_is_found(bundle: Path, table: Path, tmp_path: Path, part: str, name: str) -> None:
    vectors = json.loads((bundle / "vectors.json").read_text(encoding="utf-8"))
    text = vectors[part][1][name]
    vectors[part][1][name] = text[:-1] + ("0" if text[-1] != "0" else "1")
    (tmp_path / "wrong.json").write_text(json.dumps(vectors))
    done = node("check", tmp_path / "wrong.json", table)
    assert (done.returncode, done.stdout) == (1, f"{part}, case 1: differs\n")


def draw(random: np.random.Generator) -> tuple[dict[str, Any], dict[str, str]]:
    """A random case of a random channel, and Python's answer."""
    key = random.bytes(32)
    height, width = (int(side) for side in random.integers(1, 9, 2))
    bits = int(random.choice([0, 1, 2, 4]))
    side = int(random.choice([1, 2, 4])) if bits else 1
    pixels = random.integers(0, 256, (side * height, side * width, 3), dtype=np.uint8)
    contract = random.bytes(32)
    case: dict[str, Any] = {"key": key.hex(), "contract": contract.hex(), "pixels": pixels.tobytes().hex()}
    if bits:
        q = random.integers(0, 256, (height, width, 3 * bits), dtype=np.uint8)
        noise = keyed_noise(key, contract, q.tobytes(), pixels, q.size)
        gray = bool(random.integers(2))
        case |= {"bits": bits, "gray": gray, "subsample": side, "parameters": {"p": q.tobytes().hex()}}
        levels = dither(q, noise, bits=bits, gray=gray)
    else:
        additive, largest = bool(random.integers(2)), float(random.integers(1, 257)) / 16
        mean, scale = random.integers(0, 256, (2, *pixels.shape), dtype=np.uint8)
        given = {"scale": scale} if additive else {"mean": mean, "scale": scale}
        q_bytes = b"".join(value.tobytes() for value in given.values())
        noise = keyed_noise(key, contract, q_bytes, pixels, 2 * pixels.size)
        case |= {"additive": additive, "largest_scale": largest}
        case["parameters"] = {name: value.tobytes().hex() for name, value in given.items()}
        levels = gaussian(
            pixels if additive else mean, scale, noise, largest_scale=largest, additive=additive
        )
    return case, {"noise": noise.tobytes().hex(), "packed": pack(levels, bits=bits or 8).hex()}


def test_random_uploads_are_those_of_python(table: Path) -> None:
    random = np.random.default_rng(5)
    cases = [draw(random) for _ in range(200)]
    done = node("upload", table, given="\n".join(json.dumps(case) for case, _ in cases))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [answer for _, answer in cases]


def test_random_uploads_of_any_strength_are_those_of_python() -> None:
    cases, expected = dial.cases(7)
    assert {case["gates"] for case in cases} == {True, False}
    done = node("upload", given="\n".join(map(json.dumps, cases)))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


def test_random_answers_are_those_of_python() -> None:
    random = np.random.default_rng(6)
    cases = [random_answer(random) for _ in range(300)]
    done = node("answer", given="\n".join(json.dumps(case) for case in cases))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [answered(case) for case in cases]


def test_photos_are_as_unlike_as_in_python() -> None:
    cases, expected = familiar.cases()
    assert {True, False, None} == {one["unlike"] for one in expected if "unlike" in one}
    assert sum("refusal" in one for one in expected) == len(familiar.damaged())
    done = node("familiar", given="\n".join(map(json.dumps, cases)))
    assert done.returncode == 0, done.stderr
    familiar.compare([json.loads(line) for line in done.stdout.splitlines()], expected)


RATES = """
import {readFileSync} from "node:fs";
import {noiseMap} from "PAGE/paint.js";
import {rateOf} from "PAGE/sampler.js";
for (const line of readFileSync(0, "utf8").split("\\n").filter(Boolean)) {
  const {channel, p, height, width} = JSON.parse(line), parameters = {p: Uint8Array.from(p)};
  console.log(JSON.stringify([rateOf(channel, parameters, height, width), Array.from(noiseMap(channel, parameters))]));
}
""".replace("PAGE", str(ROOT / "cloud" / "sfumato" / "server" / "web"))


@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("gray", [False, True])
def test_rates_and_maps_are_those_of_python_with_and_without_gates(levels: int, gray: bool) -> None:
    channel, without = Dither(levels, gates=True, gray=gray), Dither(levels, gray=gray)
    q = np.random.default_rng(levels).integers(0, 256, (16, 24, channel.outputs["p"]), dtype=np.uint8)
    q[:8, 8:16] = 0
    q[8:, :8] = 0
    q[9, 3, 1] = 1  # one byte opens its block
    q[:4, :4] = 255
    case = {"p": q.flatten().tolist(), "height": 16, "width": 24}
    cases = [{**case, "channel": {"name": "dither", **one.settings}} for one in (channel, without)]
    command = ["node", "--input-type=module", "-e", RATES]
    given = "\n".join(map(json.dumps, cases))
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=60)
    parameters = channel_parameters(channel, {"p": q[None]}, np.zeros((1, 16, 24, 3), np.uint8))
    for line, nats, one in zip(
        done.stdout.splitlines(),
        (block_rate(q, gray=gray), dither_rate(q, gray=gray)),
        (channel, without),
        strict=True,
    ):
        bits, pixels = json.loads(line)
        assert bits == pytest.approx(nats / math.log(2), rel=1e-9)
        assert pixels == pytest.approx(noise_maps(one, parameters).flatten().tolist(), abs=1e-9)


MASKS = """
import {readFileSync} from "node:fs";
import {cellsOf, overlaid} from "PAGE/mask.js";
for (const line of readFileSync(0, "utf8").split("\\n").filter(Boolean)) {
  const {runs, grid, classes, pixels, size} = JSON.parse(line), cells = cellsOf(runs, grid, classes);
  const shown = cells && size ? Array.from(overlaid(Uint8Array.from(pixels), ...size, cells, grid)) : null;
  console.log(JSON.stringify([cells && Array.from(cells), shown]));
}
""".replace("PAGE", str(ROOT / "cloud" / "sfumato" / "server" / "web"))


def test_masks_are_read_as_in_python_and_laid_over_the_photo() -> None:
    rng = np.random.default_rng(5)
    cells, pixels = rng.integers(0, 3, (2, 4)), rng.integers(0, 256, (4, 8, 3))
    case: dict[str, Any] = {"grid": [2, 4], "classes": 3, "pixels": pixels.ravel().tolist()}
    grey = pixels[..., :1]
    cases = [
        {**case, "runs": to_runs(cells), "size": [4, 8]},
        {**case, "runs": to_runs(cells), "size": [4, 8], "pixels": grey.ravel().tolist()},
    ]
    wrong = [[0, 7], [0, 9], [0, 8, 1], [3, 8], [-1, 8], [0, 0, 0, 8], [0, 4.5, 1, 3.5], "0", None]
    cases += [{**case, "runs": runs} for runs in wrong]
    command, given = ["node", "--input-type=module", "-e", MASKS], "\n".join(map(json.dumps, cases))
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=60)
    (found, shown), (_, shown_grey), *refused = map(json.loads, done.stdout.splitlines())
    assert found == cells.ravel().tolist()
    assert refused == [[None, None]] * len(wrong)
    colours, fine = np.array([[0, 0, 0], [230, 60, 40], [40, 120, 230]]), cells.repeat(2, 0).repeat(2, 1)
    for photo, drawn in ((pixels, shown), (grey.repeat(3, 2), shown_grey)):
        expected = np.where(fine[..., None] == 0, photo, (photo + colours[fine]) // 2)
        assert drawn == expected.ravel().tolist()


def test_contracts_with_masks_are_read_and_checked() -> None:
    good = test_contract.picture()
    good["keep"][0]["grid"] = [4, 4]
    edits: list[dict[str, Any]] = [
        {"grid": [4]},
        {"grid": [0, 4]},
        {"grid": [300, 300]},
        {"grid": [4, 4], "values": [1, 2]},
    ]
    wrong = [{**good, "keep": [{**good["keep"][0], **edit}]} for edit in edits]
    word = test_contract.answer()
    word["keep"][0]["grid"] = [4, 4]
    refusal = f"this page does not know the mask {good['keep'][0]['name']}"
    word_refusal = f"this page does not know the mask {word['keep'][0]['name']}"
    assert parse([good, *wrong, word]) == ["picture", *[refusal] * len(wrong), word_refusal]


PARSE = """
import {readFileSync} from "node:fs";
import {parseContract} from "PAGE/contract.js";
for (const line of readFileSync(0, "utf8").split("\\n").filter(Boolean)) {
  try { console.log(parseContract(line).mode); } catch (error) { console.log(error.message); }
}
""".replace("PAGE", str(ROOT / "cloud" / "sfumato" / "server" / "web"))


def parse(contracts: list[dict[str, Any]]) -> list[str]:
    """What the page says to each: its mode, or why it is refused."""
    command, given = ["node", "--input-type=module", "-e", PARSE], "\n".join(map(json.dumps, contracts))
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_the_page_reads_both_modes_and_refuses_what_python_refuses(bundle: Path) -> None:
    picture = json.loads((bundle / "contract.json").read_text(encoding="utf-8"))
    assert parse([picture, test_contract.answer()]) == ["picture", "answer"]
    assert parse([picture | {"schema": "sfumato-contract/3"}]) == [
        "the contract's schema is sfumato-contract/3, this page knows sfumato-contract/2"
    ]
    (told,) = parse([picture | {"schema": "sfumato-contract/1", "noise": 1}])
    assert "its noise (version 1) repeats between releases" in told
    names = [
        "mode",
        "no answer",
        "channel",
        "levels",
        "encoding",
        "scores",
        "words",
        "image code",
        "margins",
        "equal margins",
    ]
    names += [
        "no margin",
        "margins alone",
        "more margins",
        "unlisted table",
        "table of another size",
        "scale",
    ]
    changed = []
    for name in names:
        changed.append(test_contract.answer())
        test_contract.EDITS[name][0](changed[-1])
    answers = dict(zip(names, parse(changed), strict=True))
    assert [name for name, told in answers.items() if told in ("picture", "answer")] == []


def test_the_page_reads_points_and_refuses_what_python_refuses(dial_export: Path) -> None:
    shipped = json.loads((dial_export / "contract.json").read_text(encoding="utf-8"))
    assert parse([shipped, test_contract.picture(), shipped | {"points": None}]) == ["picture"] * 3
    changed = []
    for name in ("no point", "weaker first", "equal points", "rising points", "strength 0", "strength 129"):
        changed.append(test_contract.picture())
        test_contract.POINTS[name][0](changed[-1])
    assert set(parse(changed)) == {"the contract's points do not descend from strength 128"}
    changed = []
    for name in ("another attribute", "accuracy", "no rate"):
        changed.append(test_contract.picture())
        test_contract.POINTS[name][0](changed[-1])
    assert set(parse(changed)) == {"a point of the contract does not say what was measured there"}
    gaussian, half = test_contract.picture(), test_contract.picture()
    test_contract.POINTS["gaussian"][0](gaussian)
    test_contract.POINTS["half a strength"][0](half)
    assert parse([gaussian, half, test_contract.answer() | {"points": shipped["points"]}]) == [
        "points belong to the channel dither, not gaussian",
        "the contract's points do not descend from strength 128",
        "points belong to the channel dither, not answer",
    ]


def test_the_page_reads_a_book_and_refuses_what_python_refuses(index_export: Path) -> None:
    text = (index_export / "contract.json").read_text(encoding="utf-8")
    assert parse([json.loads(text)]) == ["picture"]
    changed = []
    for edit in test_index_code.WRONG.values():
        changed.append(json.loads(text))
        edit(changed[-1])
    assert "picture" not in parse(changed)


def test_the_page_takes_both_meanings_of_a_pixel_s_byte_and_no_other() -> None:
    told = []
    for scale, zero in ((1 / 255, -128), (8 / 255, 0), (1 / 255, 0), (8 / 255, -128), (4 / 255, 0)):
        told.append(test_contract.picture())
        told[-1]["input"].update(int8_scale=scale, int8_zero_point=zero)
    refused = "the contract's scales are not those that this page computes with"
    assert parse(told) == ["picture", "picture", refused, refused, refused]


def test_the_page_reads_smaller_uploads_and_refuses_what_python_refuses() -> None:
    assert parse([test_contract.subsampled()]) == ["picture"]
    changed = []
    names = ("side of 3", "side of 1", "half a side", "other side", "no side", "with gates", "half a square")
    for name in (*names, "large output"):
        changed.append(test_contract.subsampled())
        test_contract.SUBSAMPLED[name][0](changed[-1])
    told = parse(changed)
    assert "picture" not in told, told


@pytest.mark.skipif(not TSC.exists(), reason="the page was not built: install node and npm, then make setup")
def test_the_types_hold() -> None:
    done = subprocess.run([TSC, "-p", ROOT / "cloud"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
