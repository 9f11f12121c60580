"""The Python examples of the documents do what they say."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.audit.plan import PLANS, QUICK

HASTY = QUICK.model_copy(
    update={
        "probes": ("linear",),
        "clean_probes": ("cnn",),
        "epochs": 1,
        "provider_epochs": 1,
        "clean_epochs": 1,
        "steps": 1,
        "clean_steps": 1,
        "prior_steps": 10,
    }
)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"


@pytest.mark.slow
def test_from_data_to_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block of docs/api.md, as it stands, with attackers that hardly learn."""
    block = re.search(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # where the device key is made
    monkeypatch.setitem(PLANS, "quick", HASTY)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save("photo.jpg")
    exec(compile(block.group(1), str(PAGE), "exec"), {})
    assert (tmp_path / "exports" / "skin" / "audit.json").is_file()
    with Image.open("upload.png") as upload:
        assert upload.size[0] == 32
