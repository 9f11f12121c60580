"""Tokens that come and go while a service runs, and the commands that make and revoke them."""

import json
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.server.auth import TokenFile, Tokens, add_tokens, known_tokens, revoke_tokens

FIRST = "0123456789abcdef-first"


def bearer(token: str) -> str:
    return f"Bearer {token}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.txt"
    file.write_text(f"# phones\nfirst {FIRST}\n\n", encoding="utf-8")
    file.chmod(0o600)
    return file


def test_who_is_added_or_revoked_is_known_or_refused_by_the_next_request(path: Path) -> None:
    known = known_tokens(path)
    assert isinstance(known, TokenFile)
    assert known.holder(bearer(FIRST)) == "first"
    made = add_tokens(path, ["second", "third"])
    assert known.holder(bearer(made["second"])) == "second"
    revoke_tokens(path, ["first", "third"])
    assert known.holder(bearer(FIRST)) is None
    assert known.holder(bearer(made["third"])) is None
    assert known.holder(bearer(made["second"])) == "second"
    assert path.read_text(encoding="utf-8").startswith("# phones\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    revoke_tokens(path, ["second"])  # nobody is left, and nobody is let in
    assert known.holder(bearer(made["second"])) is None


def test_an_edit_of_equal_length_and_time_is_seen(path: Path) -> None:
    known = TokenFile(path)
    before = path.stat()
    other = FIRST[:-1] + "x"
    scratch = path.with_name("scratch")
    scratch.write_text(path.read_text(encoding="utf-8").replace(FIRST, other), encoding="utf-8")
    scratch.chmod(0o600)
    os.utime(scratch, ns=(before.st_atime_ns, before.st_mtime_ns))
    scratch.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert (known.holder(bearer(FIRST)), known.holder(bearer(other))) == (None, "first")


@pytest.mark.parametrize("damage", ["half a li", "first short\n", "gone", "open", "\xff"])
def test_a_damaged_file_leaves_the_last_whole_one_and_is_said(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = TokenFile(path)
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "open":
        path.chmod(0o644)
    else:
        path.write_bytes(damage.encode("latin-1"))
    with caplog.at_level("ERROR"):
        assert known.holder(bearer(FIRST)) == "first"
        assert known.holder(bearer(FIRST)) == "first"
    assert [record.message for record in caplog.records] == ["tokens cannot be read: those of before stay"]
    assert FIRST not in caplog.text
    path.write_bytes(whole.replace(b"first ", b"renamed "))
    path.chmod(0o600)
    assert known.holder(bearer(FIRST)) == "renamed"


def test_a_service_does_not_start_with_a_file_without_tokens(path: Path) -> None:
    path.write_text("# nobody\n", encoding="utf-8")
    with pytest.raises(SfumatoError, match="holds no token"):
        known_tokens(path)


def test_a_thousand_tokens_are_told_apart() -> None:
    names = [f"phone-{number}" for number in range(1000)]
    text = "".join(f"{name} {name:0>24}\n" for name in names)
    known = Tokens.parse(text, "the test")
    assert [known.holder(bearer(f"{name:0>24}")) for name in names] == names
    for wrong in (
        None,
        "",
        "Basic x",
        "Bearer",
        bearer("phone-1"),
        bearer(f"{'phone-1000':0>24}"),
        bearer("\ud800"),
    ):
        assert known.holder(wrong) is None


@pytest.mark.parametrize("names", [["first"], ["a b"], ["#x"], [""], ["new", "first"], ["x" * 65]])
def test_names_that_cannot_be_added_change_nothing(path: Path, names: list[str]) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError):
        add_tokens(path, names)
    with pytest.raises(UsageError):
        revoke_tokens(path, ["first", "nobody"])
    assert path.read_bytes() == before


def test_the_commands(tmp_path: Path) -> None:
    run, path = CliRunner().invoke, tmp_path / "tokens.txt"
    made = run(app, ["tokens", "add", "anna", "ben", "--tokens", str(path), "--json"])
    assert made.exit_code == 0, made.output
    tokens = json.loads(made.stdout)["tokens"]
    known = TokenFile(path)
    assert {name: known.holder(bearer(token)) for name, token in tokens.items()} == {
        "anna": "anna",
        "ben": "ben",
    }
    listed = run(app, ["tokens", "list", "--tokens", str(path)])
    assert listed.stdout.split() == ["anna", "ben"]
    assert run(app, ["tokens", "revoke", "anna", "--tokens", str(path)]).exit_code == 0
    assert known.holder(bearer(tokens["anna"])) is None
    assert isinstance(run(app, ["tokens", "revoke", "anna", "--tokens", str(path)]).exception, UsageError)
    assert [file.name for file in tmp_path.iterdir()] == ["tokens.txt"]
