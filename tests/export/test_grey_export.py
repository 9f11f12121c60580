"""Pictures of one plane from the data to the phone, the service and the page; in colour the same code has three."""

import io
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.server.test_page_modules import PHONE, node, parse

from sfumato.bench.arm.counting import drawing_of
from sfumato.bench.stages import stage_calls
from sfumato.core.errors import DataError, SfumatoError, UsageError
from sfumato.core.image_io import fit, read_rgb, to_grey
from sfumato.data import open_dataset
from sfumato.export.pipeline import export
from sfumato.runtime.contract import parse_contract, read_contract
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.test_vectors import check_vectors
from sfumato.runtime.upload_codec import decode_png, unpack
from sfumato.runtime.verification import verify
from sfumato.server.formats import PACKED, PNG, upload_bytes
from sfumato.server.model import CloudModel
from sfumato.server.photo_check import check_uploads
from sfumato.server.problems import ProblemError
from sfumato.server.uploads import decode
from sfumato.training.run import Run

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def shipped(int8_export: Callable[[str], Path]) -> Path:
    """Four levels, 32x32, one plane. It must not be changed."""
    return int8_export("grey")


@pytest.fixture(scope="module")
def phone(shipped: Path) -> PhoneModel:
    return PhoneModel.load(shipped)


@pytest.fixture(scope="module")
def run(make_run: Callable[[str], Run]) -> Run:
    return make_run("grey")


def test_benchmarks_take_it(phone: PhoneModel) -> None:
    for call in stage_calls(phone).values():
        call()
    said: list[str] = []
    assert drawing_of(phone, said.append) is None
    assert said[0].startswith("uploads of this export are grey")


def test_the_data_are_the_brightness_of_the_colours(run: Run) -> None:
    colours = open_dataset("synthetic,count=800,size=32")
    assert run.dataset.images.shape == (800, 32, 32, 1)
    weights = np.array([19_595, 38_470, 7_471]) / 65_536
    slow = np.floor(colours.images[:50].astype(float) @ weights + 0.5)
    np.testing.assert_array_equal(run.dataset.images[:50, :, :, 0], slow)
    assert run.dataset.id != colours.id
    assert "planes=1" in run.dataset.spec.split(",")
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    assert to_grey(every)[:, 0].tolist() == list(range(256))  # grey stays as it is


def test_a_spec_has_one_plane_or_three() -> None:
    with pytest.raises(DataError, match=r"1 \(grey\) or 3 \(colour\)"):
        open_dataset("synthetic,count=800,size=32,planes=2")


def test_networks_channel_and_contract_have_one_plane(run: Run, shipped: Path) -> None:
    assert run.channel.settings == {"levels": 4, "colours": 1}
    stem = next(part for part in run.local.encoder.modules() if isinstance(part, torch.nn.Conv2d))
    assert stem.in_channels == 1
    contract = read_contract(shipped)
    assert (contract.planes, contract.input.shape, contract.outputs[0].shape) == (
        1,
        (1, 32, 32, 1),
        (1, 32, 32, 2),
    )
    assert (contract.channel.colours, contract.upload.colour) == (1, "grey")
    assert (contract.upload.width, contract.upload.height) == (32, 32)
    assert upload_bytes(contract, PACKED) == 32 * 32 * 2 // 8
    assert verify(shipped).passed


def photo(rng: np.random.Generator, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).resize((140, 100)).save(stream, form)
    return stream.getvalue()


def test_a_colour_photo_a_grey_copy_and_an_array_are_one_upload(phone: PhoneModel) -> None:
    for content in (photo(np.random.default_rng(0)), photo(np.random.default_rng(1), "JPEG")):
        pixels = to_grey(fit(read_rgb(content), 32, 32))
        upload = phone.perturb(content, key=KEY)
        assert upload.content == phone.perturb(pixels, key=KEY).content
        copy = io.BytesIO()
        Image.fromarray(pixels[:, :, 0]).save(copy, "PNG")
        assert upload.content == phone.perturb(copy.getvalue(), key=KEY).content
        assert upload.levels.shape == (32, 32, 1)
        assert np.array_equal(
            decode_png(upload.content, height=32, width=32, bits=2, colours=1), upload.levels
        )
    with pytest.raises(SfumatoError, match="32 x 32 grey bytes"):
        phone.perturb(np.zeros((32, 32, 3), np.uint8), key=KEY)


def test_the_rate_is_that_of_the_bits_of_one_plane(phone: PhoneModel) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (32, 32, 1), dtype=np.uint8)
    q = phone.parameters(pixels)["p"]
    assert q.shape == (32, 32, 2)
    p = q.astype(float).ravel() / 256
    slow = sum(1 + sum(x * math.log2(x) for x in (value, 1 - value) if x > 0) for value in p.tolist())
    assert phone.perturb(pixels, key=KEY).rate_bits == pytest.approx(slow)


