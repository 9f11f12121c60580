"""report.html: an audit as one self-contained page.

Tables and plots first, the whole attack table last. The page fetches nothing and opens from any disk; it
shows photos of the test split and therefore belongs where the data belongs.

    write(audit, evidence, run_folder, run_folder / "report.html")
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from sfumato.audit import plots
from sfumato.audit.attack_data import Evidence
from sfumato.audit.predictions import Restoration
from sfumato.audit.schema import Audit
from sfumato.core.files import atomic_write, read_json

SHOWN = 8
"""Test images at the top of the page."""
CURVES = (
    ("Accuracy on validation", ("val_accuracy", "adversary_accuracy"), "accuracy", False),
    ("Rate", ("val_rate_bits", "rate_bits", "target_bits"), "bits an image", True),
    ("Loss", ("loss", "task_loss"), "loss", False),
)
"""Title, figures of metrics.jsonl, axis, logarithmic or not."""


def write(
    audit: Audit, evidence: Evidence, source: Path, path: Path, restored: Sequence[Restoration] = ()
) -> None:
    """Write the page.

    Args:
        audit: what to report.
        evidence: gives the images.
        source: the artifact's folder; its `metrics.jsonl` and `contract.json` are shown if they are there.
        path: the page, written atomically.
        restored: photos that were restored from uploads.
    """
    text = render(audit, evidence, source, restored)
    with atomic_write(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def render(audit: Audit, evidence: Evidence, source: Path, restored: Sequence[Restoration] = ()) -> str:
    """The page as text."""
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    rows = sorted(audit.attacks, key=lambda row: (row.attribute, row.on != "labels", -row.val_accuracy))
    return environment.from_string(template).render(
        audit=audit,
        source=source.name,
        strips=image_strips(evidence),
        attacks=plots.attack_plot(audit.attributes),
        averages=[row for row in rows if row.attack == "average"],
        restored=restored_strips(restored),
        rates=plots.rate_plot(evidence.rate.double().numpy() / np.log(2)),
        curves=training_curves(source / "metrics.jsonl"),
        contract=contract_rows(source / "contract.json"),
        gates=gate_rows(source / "contract.json"),
        rows=rows,
    )


def image_strips(evidence: Evidence) -> list[tuple[str, str]]:
    """(caption, data URI) of a few test images: before, noise map, upload."""
    side, count = evidence.test, min(SHOWN, evidence.test.images)
    parameters = {name: value[:count].float() for name, value in side.parameters.items()}
    maps, low, high = plots.stretch(plots.noise_maps(evidence.channel, parameters))
    unit = "bits of entropy a sample" if evidence.channel.name == "dither" else "of the largest noise scale"
    return [
        ("Photo, stays on the phone", plots.png_uri(side.pixels[:count])),
        (f"Noise map: dark {low:.3f}, bright {high:.3f} {unit}", plots.png_uri(plots.tint(maps))),
        ("Upload, all the service sees", plots.png_uri(plots.as_bytes(evidence.test_uploads[:count]))),
    ]


def restored_strips(restored: Sequence[Restoration]) -> list[tuple[str, str]]:
    """(caption, data URI) of the first test images as every restorer leaves them."""
    return [
        (
            f"{one.restorer}{f', {one.pairs} pairs' if one.pairs else ''}: "
            f"PSNR {one.psnr:.1f} dB, SSIM {one.ssim:.2f}",
            plots.png_uri(one.pictures),
        )
        for one in restored
    ]


def training_curves(log: Path) -> list[tuple[str, str]]:
    """(title, SVG) of whatever a training log holds; unreadable lines are passed over."""
    if not log.exists():
        return []
    records: list[dict[str, Any]] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a run that was killed
        if isinstance(record, dict) and isinstance(record.get("epoch"), int):
            records.append(record)
    last = records[-1].get("stage") if records else None
    mine = [record for record in records if record.get("stage") == last]
    found = []
    for title, names, label, logarithmic in CURVES:
        if any(isinstance(record.get(name), (int, float)) for record in mine for name in names):
            found.append((title, plots.curve_plot(mine, names, label, log=logarithmic)))
    return found


def gate_rows(path: Path) -> list[dict[str, Any]]:
    """Every check of the export, as the contract lists them: name, value, limit, passed, note."""
    gates: list[dict[str, Any]] = read_json(path).get("gates", []) if path.exists() else []
    return gates


def contract_rows(path: Path) -> list[tuple[str, str]]:
    """The exported contract as (key, value) lines, without its gates; nested keys are joined by dots, long lists cut."""
    if not path.exists():
        return []
    rows: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            text = json.dumps(value, ensure_ascii=False)
            rows.append((prefix, text if len(text) <= 120 else text[:117] + "..."))

    walk("", {key: value for key, value in read_json(path).items() if key != "gates"})
    return rows
