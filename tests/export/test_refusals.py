"""Every step of an export refuses what the next one could not rely on: each refusal is provoked on real parts."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sfumato.core.errors import SfumatoError
from sfumato.export.bundle import (
    AUDIT_FILES,
    check_answers,
    check_bundle,
    describe,
    list_files,
    write_contract,
)
from sfumato.export.check import check_model
from sfumato.export.freeze import PhoneNetwork, check_outputs, fold, freeze, freeze_network
from sfumato.export.gates import export_gates, require_passed
from sfumato.export.onnx_files import check_onnx, run_checker
from sfumato.export.parity import parity_images
from sfumato.export.pipeline import Step, calibration_images
from sfumato.export.tflite import check_names, convert, name_tensors, read_variants
from sfumato.runtime.contract import VARIANTS, Gate, read_contract
from sfumato.runtime.signing import write_digests
from sfumato.training.run import Run

ROOT = Path(__file__).resolve().parents[2]
SIZE = (32, 32)


@pytest.fixture
def network(dither_run: Run) -> PhoneNetwork:
    return freeze_network(dither_run.local, SIZE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(make_run: Callable[[str], Run], value: float) -> None:
    local = make_run("dither").local
    with torch.no_grad():
        next(local.parameters()).fill_(value)
    with pytest.raises(SfumatoError, match="holds values that are not finite"):
        freeze_network(local, SIZE)


def test_the_frozen_network_has_no_gradients_and_the_original_keeps_its_own(dither_run: Run) -> None:
    frozen = freeze(dither_run.local)
    assert not any(value.requires_grad for value in frozen.parameters())
    assert any(value.requires_grad for value in dither_run.local.parameters())
    assert not frozen.training


def test_batch_norm_that_cannot_be_folded_is_refused(dither_run: Run) -> None:
    local = freeze(dither_run.local)
    local.encoder.stem.append(nn.BatchNorm2d(16).eval())
    with pytest.raises(SfumatoError, match="batch norm without a convolution before it cannot ship"):
        fold(local)


def test_folding_that_changes_the_outputs_is_refused(make_run: Callable[[str], Run]) -> None:
    """Weights as large as these lose their digits when they are multiplied together."""
    local = make_run("dither").local
    with torch.no_grad():
        for part in local.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.mul_(1e6)
    with pytest.raises(
        SfumatoError, match=r"folding batch norm changed the outputs by .* too extreme to ship"
    ):
        freeze_network(local, SIZE)


def test_outputs_of_another_layout_or_range_are_refused(network: PhoneNetwork) -> None:
    check_outputs(network, SIZE)
    whole = network.forward
    network.forward = lambda image: tuple(y.permute(0, 3, 1, 2) for y in whole(image))  # type: ignore[method-assign]
    with pytest.raises(SfumatoError, match=re.escape("output p is (1, 3, 32, 32), not (1, 32, 32, 3)")):
        check_outputs(network, SIZE)
    network.forward = lambda image: tuple(y + 1 for y in whole(image))  # type: ignore[method-assign]
    with pytest.raises(SfumatoError, match=re.escape("output p leaves the range 0..1")):
        check_outputs(network, SIZE)


def test_calibration_images_hold_black_and_white(sealed: Path) -> None:
    grey = np.full((500, *SIZE, 3), 128, np.uint8)
    images = calibration_images(grey, np.arange(500))
    assert images.shape == (200, *SIZE, 3)
    assert (images.min(), images.max()) == (0, 255)
    assert (grey == 128).all()
    with pytest.raises(SfumatoError, match="must hold the exact values 0 and 255"):
        convert(sealed / "local.onnx", images.clip(1, 255), ["int8"])
    with pytest.raises(SfumatoError, match="calibration images are"):
        convert(sealed / "local.onnx", images[..., :2], ["int8"])


def test_a_graph_with_an_open_batch_or_other_outputs_is_refused(sealed: Path) -> None:
    model = onnx.load(sealed / "local.onnx")
    shape = (1, *SIZE, 3)
    check_onnx(model, "local.onnx", shape=shape, outputs=["p"])
    with pytest.raises(
        SfumatoError, match=re.escape("local.onnx has the outputs ['p'], not ['mean', 'scale']")
    ):
        check_onnx(model, "local.onnx", shape=shape, outputs=["mean", "scale"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(SfumatoError, match="takes inputs of the shapes"):
        check_onnx(model, "local.onnx", shape=shape, outputs=["p"])


@pytest.mark.parametrize("name", ["local.onnx", "cloud.onnx"])
def test_a_graph_that_onnx_refuses_is_refused(sealed: Path, name: str) -> None:
    model = onnx.load(sealed / name)
    run_checker(model, name)
    model.graph.node[0].op_type = "Imagined"
    with pytest.raises(SfumatoError, match=rf"{name} does not pass ONNX's checker: "):
        run_checker(model, name)


def test_a_variant_that_was_not_made_is_missed(bundle: Path) -> None:
    assert set(read_variants(bundle, VARIANTS)) == set(VARIANTS)
    (bundle / "local_dynamic.tflite").unlink()
    with pytest.raises(SfumatoError, match=r"made no local_dynamic\.tflite"):
        read_variants(bundle, VARIANTS)


def test_tensors_of_other_names_are_refused(sealed: Path) -> None:
    content = (sealed / "local_int8.tflite").read_bytes()
    check_names(content, ["p"])
    with pytest.raises(SfumatoError, match="the model's tensors are photo, p, not image, p"):
        check_names(content.replace(b"image\0", b"photo\0"), ["p"])
    with pytest.raises(SfumatoError, match="has the tensors image, p, not image, mean, scale"):
        name_tensors(content, ["mean", "scale"])


def test_every_model_has_its_gates(dither_run: Run, network: PhoneNetwork, sealed: Path) -> None:
    """Lint, comparison and cloud are gates of every export, accuracy of every int8 model; the contract holds just these."""
    images, contract = parity_images(network, dither_run.dataset), read_contract(sealed)
    models = {
        variant: check_model(
            variant, (sealed / f"local_{variant}.tflite").read_bytes(), dither_run, network, images
        )
        for variant in VARIANTS
    }
    assert [variant for variant, model in models.items() if model.figures is not None] == ["int8"]
    gates = export_gates(models, undecided=images.undecided, cloud_gap=1e-6)
    names = [gate.name for gate in gates]
    assert names == [gate.name for gate in contract.gates]
    for variant in VARIANTS:
        for word in ("channels last", "XNNPACK", "difference"):
            assert sum(name.startswith(f"{variant}: ") and word in name for name in names) == 1
    assert {"cloud.onnx: largest difference of a logit", "int8: loss of glasses accuracy"} <= set(names)
    require_passed(gates)


def test_failed_gates_and_no_gates_are_refused() -> None:
    good = Gate(name="a", value=1.0, limit=2.0, passed=True)
    bad = Gate(name="b", value=3.0, limit=2.0, passed=False, note="much too large")
    with pytest.raises(SfumatoError, match=r"b is 3\.0, allowed is 2\.0 \(much too large\)$"):
        require_passed([good, bad])
    with pytest.raises(SfumatoError, match="nothing was checked"):
        require_passed([])


def test_forged_answers_are_noticed(bundle: Path) -> None:
    contract = read_contract(bundle)
    check_answers(bundle, contract)
    values = json.loads((bundle / "vectors.json").read_text(encoding="utf-8"))
    values["upload"][3]["packed"] = "00" * 6
    (bundle / "vectors.json").write_text(json.dumps(values))
    with pytest.raises(SfumatoError, match=r"does not repeat vectors\.json: upload: differs"):
        check_answers(bundle, contract)


def turn_line_ends(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def forge_contract(folder: Path) -> None:
    """A contract that was edited, its digest mended."""
    text = (folder / "contract.json").read_text(encoding="utf-8").replace('"smiling"', '"smile"')
    (folder / "contract.json").write_text(text)
    write_digests(folder)


def forge_signature(folder: Path) -> None:
    (folder / "contract.sig").write_text("x")
    write_digests(folder)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a stray file": (lambda f: (f / "stowaway.txt").write_text("x"), "does not list stowaway.txt"),
    "a file less": (lambda f: (f / "local_int8.tflite").unlink(), "cannot be read"),
    "a changed model": (lambda f: (f / "local_int8.tflite").write_bytes(b"TFL3"), "export again"),
    "other line ends": (lambda f: turn_line_ends(f / "contract.json"), "was changed after the export"),
    "another contract": (forge_contract, "does not read as it was written"),
    "digests of another": (
        lambda f: (f / "contract.sha256").write_text("0" * 64),
        "changed after the export",
    ),
    "no digests": (lambda f: (f / "contract.sha256").unlink(), "cannot be read"),
    "a signature without a key": (
        forge_signature,
        "contract.sig is there without a key",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bundle_that_does_not_hold_is_refused(bundle: Path, name: str) -> None:
    contract = read_contract(bundle)
    check_bundle(bundle, contract, signed=False)
    damage, expected = BROKEN[name]
    damage(bundle)
    with pytest.raises(SfumatoError, match=re.escape(expected)):
        check_bundle(bundle, contract, signed=False)


def test_a_bundle_that_should_be_signed_is_refused(bundle: Path) -> None:
    with pytest.raises(SfumatoError, match=r"contract\.sig is missing"):
        check_bundle(bundle, read_contract(bundle), signed=True)


@pytest.mark.parametrize("name", [*AUDIT_FILES, "cloud.onnx", "local.onnx", "vectors.json"])
def test_a_bundle_without_a_file_that_belongs_to_it_is_refused(bundle: Path, name: str) -> None:
    """Even where the contract does not list it."""
    (bundle / name).unlink()
    contract = read_contract(bundle)
    for path in (bundle / "contract.json", bundle / "contract.sha256"):
        path.unlink()
    with pytest.raises(SfumatoError, match=f"the bundle lacks {name}"):
        write_contract(contract, bundle, None)


def test_the_normal_table_belongs_to_a_gaussian_bundle(
    make_run: Callable[[str], Run], sealed: Path, tmp_path: Path
) -> None:
    run = make_run("gaussian")
    network = freeze_network(run.local, SIZE)
    shutil.copytree(sealed, tmp_path / "export", ignore=shutil.ignore_patterns("contract*"))
    images = parity_images(network, run.dataset)
    content = (sealed / "local_float32.tflite").read_bytes()
    model = check_model(
        "float32", content, make_run("dither"), freeze_network(make_run("dither").local, SIZE), images
    )
    contract = describe(
        run, tmp_path / "export", network=network, models={"int8": model}, gates=[], conversion={}
    )
    assert "normal_table.bin" not in {entry.name for entry in list_files(tmp_path / "export")}
    with pytest.raises(SfumatoError, match=r"the bundle lacks normal_table\.bin"):
        write_contract(contract, tmp_path / "export", None)


def test_the_list_in_the_decision_is_the_list_that_runs() -> None:
    text = (ROOT / "docs" / "decisions" / "0006-export.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in set(Step)] == list(Step)
