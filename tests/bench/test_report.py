"""Pages, pictures and the comparison of two files."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from sfumato.bench.changes import find_changes, moved, warnings
from sfumato.bench.plots import PLOTS
from sfumato.bench.report import PAGE, find_results, write_report
from sfumato.bench.results import Machine, Measurement, Results, Stage, write_results
from sfumato.bench.tables import against_ours, tables
from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError, UsageError

ROUNDS = (1.00, 1.01, 1.02, 1.01, 1.60)


def row(subject: str = "sfumato", **values: Any) -> Measurement:
    facts: dict[str, Any] = {
        "subject": subject,
        "variant": "int8",
        "size": (64, 64),
        "runtime": "ai-edge-litert 2.1.0",
        "delegate": "xnnpack",
        "threads": 1,
        "params": 1000,
        "macs": 10**6,
        "bytes": 5000,
        "sha256": "0" * 64,
    }
    return Measurement(**{**facts, **values})


def host(*rows: Measurement, **environment: Any) -> Results:
    return Results(target="host", environment={"processor": "a", **environment}, rows=rows)


def arm(*rows: Measurement) -> Results:
    return Results(target="arm", environment={}, rows=rows)


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was three times slower in the second round, for both.
    ours = row(round_p50_ms=(1.0, 3.0, 1.0), p50_ms=1.0)
    other = row("arden", round_p50_ms=(7.0, 21.0, 7.0), p50_ms=9.0)
    full = row(variant="float32", round_p50_ms=(2.0, 6.0, 2.0), p50_ms=2.0)
    elsewhere = row("arden", threads=2, p50_ms=5.0)  # nothing of ours to set it against
    grid = against_ours(host(ours, other, full, elsewhere))
    assert grid.rows == (
        ("arden", "int8", "xnnpack", "7.00", "time"),
        ("sfumato", "float32", "xnnpack", "2.00", "time"),
    )


def test_instructions_are_set_against_instructions_of_the_same_core() -> None:
    rows = [
        row(name, cpu=core, instructions=count)
        for name, core, count in (
            ("sfumato", "cortex-a53", 200),
            ("sfumato", "cortex-a76", 100),
            ("protective", "cortex-a53", 3000),
            ("protective", "cortex-a76", 2500),
        )
    ]
    assert [line[3] for line in against_ours(arm(*rows)).rows] == ["15.00", "25.00"]


def test_the_page_holds_every_table_and_the_pictures_are_drawn(tmp_path: Path) -> None:
    times = host(
        row(p50_ms=0.1, p90_ms=0.2, p99_ms=0.3, round_p50_ms=(0.1, 0.1)),
        row("arden", p50_ms=0.7, p90_ms=0.8, p99_ms=0.9, round_p50_ms=(0.7, 0.8)),
    )
    machine = Machine(int8_gmac_per_s=200, float32_gmac_per_s=50, copy_gb_per_s={"128": 80.0})
    stages = (Stage(name="interpreter alone", p50_ms=0.1), Stage(name="encode", p50_ms=0.05))
    times = times.model_copy(update={"machine": machine, "stages": stages})
    counts = arm(
        *(row(n, cpu=c, instructions=i) for n, i in (("sfumato", 5), ("arden", 40)) for c in ("a", "b"))
    )
    for name, results in (("host", times), ("arm", counts)):
        write_results(results, tmp_path / "results" / f"{name}.json")
    out = tmp_path / "report"
    written = write_report(find_results([tmp_path / "results"]), out)
    assert [path.name for path in written] == [PAGE, "latency.png", "instructions.png", "relative_cost.png"]
    page = (out / PAGE).read_text(encoding="utf-8")
    for grid in (*tables(times), *tables(counts)):
        assert f"**{grid.title}**" in page
        for line in grid.rows:
            assert "| " + " | ".join(line) + " |" in page
    for path in written[1:]:
        with Image.open(path) as image:
            assert len(image.convert("RGB").getcolors(2**20) or ()) > 10
    alone = write_report({"arm": arm(row(cpu="a", instructions=5))}, tmp_path / "other")
    assert [path.name for path in alone] == [PAGE, "instructions.png"]


def test_a_machine_without_amx_is_another_machine() -> None:
    with_it = host(row(p50_ms=0.2, p90_ms=0.3))
    without = host(row(p50_ms=0.1, p90_ms=0.2)).model_copy(update={"settings": {"amx": False}})
    plot = PLOTS["latency"]([with_it, without])
    assert plot is not None
    names = [text.get_text() for text in plot.axes[0].get_yticklabels()]
    assert names == ["host: sfumato int8", "host without AMX: sfumato int8"]


def test_a_folder_holds_other_studies_too(tmp_path: Path) -> None:
    """Those of this project do; a benchmark of another version is still named, and so is a study that is asked for by name."""
    kept = find_results([Path(__file__).parents[2] / "benchmarks/results"])
    assert {"host", "arm", "training"} <= set(kept)
    assert "given-networks" not in kept
    study = tmp_path / "study.json"
    study.write_text('{"question": "?"}', encoding="utf-8")
    with pytest.raises(SfumatoError, match="has schema None"):
        find_results([study])
    (tmp_path / "old.json").write_text('{"schema": "sfumato-bench/0"}', encoding="utf-8")
    with pytest.raises(SfumatoError, match=r"old.json has schema 'sfumato-bench/0'"):
        find_results([tmp_path])


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"no result files in .*: make some with --out"):
        find_results([tmp_path])


def test_noise_is_no_change_and_a_change_is_no_noise() -> None:
    assert not moved(ROUNDS, [1.01, 1.00, 1.03, 0.99, 1.02])
    assert moved(ROUNDS, [1.10, 1.11, 1.12, 1.10, 1.30])
    assert moved([1.10, 1.11, 1.12, 1.10, 1.30], ROUNDS)  # faster counts too
    assert not moved([1.0] * 5, [1.01] * 5)  # apart, but by one percent
    assert not moved([1.0, 1.2, 1.4, 1.6, 1.8], [1.3, 1.5, 1.7, 1.9, 2.1])  # far, but within the noise


def test_a_count_that_differs_by_one_is_a_change() -> None:
    (change,) = find_changes(
        arm(row(cpu="cortex-a53", instructions=100)), arm(row(cpu="cortex-a53", instructions=101))
    )
    assert change.cells() == ("sfumato int8, 64x64, cortex-a53", "instructions", "100", "101", "+1.0%")
    assert find_changes(arm(row(instructions=100)), arm(row(instructions=100))) == []
    went = find_changes(arm(row(instructions=100)), arm())
    assert {(one.figure, one.before, one.after) for one in went} >= {
        ("instructions", 100, None),
        ("params", 1000, None),
    }


def test_the_command_says_what_changed(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("before.json", "same.json", "after.json", "arm.json")]
    slower = tuple(1.2 * value for value in ROUNDS)
    files = [
        host(row(round_p50_ms=ROUNDS)),
        host(row(round_p50_ms=ROUNDS[::-1])),
        host(row(round_p50_ms=slower), processor="b"),
        arm(),
    ]
    for path, results in zip(paths, files, strict=True):
        write_results(results, path)
    before, same, after, other = map(str, paths)
    runner = CliRunner()
    assert runner.invoke(app, ["bench", "compare", before, same]).stdout == "nothing changed beyond noise\n"
    told = runner.invoke(app, ["bench", "compare", before, after]).stdout
    assert "+20.0%" in told
    assert warnings(files[0], files[2]) == ["processor differs: a before, b after"]
    wrong = runner.invoke(app, ["bench", "compare", before, other])
    assert isinstance(wrong.exception, UsageError)
