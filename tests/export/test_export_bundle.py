"""A whole export: what is in it, that it computes what was trained, that failure leaves nothing behind."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sfumato.channels.dither import over_pixels
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import sha256
from sfumato.core.onnx_session import open_session
from sfumato.data import Split
from sfumato.export import gates, pipeline
from sfumato.export.artifact import load_export
from sfumato.export.check import CheckedModel, check_model
from sfumato.export.gates import int8_gates
from sfumato.export.measure import pictures
from sfumato.export.pipeline import Step, export
from sfumato.export.quant_finetune import Tuning, fine_tune
from sfumato.models.tensors import to_tensor
from sfumato.runtime.contract import FILE, read_contract
from sfumato.runtime.delegate_lint import graph_findings, nnapi_findings, xnnpack_partitions
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.keyed_noise import keyed_noise
from sfumato.runtime.perturb_files import describe
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import NORMAL_TABLE
from sfumato.runtime.signing import write_digests
from sfumato.runtime.test_vectors import PATTERNS
from sfumato.runtime.tflite_graph import read_graph
from sfumato.runtime.upload_codec import decode_png, unpack
from sfumato.runtime.verification import verify
from sfumato.server.model import CloudModel
from sfumato.training.run import Run

KEY = bytes(range(32))


def test_the_bundle_holds_what_the_contract_lists(sealed: Path) -> None:
    contract = read_contract(sealed)
    there = {path.relative_to(sealed).as_posix() for path in sealed.rglob("*") if path.is_file()}
    assert there == {entry.name for entry in contract.files} | {"contract.json", "contract.sha256"}
    assert {"local.onnx", "cloud.onnx", "local_int8.tflite", "vectors.json"} <= there
    assert contract.failed_gates == ()
    assert contract.file("local_int8.tflite").bytes < 65_000
    assert [entry.model_dump(exclude_none=True) for entry in contract.keep] == [
        {"name": "glasses", "classes": ("no", "yes")}
    ]


def test_no_path_of_this_machine_is_in_what_ships(sealed: Path) -> None:
    for entry in read_contract(sealed).files:
        if entry.role != "audit":
            content = (sealed / entry.name).read_bytes()
            assert str(Path.home()).encode() not in content
            assert str(Path(__file__).parents[2]).encode() not in content


@pytest.mark.parametrize("variant", ["float32", "float16", "dynamic", "int8"])
def test_every_model_is_channels_last_whole_and_named(sealed: Path, variant: str) -> None:
    content = (sealed / f"local_{variant}.tflite").read_bytes()
    graph = read_graph(content)
    assert [tensor.name for tensor in graph.inputs] == ["image"]
    assert [tensor.name for tensor in graph.outputs] == ["p"]
    assert graph.inputs[0].shape == graph.outputs[0].shape == (1, 32, 32, 3)
    assert graph_findings(graph) == []
    assert xnnpack_partitions(open_model(content)) == 1
    large = [operator.name for operator in graph.operators if operator.outputs[0].shape[1:3] == (32, 32)]
    # Others than int8 take photos, which the stem is shown centred.
    assert large == ["DEPTH_TO_SPACE"] if variant == "int8" else ["DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE"]
    if variant == "int8":
        assert nnapi_findings(graph) == []
        assert graph.inputs[0].scales == pytest.approx((8 / 255,))
        assert graph.outputs[0].scales == (1 / 256,)


def halving_kernels(content: bytes) -> set[tuple[int, ...]]:
    """Heights and widths of the kernels that halve the picture."""
    found = set()
    for operator in read_graph(content).operators:
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            x, weight = operator.inputs[:2]
            assert x is not None
            assert weight is not None
            height = operator.outputs[0].shape[1]
            if x.shape[1] == 2 * height > 2:  # not the linear layer of the decision, over 2x2 places
                found.add(weight.shape[1:3])
    return found


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_kernels_are_as_small_as_they_were_trained(sealed: Path, variant: str) -> None:
    content = (sealed / f"local_{variant}.tflite").read_bytes()
    assert not [operator.name for operator in read_graph(content).operators if "PAD" in operator.name]
    assert halving_kernels(content) == {(3, 3)}


@pytest.mark.slow
def test_a_network_that_was_trained_with_zeros_on_every_side_still_ships(
    tmp_path: Path, make_run: Callable[[str], Run]
) -> None:
    run = make_run("symmetric")
    contract = export(run, tmp_path / "export", variants=["int8"], tune="never")
    assert (contract.input.int8_scale, contract.input.int8_zero_point) == (1 / 255, -128)
    content = (tmp_path / "export" / "local_int8.tflite").read_bytes()
    assert not [operator.name for operator in read_graph(content).operators if "PAD" in operator.name]
    assert halving_kernels(content) == {(4, 4)}
    images = np.array(run.dataset.images[:4])
    gap = load_export(tmp_path / "export").parameters(images)["p"] - run.parameters(images)["p"]
    assert gap.abs().mean() < 2 / 256
    config = json.loads((tmp_path / "export" / "audit" / "config.json").read_text(encoding="utf-8"))
    assert config["padding"] == "symmetric"


def test_an_int8_model_takes_a_centred_picture_and_pays_nothing_for_it(sealed: Path) -> None:
    contract = read_contract(sealed)
    assert (contract.input.int8_scale, contract.input.int8_zero_point) == (8 / 255, 0)
    graph = read_graph((sealed / "local_int8.tflite").read_bytes())
    first = [node for node in graph.operators if graph.inputs[0].index in [x.index for x in node.inputs if x]]
    assert sorted(node.name for node in first) == ["CONV_2D", "SPACE_TO_DEPTH"]
    plain = read_graph((sealed / "local_float32.tflite").read_bytes())
    assert sum(node.name == "DEPTHWISE_CONV_2D" for node in plain.operators) > sum(
        node.name == "DEPTHWISE_CONV_2D" for node in graph.operators
    )


def test_the_shipped_bytes_are_the_trained_probabilities(sealed: Path, dither_run: Run) -> None:
    """Against the trained network itself, batch norm and all, on images it has not seen."""
    model = PhoneModel.load(sealed)
    images = np.array(dither_run.dataset.images[dither_run.dataset.splits[Split.TEST]][:20])
    wanted = dither_run.parameters(images)["p"].permute(0, 2, 3, 1).numpy()
    found = np.stack([model.parameters(image)["p"] for image in images])
    gap = np.abs(found - 256 * wanted)
    assert gap.mean() < 1.0
    assert gap.max() < 8


def test_local_onnx_equals_the_trained_network(sealed: Path, dither_run: Run) -> None:
    session = open_session(sealed / "local.onnx")
    image = np.array(dither_run.dataset.images[:1])
    (found,) = session.run(["p"], {"image": image.astype(np.float32) / 255})
    wanted = dither_run.parameters(image)["p"].permute(0, 2, 3, 1).numpy()
    assert np.abs(found - wanted).max() < 1e-5


def test_cloud_onnx_takes_any_number_of_uploads(sealed: Path, dither_run: Run) -> None:
    session = open_session(sealed / "cloud.onnx")
    uploads = torch.randint(0, 2, (5, 3, 32, 32)).float()
    (found,) = session.run(["glasses"], {"upload": uploads.numpy()})
    with torch.no_grad():
        assert np.abs(found - dither_run.cloud(uploads)["glasses"].numpy()).max() < 1e-4


def test_the_audit_sees_the_shipped_bytes(sealed: Path, dither_run: Run) -> None:
    artifact = load_export(sealed)
    assert (artifact.kind, artifact.keep, artifact.hide) == ("int8", ("glasses",), ("smiling",))
    assert artifact.clean_accuracy == {"glasses": 0.9}
    images = np.array(dither_run.dataset.images[:3])
    p = artifact.parameters(images)["p"]
    for index, image in enumerate(images):
        q = artifact.phone.parameters(image)
        assert np.array_equal(256 * p[index].permute(1, 2, 0).numpy(), q["p"])
        bits = artifact.channel.rate(p_of(p, index)).item() / math.log(2)
        assert artifact.phone.rate_bits(image, q) == pytest.approx(bits, rel=1e-4)
    upload = torch.zeros(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(artifact.cloud(upload)["glasses"], dither_run.cloud(upload)["glasses"])


def p_of(p: torch.Tensor, index: int) -> dict[str, torch.Tensor]:
    return {"p": p[index : index + 1]}


def test_an_upload_is_the_draw_that_the_definition_gives(sealed: Path, dither_run: Run) -> None:
    model = PhoneModel.load(sealed)
    image = np.array(dither_run.dataset.images[7])
    upload = model.perturb(image, key=KEY)
    q, digest = model.parameters(image)["p"], hashlib.sha256((sealed / FILE).read_bytes()).digest()
    u = keyed_noise(KEY, digest, q.tobytes(), image, 32 * 32 * 3).reshape(32, 32, 3)
    assert np.array_equal(upload.levels, (u < q).astype(np.uint8))
    assert np.array_equal(decode_png(upload.content, height=32, width=32, bits=1), upload.levels)
    assert model.perturb(image, key=KEY).content == upload.content
    assert model.perturb(image, key=bytes(32)).content != upload.content
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    differing = (model.perturb(changed, key=KEY).levels != upload.levels).mean()
    assert 0.35 < differing < 0.65  # another draw altogether, though the photo is nearly the same
    assert not np.array_equal(model.perturb(image).levels, model.perturb(image).levels)


def test_a_twelve_megapixel_photo_loses_its_metadata(
    sealed: Path,
    tmp_path: Path,
    photo: Callable[[int, int], NDArray[np.uint8]],
) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SECRETMAKER"
    exif.get_ifd(0x8825)[1] = "N"
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo(3000, 4000)).save(path, quality=92, exif=exif, comment=b"SECRETCOMMENT")
    assert b"SECRET" in path.read_bytes()
    upload = PhoneModel.load(sealed).perturb(path, key=KEY)
    assert upload.levels.shape == (32, 32, 3)
    assert b"SECRET" not in upload.content
    assert len(upload.content) < 32 * 32 * 3 // 8 + 200


def test_orientation_is_applied_before_the_model(
    sealed: Path,
    tmp_path: Path,
    photo: Callable[[int, int], NDArray[np.uint8]],
) -> None:
    """A turned file with its EXIF flag gives the upload of the upright one."""
    upright = Image.fromarray(photo(96, 96))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    model = PhoneModel.load(sealed)
    one, other = (model.perturb(tmp_path / name, key=KEY) for name in ("upright.png", "turned.png"))
    assert one.content == other.content


def test_a_wrong_picture_is_refused(sealed: Path) -> None:
    model = PhoneModel.load(sealed)
    with pytest.raises(SfumatoError, match="takes 32 x 32 RGB bytes"):
        model.parameters(np.zeros((32, 31, 3), np.uint8))
    with pytest.raises(SfumatoError, match="not a picture"):
        model.perturb(b"no picture at all", key=KEY)
    with pytest.raises(SfumatoError, match="32 bytes"):
        model.perturb(np.zeros((32, 32, 3), np.uint8), key=b"short")


def test_vectors_are_many_and_reproducible(sealed: Path) -> None:
    vectors = json.loads((sealed / "vectors.json").read_text(encoding="utf-8"))
    whole = {"key", "contract", "image_sha256", "parameters", "noise", "packed"}
    assert sum(whole <= set(case) for case in vectors["upload"]) >= 20
    for case in vectors["upload"]:
        key, contract = (bytes.fromhex(case[name]) for name in ("key", "contract"))
        given = bytes.fromhex("".join(case["parameters"].values()))
        noise = keyed_noise(key, contract, given, PATTERNS[case["pattern"]](4, 4), len(case["noise"]) // 2)
        assert noise.tobytes().hex() == case["noise"]
    case = next(case for case in vectors["dither"] if case["height"] == 16)
    q, u = (np.frombuffer(bytes.fromhex(case[name]), np.uint8) for name in ("p", "noise"))
    levels = unpack(bytes.fromhex(case["packed"]), height=16, width=16, bits=1)
    assert np.array_equal(levels.reshape(-1), u < q)


@pytest.mark.slow
@pytest.mark.usefixtures("started_converter")
def test_two_exports_are_equal_byte_for_byte(
    sealed: Path, tmp_path: Path, make_run: Callable[[str], Run]
) -> None:
    """The second one starts its converter as outside of the tests, the first one forked it. And its steps are told in order."""
    told: list[tuple[int, str]] = []
    export(make_run("dither"), tmp_path / "again", watch=lambda done, title: told.append((done, title)))
    assert told == list(enumerate(Step))
    names = {path.relative_to(sealed) for path in sealed.rglob("*") if path.is_file()}
    assert names == {
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    }
    for name in names:
        assert (sealed / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gates", "region", "window", "gray", "subsample", "gaussian", "additive"])
def test_every_channel_ships(
    name: str, tmp_path: Path, make_run: Callable[[str], Run], int8_export: Callable[[str], Path]
) -> None:
    run, out = make_run(name), int8_export(name)
    contract = read_contract(out)
    model = PhoneModel.load(out)
    images = np.array(run.dataset.images[:4])
    wanted, found = run.parameters(images), load_export(out).parameters(images)
    assert set(wanted) == set(found)
    height, width = contract.upload_size
    clear = torch.ones(4, 1, height, width)
    if run.local.gates is not None:  # near the edge of a step a block may be open in one of both
        clear = over_pixels((run.local.gate_margin(to_tensor(images)) > 0.5).float())
    for key, value in wanted.items():
        unit = next((t.unit for t in contract.outputs if t.name == key), 1.0)
        assert ((value - found[key]).abs() * clear).mean() < 2 / 256 * unit
    upload = model.perturb(images[0], key=KEY)
    bits = contract.channel.bits
    assert (height, width) == ((16, 16) if name == "subsample" else (32, 32))
    assert np.array_equal(decode_png(upload.content, height=height, width=width, bits=bits), upload.levels)
    shown = pictures([upload.levels], run.channel)
    (served,) = CloudModel.load(out).predict([upload.levels])
    with torch.no_grad():
        logits = run.cloud(shown)["glasses"] / contract.figures["temperature"]["glasses"]
    assert list(served["glasses"].probabilities.values()) == pytest.approx(
        logits.softmax(1)[0].tolist(), abs=1e-4
    )
    buffer = images[0].copy()
    early = model.perturb(buffer, key=KEY)
    buffer[:] = 0
    assert early.rate_bits == upload.rate_bits, "the buffer was filled again before the rate was asked for"
    assert contract.figures["rate_bits"]["mean"]["int8"] == pytest.approx(
        contract.figures["rate_bits"]["mean"]["float"], rel=0.15
    )
    assert verify(out).passed
    if contract.channel.gates:
        odds, margin = run.local.gate_odds(to_tensor(images)), run.local.gate_margin(to_tensor(images))
        shut = over_pixels(((odds < 0) & (margin > 1)).float()).bool().expand_as(found["p"])
        assert 0.1 < shut.float().mean() < 0.9
        assert not found["p"][shut].any(), "a closed block is zero to the bit"
        packed = contract.figures["upload_bytes"]["packed"]
        assert contract.figures["upload_bytes"]["png"] < packed
    if contract.channel.name == "gaussian":
        forged = Path(shutil.copytree(out, tmp_path / "forged"))
        forge(forged, NORMAL_TABLE, lambda content: bytes(2) + content[2:])
        (failed,) = verify(forged).failed
        assert failed.detail == "normal_table.bin is not the table of the sampler"


def forge(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file and mend its hash and the contract's digest, as a forger would."""
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    for entry in values["files"]:
        if entry["name"] == name:
            entry["sha256"] = sha256(folder / name)
    (folder / FILE).write_text(json.dumps(values))
    write_digests(folder)


