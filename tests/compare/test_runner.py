"""`sfumato compare`: rows, end to end on tiny data, continuing, and wrong use."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

from sfumato.audit.plan import Plan
from sfumato.audit.schema import RateBits
from sfumato.cli.compare import show_comparison
from sfumato.cli.main import app
from sfumato.compare import runner
from sfumato.compare.config import CompareConfig, make_compare_config
from sfumato.compare.methods import METHODS
from sfumato.compare.plot import Label, place
from sfumato.compare.rows import OURS, POINTS, Point, RowPlan, choose_rows, parse_point
from sfumato.compare.runner import compare
from sfumato.compare.schema import Comparison, ComparisonRow, read_comparison, read_row
from sfumato.compare.tables import match_comparisons
from sfumato.core.errors import DataError, SfumatoError, UsageError
from sfumato.core.files import read_json, write_json

TINY = Plan(
    name="quick",
    probes=("linear",),
    clean_probes=("cnn",),
    rates=(3e-3,),
    provider_rates=(3e-3,),
    epochs=1,
    provider_epochs=1,
    clean_epochs=1,
    steps=1,
    copies=1,
)
CONFIG: dict[str, Any] = {
    "data": "synthetic,size=48,count=600",
    "keep": ("smiling",),
    "hide": ("skin",),
    "attacks": "quick",
    "epochs": 1,
}


@pytest.fixture(autouse=True)
def tiny_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "create_plan", lambda name: TINY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    """Two methods, one of which uploads features, and one of ours."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "create_plan", lambda name: TINY)
        return compare(CompareConfig(**CONFIG), out, choose_rows(["jpeg", "arden", "rate"], [Point(8)])), out


def test_all_is_every_method_and_ours_at_every_point() -> None:
    rows = choose_rows(["all"], POINTS)
    assert {row.method for row in rows} == {*METHODS, *OURS} - {"rate-context"}
    assert [row.point for row in rows if row.method == "suppress"] == list(POINTS)
    assert len(rows) == len(METHODS) + 1 + 5 * len(POINTS)
    assert len({row.id for row in rows}) == len(rows)


def test_the_bound_that_foresees_is_a_goal_where_there_is_something_to_foresee() -> None:
    points = [Point(8), Point(1000)]
    assert [row.id for row in choose_rows(["all"], points) if row.method == "rate-context"] == [
        "rate-context-1000"
    ]
    assert [row.id for row in choose_rows(["rate-context"], points)] == [
        "rate-context-8",
        "rate-context-1000",
    ]


def test_rows_stand_side_by_side(finished: tuple[Comparison, Path]) -> None:
    comparison, out = finished
    assert [row.id for row in comparison.rows] == ["jpeg", "arden", "rate-8"]
    assert comparison.missing == ()
    clean = {row.desired[0].clean_accuracy for row in comparison.rows}
    assert clean == set(comparison.clean_accuracy.values())
    yardsticks = {row.attributes[0].clean for row in comparison.rows}
    assert len(yardsticks) == 1, "the attackers on clean images are the same for every row"
    assert read_json(out / "comparison.json") == json.loads(json.dumps(comparison.to_json()))
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_rows_say_what_they_are(finished: tuple[Comparison, Path]) -> None:
    jpeg, arden, ours = finished[0].rows
    assert jpeg.rate_bits is None
    assert isinstance(ours.rate_bits, RateBits)
    assert jpeg.leakage_bound_bits is None
    assert ours.leakage_bound_bits is not None
    assert 0 < ours.leakage_bound_bits <= ours.rate_bits.mean
    assert (jpeg.ours, ours.ours, ours.target_bits) == (False, True, 8)
    assert any("posterior was left out" in note for note in jpeg.notes)
    assert "posterior" in {row.attack for row in ours.attacks}
    assert "posterior" not in {row.attack for row in arden.attacks}
    assert arden.cost.upload_encoding == "float32 features"
    assert arden.cost.upload_bytes == 4 * 16 * 24 * 24
    assert ours.cost.upload_bytes == 3 * 48 * 48 / 8
    assert jpeg.cost.macs == 0 < ours.cost.macs < arden.cost.macs


