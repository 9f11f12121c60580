"""Every gate can fail the export: each is spoilt in turn, and the refusal names it (those of the lint: test_lint)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession

from sfumato.core.errors import SfumatoError
from sfumato.export import onnx_files, passes, pipeline
from sfumato.export.freeze import PhoneNetwork, fold, freeze
from sfumato.export.measure import Figures, Pair
from sfumato.export.parity import Parity, difference
from sfumato.export.passes import Work, check_gates, check_parity, lint_variants, measure_int8, write_cloud
from sfumato.export.pipeline import tune_int8
from sfumato.models.cloud import create_cloud
from sfumato.training.run import Run


def work_on(run: Run, bundle: Path, *variants: str) -> Work:
    """An export as it stands after its conversion."""
    network = PhoneNetwork(fold(freeze(run.local)))
    return Work(run, variants, "direct", bundle, bundle, network=network)


def refusal(work: Work) -> str:
    with pytest.raises(SfumatoError, match="the export was refused, nothing was written") as caught:
        check_gates(work)
    return str(caught.value)


def test_size(dither_run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_on(dither_run, bundle, "int8")
    monkeypatch.setattr(passes, "SIZE_LIMIT", 40_000)
    lint_variants(work)
    assert "int8: bytes is" in refusal(work)


@pytest.mark.parametrize(
    ("variant", "shift", "expected"),
    [
        ("float32", 1e-3, "float32: largest difference, 1/256 is"),
        ("float16", 0.1, "float16: largest difference, 1/256 is"),
        ("dynamic", 0.5, "dynamic: largest difference, 1/256 is"),
        ("int8", 0.5, "int8: mean difference, 1/256 is"),
    ],
)
def test_parity(
    make_run: Callable[[str], Run], bundle: Path, variant: str, shift: float, expected: str
) -> None:
    """The converted model belongs to weights that are a little different."""
    run = make_run("dither")
    work = work_on(run, bundle, variant)
    check_parity(work)
    check_gates(work)
    with torch.no_grad():
        for head in work.phone.local.heads.values():
            head.bias.add_(shift)  # type: ignore[operator]
    check_parity(work)
    assert expected in refusal(work)


def test_a_difference_is_seen_beside_the_spread_of_the_values() -> None:
    assert passes.int8_limit(Parity(1.0, 2.0, spread_lsb=5.0)) == passes.INT8_MEAN_LIMIT
    assert passes.int8_limit(Parity(1.0, 2.0, spread_lsb=90.0)) == pytest.approx(4.5)
    halves = np.array([0.0, 1.0], np.float32)
    assert difference(halves, halves, int8=False).spread_lsb == pytest.approx(128)


def test_a_failed_gate_alone_asks_for_fine_tuning(
    dither_run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_on(dither_run, bundle, "int8")
    work.figures = Figures(1, 1, {}, {}, {})
    check_parity(work)
    asked: list[bool] = []

    def tune(*_: object) -> None:
        asked.append(True)
        raise SfumatoError("asked")

    monkeypatch.setattr(pipeline, "movement", lambda figures: 0.5)
    monkeypatch.setattr(pipeline, "fine_tune", tune)
    pipeline.tune_int8(work)
    assert not asked
    monkeypatch.setattr(passes, "INT8_MEAN_LIMIT", 0.001)
    monkeypatch.setattr(passes, "INT8_MEAN_SHARE", 0.0)
    check_parity(work)
    with pytest.raises(SfumatoError, match="asked"):
        pipeline.tune_int8(work)


def test_a_network_that_decides_nothing_is_named(
    dither_run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "decided", lambda network, images: np.zeros(len(images), bool))
    with pytest.raises(SfumatoError, match=r"too close to call on every validation image.*--epochs"):
        check_parity(work_on(dither_run, bundle, "int8"))


@pytest.mark.parametrize("size", [(48, 48), (80, 112), (32, 48)])
def test_a_cloud_network_of_any_size_is_exported(tmp_path: Path, size: tuple[int, int]) -> None:
    """Its pooling grid does not divide these: ONNX has no operator for that."""
    heads = onnx_files.CloudHeads(create_cloud("resnet", {"a": 3}, height=size[0]), ["a"])
    path = tmp_path / "cloud.onnx"
    onnx_files.write_onnx(heads, torch.rand(2, 3, *size), path, inputs=["upload"], outputs=["a"], batch=True)
    uploads = torch.rand(5, 3, *size)
    (found,) = InferenceSession(path).run(["a"], {"upload": uploads.numpy()})
    assert np.allclose(found, heads(uploads)[0].detach().numpy(), atol=1e-4)


def figures(*, trained: float = 0.9, int8: float = 0.9, rate: float = 10.0, images: int = 2000) -> Figures:
    return Figures(
        images=images,
        draws=1,
        accuracy={"glasses": Pair(trained, int8)},
        rate_bits={"mean": Pair(10.0, rate)},
        upload_bytes={},
    )


def test_desired_accuracy(dither_run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_on(dither_run, bundle, "int8")
    monkeypatch.setattr(passes, "measure", lambda *given: figures(int8=0.8951))
    measure_int8(work)
    check_gates(work)
    monkeypatch.setattr(passes, "measure", lambda *given: figures(int8=0.8949))
    measure_int8(work)
    assert "int8: loss of glasses accuracy is 0.0051, allowed is 0.005" in refusal(work)
    monkeypatch.setattr(passes, "measure", lambda *given: figures(trained=0.9, int8=0.895, images=185))
    measure_int8(work)
    check_gates(work)
    monkeypatch.setattr(passes, "measure", lambda *given: figures(trained=0.9, int8=0.894, images=185))
    measure_int8(work)
    assert "is 0.006, allowed is 0.005405" in refusal(work)


def test_desired_accuracy_is_asked_of_the_cloud(make_run: Callable[[str], Run], bundle: Path) -> None:
    """Labels are what the cloud says of the float model's uploads; an int8 model of other weights loses some of them."""
    run = make_run("dither")
    work = work_on(run, bundle, "int8")
    measure_int8(work)
    assert work.figures is not None
    before = work.figures.accuracy["glasses"]
    with torch.no_grad():  # the trained network moves away from what was converted
        work.phone.local.heads["offset"].bias.add_(2.0)  # type: ignore[operator]
    measure_int8(work)
    assert work.figures.accuracy["glasses"].int8 == before.int8
    assert work.figures.rate_bits["mean"].trained > 1.5 * work.figures.rate_bits["mean"].int8


