"""A key for every service and a new one from some day on: what is shared, what is not, and what the ledger makes of it."""

import hashlib
import hmac
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.runtime.keyring import KeyRing, device_keys, rotate
from sfumato.runtime.ledger import Draw, Ledger, device_ledger
from sfumato.runtime.phone_model import PhoneModel

KEY = bytes(range(32))
DAY = 86_400.0


def key_file(folder: Path, content: bytes | str) -> Path:
    path = folder / "device.key"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return path


def at(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() + 1


def test_the_key_of_a_service_is_hkdf_of_secret_and_name() -> None:
    """By RFC 5869, step by step."""
    extracted = hmac.digest(bytes(32), KEY, hashlib.sha256)
    expected = hmac.digest(extracted, b"sfumato-service-key-v1\0photos.example\x01", hashlib.sha256)
    assert KeyRing.of(KEY).for_service("photos.example") == expected


def test_no_two_services_devices_or_secrets_share_a_key() -> None:
    rng = np.random.default_rng(0)
    names = ["photos.example", "photos.example.", "files", "127.0.0.1", "a", "ab", "b"]
    rings = [KeyRing((("", rng.bytes(32)), ("2027-01-01", rng.bytes(32)))) for _ in range(40)]
    found = {r.for_service(n, d) for r in rings for n in names for d in ("2026-12-31", "2027-01-01")}
    roots = {key for ring in rings for _, key in ring.secrets}
    assert len(found | roots) == 40 * 2 * len(names) + 80


@pytest.mark.parametrize("content", [KEY, KEY.hex(), KEY.hex() + "\n"])
def test_a_key_file_as_it_ever_was_is_a_ring_of_one(tmp_path: Path, content: bytes | str) -> None:
    assert KeyRing.read(key_file(tmp_path, content)).secrets == (("", KEY),)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{KEY.hex()}\n2027-01-01 {'1' * 64}\n2026-01-01 {'2' * 64}\n", "days are out of order"),
        (f"{KEY.hex()}\n2027-01-01 {'1' * 64}\n2027-01-01 {'2' * 64}\n", "days are out of order"),
        (f"{KEY.hex()}\n2027-01-01 {KEY.hex()}\n", "a key is there twice"),
        (f"{KEY.hex()}\n2027-01-01 {'0' * 64}\n", "holds zeros"),
        (f"{KEY.hex()}\n2027-13-01 {'1' * 64}\n", "is no day"),
        (f"{KEY.hex()}\n{'1' * 64}\n", "lines of a day and a key"),
        ("", "is no device key"),
        (KEY + b"x", "is no device key"),
    ],
)
def test_anything_else_is_no_ring(tmp_path: Path, content: bytes | str, said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        KeyRing.read(key_file(tmp_path, content))


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = key_file(tmp_path, KEY)
    path.chmod(0o640)
    with pytest.raises(SfumatoError, match="chmod 600"):
        KeyRing.read(path)


def test_a_new_key_holds_from_its_day_on_and_the_old_one_before(tmp_path: Path) -> None:
    path = key_file(tmp_path, KEY.hex() + "\n")
    now = at("2026-12-30")
    rotate(path, "2027-01-01", clock=lambda: now)
    ring = rotate(path, "2027-06-01", clock=lambda: now)
    assert ring == KeyRing.read(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["device.key"]
    days = {
        "2020-01-01": 0,
        "2026-12-31": 0,
        "2027-01-01": 1,
        "2027-05-31": 1,
        "2027-06-01": 2,
        "2099-01-01": 2,
    }
    for day, number in days.items():
        assert ring.secret(day) == ring.secrets[number][1]
    assert ring.secrets[0] == ("", KEY)
    assert ring.ledger == KEY
    later = KeyRing(ring.secrets, clock=lambda: at("2027-03-01"))
    assert (
        later.for_service("a") == ring.for_service("a", "2027-03-01") != ring.for_service("a", "2026-12-30")
    )


@pytest.mark.parametrize("day", ["2026-12-29", "2027-01-01", "2026-12-31", "soon", "2027-02-30"])
def test_a_day_that_has_passed_or_is_none_changes_nothing(tmp_path: Path, day: str) -> None:
    path = key_file(tmp_path, KEY.hex())
    rotate(path, "2027-01-01", clock=lambda: at("2026-12-30"))
    before = path.read_bytes()
    with pytest.raises(UsageError):
        rotate(path, day, clock=lambda: at("2026-12-30"))
    assert path.read_bytes() == before


def test_a_ring_shows_no_secret() -> None:
    assert KEY.hex() not in repr(KeyRing.of(KEY))
    assert repr(KEY) not in repr(KeyRing.of(KEY))
    assert len(KeyRing.of(KEY).key_id("a")) == 16


def test_draws_of_old_and_new_keys_add_up_and_a_clock_put_back_makes_none(
    drawn_bundle: Path, tmp_path: Path
) -> None:
    """One photo, one service: before the new key, after it, and after the clock was put back before it again."""
    path, phone = key_file(tmp_path, KEY.hex()), PhoneModel.load(drawn_bundle)
    rotate(path, "2027-01-01", clock=lambda: at("2026-12-30"))
    photo = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    keys, _ = device_ledger(path, tmp_path / "unused")
    now = at("2026-12-30")
    ledger = Ledger(tmp_path / "ledger", keys.ledger, clock=lambda: now)
    bits, draws = [], []
    for day in ("2026-12-30", "2026-12-31", "2027-01-01", "2027-01-02", "2026-12-31"):
        now = at(day)
        upload = phone.perturb(photo, key=keys.for_service("photos.example", day))
        draws.append(upload.draw)
        bits.append(ledger.spend("photos.example", Draw(upload.draw, upload.rate_bits)).total.microbits)
    one = bits[0]
    assert one > 0
    assert bits == [one, one, 2 * one, 2 * one, 2 * one]
    assert len(set(draws)) == 2
    assert draws[0] == draws[4]
    # The account is one file under one key before and after.
    assert Ledger(tmp_path / "ledger", KEY).account("photos.example").total.uploads == 5


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    run = CliRunner().invoke
    done = run(app, ["keys", "show", "photos.example", "other.example", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)["keys"]
    keys = device_keys()
    assert [one["id"] for one in shown] == [keys.key_id("photos.example"), keys.key_id("other.example")]
    assert keys.secrets[0][1].hex() not in done.output
    assert run(app, ["keys", "rotate", "--from", "2999-01-01"]).exit_code == 0
    assert [day for day, _ in device_keys().secrets] == ["", "2999-01-01"]
    assert len(json.loads(run(app, ["keys", "show", "a", "--json"]).stdout)["keys"]) == 2
    out = tmp_path / "one.key"
    assert run(app, ["keys", "service", "photos.example", "--out", str(out)]).exit_code == 0
    assert out.read_text().strip() == keys.for_service("photos.example").hex()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    again = run(app, ["keys", "service", "photos.example", "--out", str(out)])
    assert isinstance(again.exception, SfumatoError)
    for wrong in (["keys", "rotate", "--from", "1999-01-01"], ["keys", "show", "Two Words"]):
        assert isinstance(run(app, wrong).exception, UsageError)