def test_it_continues_and_takes_more_rows(
    finished: tuple[Comparison, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, out = finished
    made: list[str] = []

    def make(_: runner.Comparer, plan: RowPlan) -> ComparisonRow:
        made.append(plan.id)
        return before.rows[0]

    monkeypatch.setattr(runner.Comparer, "make", make)
    (out / "rows" / "arden.json").unlink()
    values = read_json(out / "comparison-config.json")
    values["plain"] = values.pop("mirror_only")  # as the release before called it
    del values["precision"]  # a comparison that was begun before there was this option
    write_json(out / "comparison-config.json", values)
    after = compare(CompareConfig(**CONFIG), out, choose_rows(["jpeg", "arden", "blur", "rate"], [Point(8)]))
    assert made == ["blur", "arden"]
    assert len(after.rows) == 4
    assert after.missing == ()
    (out / "rows" / "blur.json").unlink()
    (out / "rows" / "arden.json").write_text(before.rows[1].model_dump_json())


def test_trained_weights_survive_an_interrupted_audit(
    finished: tuple[Comparison, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, out = finished
    (out / "rows" / "jpeg.json").unlink()

    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(runner, "train_method", never)
    after = compare(CompareConfig(**CONFIG), out, choose_rows(["jpeg"], [Point(8)]))
    assert after.rows[0].desired == before.rows[0].desired
    assert after.rows[0].attributes == before.rows[0].attributes
    assert len(after.rows) == len(before.rows), "rows asked for earlier stay in the table"


def test_other_options_are_not_mixed_in(finished: tuple[Comparison, Path]) -> None:
    _, out = finished
    with pytest.raises(SfumatoError, match=r"another epochs.*--overwrite"):
        compare(CompareConfig(**{**CONFIG, "epochs": 2}), out, choose_rows(["jpeg"], [Point(8)]))


def test_the_same_data_may_be_named_otherwise(finished: tuple[Comparison, Path]) -> None:
    _, out = finished
    before = sorted(path.read_bytes() for path in (out / "rows").iterdir())
    compare(
        CompareConfig(**{**CONFIG, "data": "synthetic,count=600,size=48"}),
        out,
        choose_rows(["jpeg"], [Point(8)]),
    )
    assert sorted(path.read_bytes() for path in (out / "rows").iterdir()) == before


def test_overwrite_starts_anew_and_a_foreign_folder_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.Comparer, "prepare", lambda self: setattr(self, "clean_accuracy", {}))
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(SfumatoError, match="not empty"):
        compare(CompareConfig(**CONFIG), tmp_path, (), overwrite=True)
    out = tmp_path / "out"
    compare(CompareConfig(**CONFIG), out, ())
    (out / "rows").mkdir()
    (out / "rows" / "raw.json").write_text("{}")
    compare(CompareConfig(**CONFIG), out, (), overwrite=True)
    assert not (out / "rows").exists()


@pytest.mark.parametrize(
    ("methods", "points", "message"),
    [
        (["gap"], [Point(8)], "unknown method 'gap': known are all, raw"),
        ([], [Point(8)], "no method is named"),
        (["rate"], [], "no operating point is named"),
    ],
)
def test_wrong_rows_are_wrong_use(methods: list[str], points: list[Point], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_rows(methods, points)


@pytest.mark.parametrize("text", ["x", "0", "-1", "6/0", "6/1/2", "", "inf", "nan"])
def test_a_wrong_point_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError, match="BITS or BITS/BEYOND"):
        parse_point(text)


def test_a_point_is_written_as_it_is_read() -> None:
    for text in ("8", "6/0.1"):
        assert str(parse_point(text)) == text
    (row,) = choose_rows(["rate"], [Point(6, 0.1), Point(6, 0.1)])
    assert row.id == "rate-6-0.1", "it names files"


def test_wrong_values_are_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="epochs"):
        make_compare_config({**CONFIG, "epochs": 0})
    with pytest.raises(UsageError, match="precision"):
        make_compare_config({**CONFIG, "precision": "float8"})
    with pytest.raises(DataError, match="unknown attribute 'smile'"):
        compare(CompareConfig(**{**CONFIG, "keep": ("smile",)}), tmp_path / "out", ())


def test_with_nothing_to_hide_accuracy_stands_beside_the_rate(tmp_path: Path) -> None:
    config = CompareConfig(**{**CONFIG, "hide": ()})
    comparison = compare(config, tmp_path / "out", choose_rows(["raw", "on-phone", "rate"], [Point(8)]))
    raw, phone, ours = comparison.rows
    assert not any(row.attacks or row.attributes for row in comparison.rows)
    assert raw.rate_bits is None
    assert isinstance(phone.rate_bits, RateBits)
    assert phone.rate_bits.mean == pytest.approx(1), "one of two answers"
    assert isinstance(ours.rate_bits, RateBits)
    assert (tmp_path / "out" / "comparison.png").exists()


def test_there_is_no_provider_without_a_cloud_network(tmp_path: Path) -> None:
    (row,) = compare(CompareConfig(**CONFIG), tmp_path / "out", choose_rows(["on-phone"], [Point(8)])).rows
    assert any("provider was left out" in note for note in row.notes)
    assert {"probe", "output"} <= {attack.attack for attack in row.attacks}


def test_the_table_names_every_row(
    finished: tuple[Comparison, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    show_comparison(finished[0])
    shown = capsys.readouterr().out
    assert all(row.id in shown for row in finished[0].rows)
    assert "no bound" in shown
    assert "million MACs" in shown


def row_of(
    like: ComparisonRow, name: str, accuracy: float, nag: tuple[float, float, float], *, ours: bool
) -> ComparisonRow:
    """A row with this accuracy and this NAG: estimate, low, high."""
    desired = tuple(one.model_copy(update={"accuracy": accuracy}) for one in like.desired)
    figures = {"nag_label_only": nag[0], "nag_label_only_ci95": nag[1:]}
    attributes = tuple(one.model_copy(update=figures) for one in like.attributes)
    update = {"id": name, "method": name, "ours": ours, "desired": desired, "attributes": attributes}
    return like.model_copy(update=update)


def test_ours_stand_beside_every_other_method_of_the_same_accuracy(
    finished: tuple[Comparison, Path],
) -> None:
    like = finished[0].rows[0]
    others = [
        ("leaky", 0.85, (0.9, 0.8, 1.0)),  # beaten by all of ours
        ("equal", 0.854, (0.06, 0.02, 0.09)),  # within half a point of "low"
        ("tight", 0.79, (0.0, 0.0, 0.01)),  # leaks less than ours
        ("accurate", 0.9, (0.5, 0.4, 0.6)),
    ]
    ours = [("low", 0.85, (0.05, 0.02, 0.08)), ("high", 0.87, (0.3, 0.2, 0.4))]
    rows = [row_of(like, *values, ours=False) for values in others]
    rows += [row_of(like, *values, ours=True) for values in ours]
    # The paper's own scheme is not counted as ours.
    rows += [row_of(like, "literal", 0.95, (0.7, 0.6, 0.8), ours=True)]
    found = {one.method: (one.ours, one.result) for one in match_comparisons(tuple(rows))}
    assert found == {
        "leaky": ("low", "less"),
        "equal": ("low", "inconclusive"),
        "tight": ("low", "more"),
        "accurate": (None, "unmatched"),
        "literal": (None, "unmatched"),
    }


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    figure.draw_without_rendering()
    place(axes, [Label(f"method {n}", 0.02 + 0.01 * n, 0.5) for n in range(8)])
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 8
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(box.x0 >= axes.bbox.x0 for box in boxes)


def test_tables_are_written_as_markdown(finished: tuple[Comparison, Path]) -> None:
    comparison, out = finished
    text = (out / "comparison.md").read_text()
    assert {match.method for match in comparison.matched_comparisons} == {"jpeg", "arden"}
    assert text.count("| jpeg |") == 3  # privacy, beside ours, price
    assert "| rate-8 |" in text


def old_form(comparison: Comparison) -> dict[str, Any]:
    """The comparison as the release before wrote it."""
    values: dict[str, Any] = json.loads(json.dumps(comparison.to_json()))
    values["schema"] = "sfumato-comparison/1"
    for row in values["rows"]:
        row["told_bits"] = row.pop("leakage_bound_bits")
        for attack in row["attacks"]:  # the reader of audit.json knows these
            attack["on"] = attack.pop("input")
    values["standings"] = values.pop("matched_comparisons")
    old_words = {"inconclusive": "open", "unmatched": "none"}
    for match in values["standings"]:
        result = match.pop("result")
        match["verdict"] = old_words.get(result, result)
    return values


def test_files_of_the_release_before_are_read(
    finished: tuple[Comparison, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison, _ = finished
    write_json(tmp_path / "comparison.json", comparison.to_json())
    assert read_comparison(tmp_path / "comparison.json") == comparison
    assert capsys.readouterr().err == ""
    values = old_form(comparison)
    write_json(tmp_path / "comparison.json", values)
    write_json(tmp_path / "row.json", values["rows"][2])
    assert read_comparison(tmp_path / "comparison.json") == comparison
    assert "the schema of an earlier release" in " ".join(capsys.readouterr().err.split())
    assert read_row(tmp_path / "row.json") == comparison.rows[2]
    write_json(tmp_path / "comparison.json", {**values, "schema": "sfumato-comparison/9"})
    with pytest.raises(SfumatoError, match="reads sfumato-comparison/2 and sfumato-comparison/1"):
        read_comparison(tmp_path / "comparison.json")
    write_json(tmp_path / "comparison.json", {**values, "surprise": 1})
    with pytest.raises(SfumatoError, match="surprise: Extra inputs"):
        read_comparison(tmp_path / "comparison.json")


def test_weights_in_the_old_folder_are_found(
    finished: tuple[Comparison, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, out = finished
    (out / "methods").rename(out / "peers")
    (out / "rows" / "jpeg.json").unlink()

    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(runner, "train_method", never)
    after = compare(CompareConfig(**CONFIG), out, choose_rows(["jpeg"], [Point(8)]))
    assert after.rows[0].attributes == before.rows[0].attributes
    assert not (out / "peers").exists()


def test_a_split_method_refuses_a_cloud_network_it_cannot_cut() -> None:
    from sfumato.compare.methods.parts import split

    with pytest.raises(UsageError, match="built-in cloud network"):
        split(torch.nn.Linear(2, 2))


def test_the_old_name_of_methods_is_taken_for_one_release(tmp_path: Path) -> None:
    wanted = ["--data", CONFIG["data"], "--keep", "smiling", "--out", str(tmp_path / "out")]
    for option, said in (("--methods", False), ("--peers", True)):
        done = CliRunner().invoke(app, ["compare", *wanted, option, "gap"])
        assert isinstance(done.exception, UsageError)
        assert "unknown method 'gap': known are all, raw" in str(done.exception)
        assert ("--peers is called --methods now" in " ".join(done.stderr.split())) is said
