"""The tables of own and given networks: rows are kept, pages follow from them, and three networks go all the way."""

from pathlib import Path
from typing import Any

import pytest

from sfumato.bench import given_networks, own_networks
from sfumato.bench.kept_rows import fill
from sfumato.bench.own_networks import drawn_faces, measure
from sfumato.bench.small_networks import NETWORKS
from sfumato.channels import create
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import read_object
from sfumato.models.own_local import check_maps

ROOT = Path(__file__).resolve().parents[2]


def test_rows_are_kept_and_only_missing_ones_are_made(tmp_path: Path) -> None:
    file, made = tmp_path / "new" / "rows.json", []

    def make(key: str) -> dict[str, Any]:
        made.append(key)
        if key == "c" and made.count("c") == 1:
            raise KeyboardInterrupt
        return {"key": key, "words": ""}

    with pytest.raises(KeyboardInterrupt):
        fill(file, ["a", "b", "c"], make, schema="s/1", made_with={"torch": "1"})
    assert list(read_object(file)["rows"]) == ["a", "b"]
    table = fill(file, ["b", "c", "a"], make, schema="s/1", made_with={"torch": "1"})
    assert list(table["rows"]) == ["b", "c", "a"]
    assert made == ["a", "b", "c", "c"]
    assert table == read_object(file)
    fill(file, ["a"], make, schema="s/1", made_with={"torch": "2"})  # of another version: nothing stays
    assert made[4:] == ["a"]
    file.write_text("[")
    with pytest.raises(SfumatoError, match="JSON"):
        fill(file, ["a"], make, schema="s/1", made_with={})


@pytest.mark.parametrize("module", [own_networks, given_networks])
def test_the_page_is_what_the_rows_say(module: Any) -> None:
    name = "own-networks" if module is own_networks else "given-networks"
    table = read_object(ROOT / "benchmarks" / "results" / f"{name}.json")
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert page == module.render(table)
    assert table["schema"] == module.SCHEMA
    assert f"docs/{name}.md" in page


def test_three_networks_are_converted_and_compared() -> None:
    images = drawn_faces(8)
    for name in ("resnext", "super_resolution"):
        row = measure(name, "direct", images)
        assert row.words == ""
        assert row.float32_difference is not None
        assert row.float32_difference < 1e-5
        assert row.int8_psnr is not None
        assert row.int8_psnr > 30
        assert (row.float32_partitions, row.int8_partitions, row.nnapi_refuses) == (1, 1, {})
    row = measure("convnext", "direct", images)
    assert "does not know: Div, Erf, LayerNormalization, MatMul" in row.words
    assert row.float32_difference is None


def test_what_is_named_before_training_is_what_no_converter_brings_to_a_phone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = read_object(ROOT / "benchmarks" / "results" / "own-networks.json")["rows"]
    channel = create("dither", levels=2)
    for name, (make, _) in NETWORKS.items():
        passes = any(not rows[f"{name} {way}"]["words"] for way in own_networks.CONVERTERS)
        check_maps(make(dict(channel.maps), own_networks.SIZE), channel, own_networks.SIZE, name)
        assert ("no phone's delegate takes them" in capsys.readouterr().err.replace("\n", " ")) != passes, (
            name
        )


def test_there_are_twenty_and_names_are_checked() -> None:
    assert len(NETWORKS) == 20
    with pytest.raises(UsageError, match="unknown network 'unet'"):
        own_networks.main(networks="unet", converters="", out=None, page_file=None, as_json=False)
    with pytest.raises(UsageError, match="unknown converter 'nnef'"):
        own_networks.main(networks="u_net", converters="nnef", out=None, page_file=None, as_json=False)
