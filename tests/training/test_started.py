"""A run is resumed on the data, and in the way, that it began with; what differs is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.core.errors import SfumatoError
from sfumato.core.files import write_json
from sfumato.data import open_dataset
from sfumato.training import TrainConfig, train
from sfumato.training.started import STARTED, changed, record


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (560, 16, 16, 3), dtype=np.uint8)
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(folder / f"{number:03d}.bmp")
    rows = "".join(f"{n:03d}.bmp,{n % 2},{n // 2 % 2}\n" for n in range(len(pixels)))
    (folder / "labels.csv").write_text("file,top,left\n" + rows)
    return folder


def test_resume_names_what_changed(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    config = TrainConfig(data=f"folder:{photos},size=16", keep=("top",), hide=("left",), bits=8)

    def found(auto: bool = False, now: TrainConfig = config) -> list[str]:
        return changed(out, now, open_dataset(now.data, keep=now.keep, hide=now.hide), auto=auto)

    assert found() == []
    assert "what data it began with" in " ".join(capsys.readouterr().err.split())
    write_json(out / "config.json", config.model_dump(mode="json"))
    record(out, config, open_dataset(config.data, keep=config.keep, hide=config.hide), auto=False)
    assert found() == []
    assert found(auto=True) == ["mode 'picture' (now 'auto')"]
    begun = (out / STARTED).read_text(encoding="utf-8")
    for strange in ("[]", "{}", begun.replace('"id"', '"if"'), begun.replace("started/1", "started/9")):
        (out / STARTED).write_text(strange, encoding="utf-8")
        with pytest.raises(SfumatoError, match=r"does not say what the run began with|where an object"):
            found()
    (out / STARTED).write_text(begun, encoding="utf-8")
    table = (photos / "labels.csv").read_text(encoding="utf-8")
    (photos / "labels.csv").write_text(
        table.replace("000.bmp,0,0\n", "").replace("003.bmp,1,1", "003.bmp,0,1")
    )
    with pytest.raises(SfumatoError) as caught:
        train(config.model_copy(update={"seed": 3}), out, resume=True)
    assert "\n" not in str(caught.value)
    for part in ("seed 0 (now 3)", "images 560 (now 559)", "labels.top.1 280 (now 279)", "data.id"):
        assert part in str(caught.value)
    (photos / "labels.csv").write_text(table)
    first, second = photos / "000.bmp", photos / "004.bmp"  # of equal labels
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert "other pixels, names, labels or splits" in found()[-1]


def test_a_given_file_that_was_replaced_is_noticed_and_a_lost_one_is_not_needed(
    photos: Path, tmp_path: Path
) -> None:
    cloud = tmp_path / "cloud.onnx"
    cloud.write_bytes(b"one")
    config = TrainConfig(data=f"folder:{photos},size=16", keep=("top",), bits=8, frozen_cloud=str(cloud))
    data = open_dataset(config.data, keep=config.keep)
    record(tmp_path, config, data, auto=False)
    cloud.write_bytes(b"two")
    assert [one.split()[0] for one in changed(tmp_path, config, data, auto=False)] == ["given_cloud"]
    cloud.unlink()
    assert changed(tmp_path, config, data, auto=False) == []
    assert json.loads((tmp_path / STARTED).read_text(encoding="utf-8"))["data"]["images"] == 560