def test_cloud(
    make_run: Callable[[str], Run], bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = make_run("dither")
    out = tmp_path / "new"
    out.mkdir()
    work = work_on(run, out, "int8")
    write = onnx_files.write_onnx

    def other(module: torch.nn.Module, *given: Any, **named: Any) -> None:
        write(module, *given, **named)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.01)

    monkeypatch.setattr(passes, "write_onnx", other)
    write_cloud(work)
    assert "cloud.onnx: largest difference of a logit is" in refusal(work)


@pytest.mark.parametrize(
    ("found", "tune", "tuned"),
    [
        (figures(), "auto", False),
        (figures(int8=0.8975), "auto", False),
        (figures(int8=0.8965), "auto", True),
        (figures(rate=10.4), "auto", False),
        (figures(rate=10.6), "auto", True),
        (figures(rate=9.4), "auto", True),
        (figures(rate=9.4), "never", False),
        (figures(), "always", True),
    ],
)
def test_fine_tuning_is_chosen_by_what_int8_moved(
    dither_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Figures, tune: str, tuned: bool
) -> None:
    """0.3 points of accuracy or 5 % of rate; nothing else decides."""
    called = []

    def fake(network: PhoneNetwork, *given: Any) -> PhoneNetwork:
        called.append(network)
        return network

    monkeypatch.setattr(pipeline, "fine_tune", fake)
    for step in ("convert_tuned", "name_tensors", "lint_variants", "check_parity", "measure_int8"):
        monkeypatch.setattr(pipeline, step, lambda work, network=None: None)
    (tmp_path / "local_int8.tflite").write_bytes(b"")
    work = work_on(dither_run, tmp_path, "int8")
    work.figures, work.tune = found, tune
    tune_int8(work)
    assert bool(called) == tuned