def test_a_failed_gate_leaves_nothing_behind(
    dither_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "SIZE_LIMIT", 40_000)
    with pytest.raises(SfumatoError, match=r"int8: bytes is \d+, allowed is 40000"):
        export(dither_run, tmp_path / "out" / "export", variants=["int8"], tune="never")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_already_there_is_respected(dither_run: Run, bundle: Path, tmp_path: Path) -> None:
    before = (bundle / "contract.json").read_bytes()
    with pytest.raises(SfumatoError, match="already holds an export"):
        export(dither_run, bundle)
    assert (bundle / "contract.json").read_bytes() == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(SfumatoError, match="not empty"):
        export(dither_run, other, overwrite=True)
    with pytest.raises(UsageError, match="unknown variant 'int4'"):
        export(dither_run, tmp_path / "new", variants=["int4"])
    with pytest.raises(UsageError, match="no variant was chosen: known are float32, float16, dynamic, int8"):
        export(dither_run, tmp_path / "new", variants=[])
    with pytest.raises(UsageError, match="unknown tune 'often': known are auto, never, always"):
        export(dither_run, tmp_path / "new", tune="often")  # type: ignore[arg-type]


def test_a_network_in_training_mode_is_refused(tmp_path: Path, make_run: Callable[[str], Run]) -> None:
    run = make_run("dither")
    run.local.train()
    with pytest.raises(SfumatoError, match="training mode"):
        export(run, tmp_path / "out")
    run.local.eval()
    with torch.no_grad():
        next(run.local.parameters()).fill_(float("nan"))
    with pytest.raises(SfumatoError, match="not finite"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_fine_tuning_on_request_keeps_the_better_of_both(
    tmp_path: Path, make_run: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever wins, the bundle is whole and says which it is; the float figures stay those of the trained network."""
    run = make_run("dither")
    monkeypatch.setattr(pipeline, "fine_tune", partial(fine_tune, tuning=Tuning(steps=30)))
    contract = export(run, tmp_path / "out", variants=["int8"], tune="always")
    assert contract.conversion["quantization"] in ("fine-tuned", "post-training")
    assert verify(tmp_path / "out").passed
    test = np.array(run.dataset.images[run.dataset.splits[Split.TEST]])
    bits = run.channel.rate(run.parameters(test)).mean().item() / math.log(2)
    rate = contract.figures["rate_bits"]["mean"]
    assert rate["float"] == pytest.approx(bits, rel=1e-3)
    assert rate["int8"] == pytest.approx(bits, rel=0.05)


def spread_weights(run: Run) -> None:
    """Let one weight of each row be forty times the others, on a feature that is always 0: the others lose their bits.

    One step of such a row is a third of a logit. The function of the float network stays what it was.
    """
    local: Any = run.local
    with torch.no_grad():
        for last in (local.encoder.down[0][-1].pointwise, local.up[0]):
            norm = last[1]
            norm.weight[0] = norm.bias[0] = norm.running_mean[0] = 0
        weight = local.heads["offset"].weight
        weight[:, 0] = 40


@pytest.mark.slow
def test_where_rounding_alone_fails_the_network_is_fine_tuned_without_being_asked(
    tmp_path: Path, make_run: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounded as it is, this network would be refused; what ships holds every gate and moves the rate by less than 5 %."""
    run, seen = make_run("dither4"), list[CheckedModel]()
    spread_weights(run)
    with torch.no_grad():  # a cloud network that never learned guesses, and a guess turns over by a rounding
        run.cloud.heads["glasses"].bias.copy_(torch.tensor([20.0, 0.0]))  # type: ignore[union-attr, index]
    check = check_model

    def look(*given: Any, **named: Any) -> CheckedModel:
        model = check(*given, **named)
        seen.extend([model] if model.figures else [])
        return model

    monkeypatch.setattr(pipeline, "check_model", look)
    monkeypatch.setattr(
        pipeline, "fine_tune", partial(fine_tune, tuning=Tuning(steps=240, learning_rate=1e-3))
    )
    contract = export(run, tmp_path / "out", variants=["float32", "int8"])
    plain, tuned = seen
    figures = plain.figures
    assert figures is not None
    assert tuned.tuned
    assert pipeline.movement(figures) > 2
    assert "int8: mean difference, 1/256" in [gate.name for gate in int8_gates(plain) if not gate.passed]
    assert contract.conversion["quantization"] == "fine-tuned"
    assert contract.failed_gates == ()
    rate = contract.figures["rate_bits"]["mean"]
    assert rate["float"] == pytest.approx(figures.rate_bits["mean"].trained, abs=1e-5)
    assert rate["int8"] == pytest.approx(rate["float"], rel=pipeline.RATE_MOVEMENT)
    assert verify(tmp_path / "out").passed


def test_a_bundle_knows_ordinary_photos_and_its_own_confidence(sealed: Path, dither_run: Run) -> None:
    """A wall is flagged on the phone, and nothing of it stands in the upload's files; probabilities follow the temperature."""
    phone, cloud = PhoneModel.load(sealed), CloudModel.load(sealed)
    wall = np.full((32, 32, 3), 120, np.uint8)
    face = np.array(dither_run.dataset.images[dither_run.dataset.splits[Split.VALIDATION][0]])
    flagged = phone.perturb(wall)
    assert (flagged.unlike, phone.perturb(face).unlike, phone.unlike(wall)) == (True, False, True)
    assert not any("unlike" in key for key in describe(phone.contract, "", flagged))
    (temperature,) = cloud.temperatures
    assert temperature == phone.contract.figures["temperature"]["glasses"]
    (logits,) = cloud.run(flagged.levels.transpose(2, 0, 1)[None].astype(np.float32))
    wanted = np.exp(logits[0] / temperature) / np.exp(logits[0] / temperature).sum()
    assert list(cloud.predict([flagged.levels])[0]["glasses"].probabilities.values()) == pytest.approx(
        wanted, abs=1e-5
    )
    before = phone.contract.model_copy(update={"figures": {}})
    assert replace(phone, contract=before).perturb(wall).unlike is None
