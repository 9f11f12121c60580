"""report.html: an audit as one self-contained page.

Tables and plots first, the table of all attacks last. The page fetches nothing and opens from any disk. It shows photos of
the test split, so it belongs where the data belong.

    write(audit, data, run_folder, run_folder / "report.html")
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from sfumato.audit import plots
from sfumato.audit.attack_data import AttackData
from sfumato.audit.pass_rule import WORDS, goal_line, leakage_bound_bits
from sfumato.audit.predictions import ReconstructedImages
from sfumato.audit.rows import floats
from sfumato.audit.schema import Audit, Gain, InformationBounds, PhotoBits
from sfumato.audit.statements import rule_statement
from sfumato.core.files import atomic_write, read_json
from sfumato.training.log import read_records

SHOWN = 8
"""Test images at the top of the page."""
FLAT = 0.005
"""A noise map whose values differ by less shows nothing."""
CURVES = (
    ("Accuracy on validation", ("val_accuracy", "adversary_accuracy"), "accuracy", False),
    ("Rate", ("val_rate_bits", "rate_bits", "target_bits"), "bits an image", True),
    ("Loss", ("loss", "task_loss"), "loss", False),
)
"""Title, figures of metrics.jsonl, axis, logarithmic or not."""


def write(
    audit: Audit,
    data: AttackData,
    source: Path,
    path: Path,
    reconstructed: Sequence[ReconstructedImages] = (),
) -> None:
    """Write the page.

    Args:
        audit: what to report.
        data: gives the images.
        source: the artifact's folder; its `metrics.jsonl` and `contract.json` are shown if they are there.
        path: the page, written atomically.
        reconstructed: photos that were reconstructed from uploads.
    """
    text = render(audit, data, source, reconstructed)
    with atomic_write(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def render(
    audit: Audit, data: AttackData, source: Path, reconstructed: Sequence[ReconstructedImages] = ()
) -> str:
    """The page as text."""
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    environment.filters["figure"] = figure
    results = sorted(audit.attacks, key=lambda one: (one.attribute, one.input != "labels", -one.val_accuracy))
    bounds = audit.information_bounds
    bound = audit.rate_bits.mean if bounds is None else leakage_bound_bits(audit.rate_bits, bounds)
    page = environment.from_string(template).render(
        audit=audit,
        words=WORDS,
        rule=None if audit.rule is None else rule_statement(audit.rule),
        goal=None if audit.goal is None else goal_line(audit.goal),
        bound_rows=[] if bounds is None else bound_rows(bounds),
        source=source.name,
        strips=image_strips(data),
        attacks=plots.attack_plot(audit.attributes),
        averages=[one for one in results if one.attack == "average"],
        drawn=[one for one in results if one.attack == "generate"],
        leakage_bound_bits=bound,
        reconstructed=reconstructed_strips(reconstructed),
        rates=plots.rate_plot(data.rate.double().numpy() / np.log(2)),
        curves=training_curves(source / "metrics.jsonl"),
        contract=contract_rows(source / "contract.json"),
        gates=gate_rows(source / "contract.json"),
        results=results,
    )
    return with_columns(page)


def figure(gain: Gain, value: float) -> str:
    """A figure in the unit of its measure."""
    if gain.measure == "information":
        return f"{value:.3f} bits"
    return f"{value:.3f}" if gain.measure == "auc" else f"{100 * value:.1f} %"


def with_columns(page: str) -> str:
    """Give every cell of every table the name of its column: on a narrow screen a row becomes a list of its cells.

    >>> with_columns("<table><tr><th>a</th></tr><tr><td class='x'>2</td></tr></table>")
    "<table><tr><th>a</th></tr><tr><td data-column='a' class='x'>2</td></tr></table>"
    """

    def table(found: re.Match[str]) -> str:
        columns = re.findall(r"<th[^>]*>(.*?)</th>", found[0], re.DOTALL) or [""]
        return re.sub(r"<tr>.*?</tr>", lambda row: cells(row[0], columns), found[0], flags=re.DOTALL)

    def cells(row: str, columns: Sequence[str]) -> str:
        names = iter(columns)
        return re.sub(r"<td\b", lambda _: f"<td data-column='{next(names, '')}'", row)

    return re.sub(r"<table.*?</table>", table, page, flags=re.DOTALL)


def bound_rows(bounds: InformationBounds) -> list[tuple[str, float, PhotoBits | None, str]]:
    """(prior, mean bits, spread over photos, meaning) of the tighter bounds."""
    whole = f"One component for each kind of upload: {bounds.answer:.2f} bits are the answer, the rest is the next row."
    beyond = "What is left once the answer is known."
    if bounds.residual_allows is not None:
        beyond += f" It allows {bounds.residual_allows:.0%} on an even yes-or-no attribute of which the answer tells nothing."
    rows = [
        ("mixture", bounds.total, bounds.total_photos, whole),
        ("mixture, beyond the answer", bounds.residual, bounds.residual_photos, beyond),
    ]
    if bounds.autoregressive is not None:
        rows.append(
            ("autoregressive", bounds.autoregressive, None, "Predicts each bit from the bits before it.")
        )
    return rows


def image_strips(data: AttackData) -> list[tuple[str, str]]:
    """(caption, data URI) of a few test images: before, noise map, upload."""
    test, count = data.test, min(SHOWN, data.test.images)
    parameters = floats(test.parameters, slice(count))
    maps, low, high = plots.stretch(plots.noise_maps(data.channel, parameters))
    unit = "bits of entropy a sample" if data.channel.name == "dither" else "of the largest noise scale"
    if high - low < FLAT:
        noise = (f"No noise map: every pixel is equally random, {(low + high) / 2:.3f} {unit}", "")
    else:
        noise = (
            f"Noise map: how random each pixel is, from dark ({low:.3f} {unit}: the photo shows through) to bright yellow "
            f"({high:.3f}: noise alone). Where an upload tells few bits nearly all is bright",
            plots.png_uri(plots.tint(maps)),
        )
    return [
        ("Photo, stays on the phone", plots.png_uri(test.pixels[:count])),
        noise,
        (
            "Upload, all the service sees",
            plots.png_uri(plots.as_bytes(data.test_uploads[:count].float().numpy())),
        ),
    ]


def reconstructed_strips(reconstructed: Sequence[ReconstructedImages]) -> list[tuple[str, str]]:
    """(caption, data URI) of the first test images as every method reconstructs them."""
    return [
        (
            f"{one.figures.method}{f', {one.figures.pairs} pairs' if one.figures.pairs else ''}"
            f"{f', {one.figures.drawings} of each, {len(one.images)} shown' if one.figures.drawings > 1 else ''}: "
            f"PSNR {one.figures.psnr:.1f} dB, SSIM {one.figures.ssim:.2f}",
            plots.png_uri(one.images),
        )
        for one in reconstructed
    ]


def training_curves(log: Path) -> list[tuple[str, str]]:
    """(title, SVG) of whatever a training log holds; unreadable lines are passed over."""
    if not log.exists():
        return []
    records = [record for record in read_records(log) if isinstance(record.get("epoch"), int)]
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
