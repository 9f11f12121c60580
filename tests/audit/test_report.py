"""The page, the pictures, the pass rule, and the command."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sfumato.audit import artifact as artifacts
from sfumato.audit import plots, report, runner
from sfumato.audit.attack_data import AttackData
from sfumato.audit.schema import Audit, InformationBounds, RateBits
from sfumato.audit.statements import statements
from sfumato.audit.upload_size import upload_bytes
from sfumato.channels import create
from sfumato.cli import audit as audit_command
from sfumato.core.errors import SfumatoError
from sfumato.models.tensors import to_tensor
from sfumato.runtime.upload_codec import encode_png

Audited = Callable[[str], tuple[Audit, Path]]


def test_the_page_is_whole_and_fetches_nothing(audited: Audited) -> None:
    _, folder = audited("planted")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert sources
    assert [source for source in sources if not source.startswith(("data:", "#"))] == []
    assert "@import" not in page
    assert "<script" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert page.count("data:image/png") == 3
    assert "not passed" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two plots share an id"


def test_training_curves_read_any_log(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert report.training_curves(log) == []
    lines = [{"stage": "cotrain", "epoch": e, "val_accuracy": 0.5, "rate_bits": 9.0} for e in range(3)]
    log.write_text("\n".join(json.dumps(line) for line in lines) + '\n{"stage": "cotr', encoding="utf-8")
    assert [title for title, _ in report.training_curves(log)] == ["Accuracy on validation", "Rate"]


def test_contract_becomes_lines(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text(
        '{"input": {"name": "x", "shape": [1, 64, 64, 3]}, "a": 1, "gates": [{"name": "apart"}]}'
    )
    assert report.contract_rows(tmp_path / "contract.json") == [
        ("input.name", '"x"'),
        ("input.shape", "[1, 64, 64, 3]"),
        ("a", "1"),
    ]


def test_the_page_shows_every_gate_of_an_export(
    audited: Audited, attack_data: Callable[[str], AttackData], tmp_path: Path
) -> None:
    gates = [
        {"name": "int8: bytes", "value": 55072, "limit": 60000, "passed": True, "note": ""},
        {"name": "cloud.onnx: <gap>", "value": 0.7, "limit": 0.001, "passed": False, "note": "far off"},
    ]
    (tmp_path / "contract.json").write_text(json.dumps({"gates": gates}))
    page = report.render(audited("planted")[0], attack_data("planted"), tmp_path)
    for shown in ("int8: bytes", "55072", "60000", "holds", "cloud.onnx: &lt;gap&gt;", "failed", "far off"):
        assert shown in page
    assert "Checks of the export" not in report.render(
        audited("planted")[0], attack_data("planted"), tmp_path / "none"
    )


def test_noise_maps() -> None:
    p = torch.tensor([0.5, 1.0, 0.11]).reshape(1, 3, 1, 1)
    entropy = -(0.11 * np.log2(0.11) + 0.89 * np.log2(0.89))
    (value,) = plots.noise_maps(create("dither", levels=2), {"p": p}).flatten()
    assert value == pytest.approx((1 + entropy) / 3, abs=1e-6)
    scale = torch.full((1, 3, 1, 1), 0.25)
    closed = {"p": torch.zeros(1, 3, 8, 8)}
    assert (plots.noise_maps(create("dither", gates=True), closed) == 1).all()
    assert not plots.noise_maps(create("dither"), closed).any()
    assert plots.noise_maps(create("gaussian"), {"scale": scale}).item() == pytest.approx(0.5)


def test_figure_holds_originals_maps_and_uploads(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    uploads = (images.transpose(0, 3, 1, 2) > 127).astype(np.float32)
    plots.figure(images, np.linspace(0, 1, 3 * 1024).reshape(3, 32, 32), uploads, tmp_path / "f.png")
    grid = np.asarray(Image.open(tmp_path / "f.png"))
    assert grid.shape == (3 * (128 + 8) - 8, 3 * (128 + 8) - 8, 4)
    assert np.array_equal(grid[0:128:4, 0:128:4, :3], images[0])
    assert np.array_equal(
        grid[272:400:4, 136:264:4, :3], (uploads[1] * 255).astype(np.uint8).transpose(1, 2, 0)
    )


@pytest.mark.parametrize("levels", [2, 4])
def test_closed_blocks_are_measured_as_the_png_that_travels(levels: int) -> None:
    drawn = np.random.default_rng(levels).integers(0, levels, (5, 32, 24, 3), dtype=np.uint8)
    drawn[:, 8:] = 0
    uploads = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / (levels - 1)
    bits = levels.bit_length() - 1
    sizes = [len(encode_png(one, bits=bits, gates=True)) for one in drawn]
    found = upload_bytes(
        create("dither", levels=levels, gates=True), np.zeros((5, 32, 24, 3), np.uint8), uploads
    )
    assert found.mean == pytest.approx(np.mean(sizes))
    frame = 57  # signature, header and the ends of chunks
    assert found.mean - frame < 0.5 * 32 * 24 * 3 * bits / 8


def test_upload_sizes() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    uploads = torch.zeros(4, 3, 32, 32)
    assert upload_bytes(create("dither", levels=2), pixels, uploads).mean == 32 * 32 * 3 / 8
    assert upload_bytes(create("dither", levels=16), pixels, uploads).mean == 32 * 32 * 3 / 2
    flat, busy = (
        upload_bytes(create("gaussian"), pixels, values).mean
        for values in (uploads, to_tensor(pixels).half())
    )
    assert flat < 200 < 3000 < busy


def test_statements_say_what_was_measured_and_no_more(audited: Audited) -> None:
    (tone,) = audited("noise")[0].attributes
    hidden = tone.model_copy(update={"declared": False})
    rate = RateBits(mean=4.0, p95=6.0, max=9.0)
    bound = InformationBounds(total=0.25, answer=0.2, residual=0.05)
    text = " ".join(statements([hidden], rate, bound))
    assert "at most 0.25 bits" in text
    assert "never declared" in text
    assert "the pass rule judged all that were attacked" in text
    assert "not a guarantee" in " ".join(statements([tone, hidden], rate, bound))
    bound = InformationBounds(total=80.0, answer=1.0, residual=79.0, autoregressive=40.0)
    pictures = statements([], RateBits(mean=90.0, p95=99.0, max=99.0), bound)
    assert "at most 40.00 bits" in pictures[0]
    assert "an autoregressive prior it is 40.0 bits" in pictures[1]


def test_the_command_refuses_what_it_cannot_load(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="neither a run nor an export"):
        artifacts.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SfumatoError, match="no finished run"):
        artifacts.load(tmp_path)


def test_the_command_prints_json_alone(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from sfumato.audit import plan as plans

    artifact = make("noise")
    small = plans.QUICK.model_copy(
        update={
            "attacks": ("floor", "clean", "posterior"),
            "clean_probes": ("linear",),
            "clean_epochs": 1,
            "steps": 1,
            "clean_steps": 1,
            "prior_steps": 10,
        }
    )
    monkeypatch.setitem(plans.PLANS, "quick", small)
    monkeypatch.setattr(runner, "load", lambda folder, cloud=None, data=None: artifact)
    app = typer.Typer()
    app.command()(audit_command.command)
    given = [str(artifact.folder), "--attacks", "quick"]
    done = CliRunner().invoke(app, [*given, "--attributes", "tone", "--json"])
    assert done.exit_code == 3, done.output
    assert Audit.model_validate(json.loads(done.stdout)).n_test == 500
    assert (artifact.folder / "report.html").exists()
    shown = CliRunner().invoke(app, given)
    assert "tone" in shown.stdout
    assert "not passed" in shown.stdout


def test_a_grey_photo_and_its_upload_have_one_plane() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 1), dtype=np.uint8)
    sizes = []
    for image in pixels:
        stream = io.BytesIO()
        Image.fromarray(image[:, :, 0]).save(stream, "JPEG", quality=90)
        sizes.append(stream.tell())
    found = upload_bytes(create("dither", levels=4, colours=1), pixels, torch.zeros(3, 1, 16, 24))
    assert found.mean == 16 * 24 * 2 / 8
    assert found.raw_jpeg90_mean == pytest.approx(sum(sizes) / 3)
