"""`sfumato export --android`: what lies in the app's assets, and what must not."""

from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from sfumato.cli import export
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.export.android import ASSETS, place
from sfumato.runtime.answer import TABLE
from sfumato.runtime.contract import FILE, read_contract, read_file
from sfumato.runtime.phone_model import PhoneModel


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """As much of an Android project as the command looks at."""
    (tmp_path / "phone" / "app").mkdir(parents=True)
    (tmp_path / "phone" / "settings.gradle.kts").touch()
    return tmp_path / "phone"


def test_the_app_gets_what_it_reads_and_nothing_of_the_maker(sealed: Path, project: Path) -> None:
    assets = place(sealed, project)
    assert assets == project / ASSETS
    assert sorted(path.name for path in assets.iterdir()) == [
        "contract.json",
        "contract.sha256",
        "local_int8.tflite",
        "vectors.json",
    ]
    for path in assets.iterdir():
        assert path.read_bytes() == (sealed / path.name).read_bytes()
    PhoneModel.load(assets)  # whole enough to perturb with


def test_the_app_of_a_randomised_answer_gets_its_table(drawn_bundle: Path, project: Path) -> None:
    assets = place(drawn_bundle, project)
    assert (assets / TABLE).read_bytes() == (drawn_bundle / TABLE).read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole, placed = (PhoneModel.load(folder) for folder in (drawn_bundle, assets))
    assert placed.perturb(pixels, key=bytes(32)).content == whole.perturb(pixels, key=bytes(32)).content


def test_another_export_replaces_the_first_wholly(sealed: Path, project: Path) -> None:
    (project / ASSETS).mkdir(parents=True)
    (project / ASSETS / "normal_table.bin").write_bytes(b"of a gaussian export")
    place(sealed, project)
    assert not (project / ASSETS / "normal_table.bin").exists()


def test_a_damaged_export_leaves_the_assets_as_they_were(bundle: Path, project: Path) -> None:
    assets = place(bundle, project)
    before = (assets / "local_int8.tflite").read_bytes()
    (bundle / "local_int8.tflite").write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(SfumatoError, match="sha256 differs"):
        place(bundle, project)
    contract = read_contract(assets)
    assert read_file(assets, contract.file("local_int8.tflite")) == before
    (bundle / "local_int8.tflite").write_bytes(before)
    (bundle / FILE).write_text((bundle / FILE).read_text(encoding="utf-8") + "\n")
    with pytest.raises(SfumatoError, match="changed after the export"):
        place(bundle, project)


def test_an_export_that_takes_recordings_is_refused(sound_export: Path, project: Path) -> None:
    with pytest.raises(SfumatoError, match="takes recordings, and the demo app photos alone"):
        place(sound_export, project)
    assert not (project / ASSETS).exists()


def run(*arguments: str | Path) -> None:
    app = Typer()
    app.command()(export.command)
    CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_an_export_that_is_there_is_placed(sealed: Path, project: Path) -> None:
    run(sealed, "--android", project)
    assert (project / ASSETS / FILE).read_bytes() == (sealed / FILE).read_bytes()


def test_another_folder_is_refused_before_anything_is_done(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="no Android project"):
        run(sealed, "--android", tmp_path)
    with pytest.raises(UsageError, match="--out"):
        run(sealed)
    assert list(tmp_path.iterdir()) == []