def test_the_service_reads_what_the_phone_sends_and_nothing_of_three_planes(
    run: Run, shipped: Path, phone: PhoneModel
) -> None:
    model = CloudModel.load(shipped)
    for image in run.dataset.images[:6]:
        upload = phone.perturb(np.array(image), key=KEY)
        levels = decode(upload.content, PNG, phone.contract)
        assert np.array_equal(levels, upload.levels)
        seen = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 3
        with torch.no_grad():
            wanted = run.cloud(seen)["glasses"].argmax().item()
        (found,) = model.predict([levels])
        assert found["glasses"].label == phone.contract.keep[0].classes[int(wanted)]
    tall = np.zeros((32, 32, 3), np.uint8)
    from sfumato.runtime.upload_codec import encode_png, pack

    for content, kind in ((encode_png(tall, bits=2), PNG), (pack(tall, bits=2), PACKED)):
        with pytest.raises(ProblemError):
            decode(content, kind, phone.contract)
    assert np.array_equal(unpack(pack(levels, bits=2), height=32, width=32, bits=2, colours=1), levels)


def test_a_photo_of_one_plane_that_nobody_perturbed_is_found(phone: PhoneModel) -> None:
    y, x = np.mgrid[0:32, 0:32]
    smooth: NDArray[np.uint8] = ((x + y) // 16 % 4).astype(np.uint8)[:, :, None]
    drawn = phone.perturb(np.full((32, 32, 1), 90, np.uint8), key=KEY).levels
    contract = phone.contract.model_copy(update={"figures": {"rate_bits": {"max": {"int8": 1.0}}}})
    found = [one.passed for one in check_uploads([smooth], contract)]
    assert found == [False]
    assert check_uploads([drawn], phone.contract)[0].passed


def test_vectors_hold_in_python_and_on_the_page(shipped: Path, phone: PhoneModel, tmp_path: Path) -> None:
    vectors = json.loads((shipped / "vectors.json").read_text(encoding="utf-8"))
    assert all(case["colours"] == 1 for case in vectors["dither"])
    assert check_vectors(vectors, phone) == []
    done = node("check", shipped / "vectors.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    vectors["dither"][1]["levels"] = "00" + vectors["dither"][2]["levels"][2:]
    (tmp_path / "wrong.json").write_text(json.dumps(vectors))
    assert node("check", tmp_path / "wrong.json").returncode == 1


def test_the_page_s_phone_sends_the_upload_that_python_draws(shipped: Path, phone: PhoneModel) -> None:
    command = ["node", "--input-type=module", "-e", PHONE, str(shipped), KEY.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    upload = phone.perturb(np.zeros((32, 32, 1), np.uint8), key=KEY)
    assert found["levels"] == upload.levels.tobytes().hex()
    assert found["rate"] == pytest.approx(upload.rate_bits, abs=1e-6)


WRONG: dict[str, Callable[[dict[str, dict[str, object]]], object]] = {
    "colour to the network": lambda v: v["input"].update(shape=[1, 32, 32, 3]),
    "two planes": lambda v: v["input"].update(shape=[1, 32, 32, 2]),
    "three colours of the channel": lambda v: v["channel"].pop("colours"),
    "two colours": lambda v: v["channel"].update(colours=2),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_contract_whose_planes_differ_is_refused_here_and_by_the_page(shipped: Path, name: str) -> None:
    text = (shipped / "contract.json").read_text(encoding="utf-8")
    assert parse([json.loads(text)]) == ["picture"]
    values = json.loads(text)
    WRONG[name](values)
    with pytest.raises(SfumatoError):
        parse_contract(json.dumps(values).encode())
    assert parse([values]) != ["picture"]


def test_an_upload_of_another_form_than_the_channel_s_is_refused(shipped: Path) -> None:
    for change in ({"height": 96}, {"colour": "grey, planes red, green, blue one below the other"}):
        values = json.loads((shipped / "contract.json").read_text(encoding="utf-8"))
        values["upload"].update(change)
        with pytest.raises(SfumatoError, match="upload's"):
            parse_contract(json.dumps(values).encode())


def test_what_takes_colour_alone_says_so(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="entries in colour alone"):
        export(run, tmp_path / "index", encoding="index")
    assert not (tmp_path / "index").exists()
    from sfumato.training.config import TrainConfig
    from sfumato.training.run import make_channel

    config = TrainConfig(data=run.config.data, keep=("glasses",), channel="gaussian")
    with pytest.raises(UsageError, match="gaussian takes colour pictures alone"):
        make_channel(config, run.dataset)
