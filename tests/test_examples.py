"""The Python examples of the documents do what they say."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.fixtures.plans import HASTY

from sfumato.audit.plan import PLANS, QUICK

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"


@pytest.mark.slow
def test_from_data_to_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block of docs/api.md, as it stands, with attackers that hardly learn."""
    block = re.search(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # where the device key is made
    more = {"control": QUICK.control, "copies": QUICK.copies}
    monkeypatch.setitem(PLANS, "quick", HASTY.model_copy(update=more))
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save("photo.jpg")
    exec(compile(block.group(1), str(PAGE), "exec"), {})
    assert (tmp_path / "exports" / "skin" / "audit.json").is_file()
    with Image.open("upload.png") as upload:
        assert upload.size[0] == 48
