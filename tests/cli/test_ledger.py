"""`sfumato ledger` as a user meets it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sfumato.cli import ledger as command
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.runtime.ledger import Draw, Ledger, ledger_path
from sfumato.runtime.sealed_log import LogError

KEY = bytes(range(32))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command.app, [str(argument) for argument in arguments])


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "device.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


def test_accounts_are_shown(key: Path) -> None:
    book = Ledger(ledger_path(key), KEY)
    book.spend("photos.example", Draw(b"a" * 16, 9.01))
    book.spend("b.example", Draw(b"a" * 16, 1))
    told = json.loads(run("--key", key, "--json").stdout)
    assert told == json.loads(run("show", "--key", key, "--json").stdout)
    assert [account["service"] for account in told["services"]] == ["b.example", "photos.example"]
    assert told["services"][1]["total"] == {"uploads": 1, "draws": 1, "bits": 9.01, "unbounded": 0}
    shown = run("--key", key)
    assert "9.1" in shown.stdout
    assert "Today 1 photo, at most 9.1 bits to photos.example; no limit is set." in " ".join(
        shown.stderr.split()
    )


def test_a_limit_is_set_and_lifted(key: Path) -> None:
    said = run("limit", "photos.example", "--per-day", "100", "--key", key)
    assert "the limit is 100." in " ".join(said.stderr.split())
    assert run("limit", "*", "--total", "7.5", "--key", key).exit_code == 0
    book = Ledger(ledger_path(key), KEY)
    assert (book.account("photos.example").limit.day, book.account("b.example").limit.total) == (
        10**8,
        7_500_000,
    )
    assert run("limit", "photos.example", "--none", "--key", key).exit_code == 0
    assert book.account("photos.example").limit.day is None
    for wrong in (["--none", "--total", "1"], [], ["--per-day", "-1"]):
        assert isinstance(run("limit", "photos.example", *wrong, "--key", key).exception, UsageError)
    assert isinstance(run("limit", "Two Words", "--total", "1", "--key", key).exception, UsageError)


def test_cameras_have_accounts_of_their_own(key: Path) -> None:
    assert "nothing came from a camera yet" in run("cameras", "--key", key).stderr
    book = Ledger(ledger_path(key), KEY)
    book.spend_many("photos.example", [Draw(b"a" * 16, 9.01), Draw(b"b" * 16, 1)], camera="door")
    told = json.loads(run("cameras", "--key", key, "--json").stdout)
    assert told["schema"] == "sfumato-cameras/1"
    (camera,) = told["cameras"]
    assert (camera["camera"], camera["service"]) == ("door", "photos.example")
    assert camera["total"] == {"uploads": 2, "draws": 2, "bits": 10.01, "unbounded": 0}
    assert sum(hour["bits"] for hour in camera["hours"].values()) == pytest.approx(10.01)
    assert [one["service"] for one in json.loads(run("--key", key, "--json").stdout)["services"]] == [
        "photos.example"
    ]
    said = run("limit", "door@photos.example", "--per-day", "12", "--key", key)
    assert "the limit is 12." in " ".join(said.stderr.split())
    shown = run("cameras", "--key", key)
    assert "10.1" in shown.stdout
    assert "at most 10.1 bits to door@photos.example; the limit is 12." in " ".join(shown.stderr.split())
    assert isinstance(run("limit", "Door@photos.example", "--total", "1", "--key", key).exception, UsageError)


def test_a_damaged_ledger_says_what_to_do_and_is_repaired(key: Path) -> None:
    path = ledger_path(key)
    book = Ledger(path, KEY)
    for number in range(3):
        book.spend("photos.example", Draw(bytes([number]) * 16, 1))
    path.write_bytes(path.read_bytes()[:-9])
    result = run("--key", key)
    assert isinstance(result.exception, LogError)
    assert "`sfumato ledger repair`" in str(result.exception)
    assert "\n" not in str(result.exception)
    said = " ".join(run("repair", "--key", key).stderr.split())
    assert said.startswith("kept 3 entries; the file as it was is")
    assert json.loads(run("--key", key, "--json").stdout)["services"][0]["entries_lost"]
    assert run("clock", "--key", key).exit_code == 0


def test_looking_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert json.loads(run("--json").stdout)["services"] == []
    assert "nothing was sent from here yet" in run().stderr
    for name in ("clock", "repair"):
        assert isinstance(run(name).exception, SfumatoError)
    assert list(tmp_path.iterdir()) == []
