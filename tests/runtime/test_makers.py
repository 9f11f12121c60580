"""A signature binds: once a maker's key is known for a folder, nothing else passes there."""

import base64
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.test_verify import edit, make_keys, reseal

from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError
from sfumato.export.android import ASSETS, MAKER, place
from sfumato.runtime.contract import DIGESTS, FILE
from sfumato.runtime.makers import (
    check_remembered,
    forget,
    maker_file,
    remember,
    remembered_key,
    require_maker,
)
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.signing import (
    PUBLIC,
    SIGNATURE,
    raw,
    read_private_key,
    read_public_key,
    sign,
    write_digests,
)
from sfumato.runtime.verification import verify
from sfumato.server.model import CloudModel


@pytest.fixture(autouse=True)
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def signed(bundle: Path, tmp_path: Path) -> Path:
    """Signed with `maker.pem`."""
    sign(bundle, read_private_key(make_keys(tmp_path)[0]))
    return bundle


def strip(folder: Path) -> None:
    (folder / SIGNATURE).unlink()
    (folder / PUBLIC).unlink()
    write_digests(folder)


def keep_the_signature(folder: Path) -> None:
    edit(folder, lambda values: values["figures"]["rate_bits"]["mean"].update(int8=0.5))


def sign_as_another(folder: Path) -> None:
    sign(folder, read_private_key(make_keys(folder.parent, "stranger")[0]))


def damage(folder: Path) -> None:
    (folder / SIGNATURE).write_text("no base64")
    write_digests(folder)


WRONGS = {
    "stripped": strip,
    "stale": keep_the_signature,
    "of another": sign_as_another,
    "damaged": damage,
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_where_a_key_is_known_nothing_else_passes(wrong: str, signed: Path, tmp_path: Path) -> None:
    public = tmp_path / "maker.pub"
    require_maker(signed, public)
    assert PhoneModel.load(signed).perturb(np.zeros((32, 32, 3), np.uint8), key=bytes(range(32))).content
    CloudModel.load(signed)
    WRONGS[wrong](signed)
    loads: tuple[Callable[[Path], object], ...] = (
        PhoneModel.load,
        CloudModel.load,
        check_remembered,
        require_maker,
    )
    for load in loads:
        with pytest.raises(
            SfumatoError, match=r"was signed with the key [0-9a-f]{16} before, and now"
        ) as caught:
            load(signed)
        assert "\n" not in str(caught.value)
    with pytest.raises(SfumatoError, match=r"not this key's signature|cannot be read"):
        require_maker(signed, public)
    assert [check.name for check in verify(signed).failed] == ["signature"]


@pytest.mark.parametrize("wrong", WRONGS)
def test_the_first_use_remembers_the_key_that_the_export_brings(
    wrong: str, signed: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert require_maker(signed) == remembered_key(signed) == read_public_key(tmp_path / "maker.pub")
    assert "its maker's key" in " ".join(capfd.readouterr().err.split())
    assert require_maker(signed) is not None
    assert capfd.readouterr().err == ""
    WRONGS[wrong](signed)
    with pytest.raises(SfumatoError, match="before, and now"):
        require_maker(signed)
    forget(signed)
    if wrong in ("stale", "damaged"):  # the key that came with it tells, even on the first use
        with pytest.raises(SfumatoError, match="not this key's signature"):
            require_maker(signed)
    else:
        require_maker(signed)


def test_another_key_is_taken_where_the_user_names_it(signed: Path, tmp_path: Path) -> None:
    require_maker(signed)
    sign_as_another(signed)
    require_maker(signed, tmp_path / "stranger.pub")
    PhoneModel.load(signed)
    assert remembered_key(signed) == read_public_key(tmp_path / "stranger.pub")


def test_a_signature_that_no_key_checks_is_a_loud_warning(
    signed: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As exports of earlier versions are: without their key beside them."""
    (signed / PUBLIC).unlink()
    assert require_maker(signed) is None
    assert capfd.readouterr().err.startswith("WARNING: ")
    assert {check.name: check.state for check in verify(signed).checks}["signature"] == "warning"


def test_an_export_that_was_never_signed_needs_no_key(
    bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert require_maker(bundle) is None
    assert capfd.readouterr().err == ""
    assert not maker_file(bundle).exists()


def test_a_key_without_its_signature_was_stripped(signed: Path) -> None:
    (signed / SIGNATURE).unlink()
    write_digests(signed)
    with pytest.raises(SfumatoError, match=r"contract\.sig cannot be read"):
        require_maker(signed)
    assert not verify(signed).passed


def test_what_is_remembered_may_be_damaged_or_not_writable(
    signed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    require_maker(signed)
    maker_file(signed).write_text("no key")
    with pytest.raises(SfumatoError, match="is damaged: give --public-key"):
        PhoneModel.load(signed)
    require_maker(signed, tmp_path / "maker.pub")
    shutil.rmtree(tmp_path / "config")
    (tmp_path / "config").write_text("")
    require_maker(signed)
    assert "cannot be remembered" in " ".join(capfd.readouterr().err.split())


def test_folders_are_told_apart_and_by_where_they_are(signed: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(signed)
    assert maker_file(tmp_path / "link") == maker_file(signed) != maker_file(tmp_path)
    remember(signed, read_public_key(tmp_path / "maker.pub"))
    assert check_remembered(tmp_path / "link") is not None


@pytest.mark.parametrize("command", ["perturb", "send", "serve", "export"])
def test_every_command_that_uses_an_export_asks(command: str, signed: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    project = tmp_path / "app"
    (project / "app").mkdir(parents=True)
    (project / "settings.gradle.kts").write_text("")
    arguments = {
        "perturb": ["perturb", signed, "photo.jpg", "--out", tmp_path / "out"],
        "send": ["send", signed, "photo.jpg", "--server", "http://127.0.0.1:9"],
        "serve": ["serve", signed, "--port", "0"],
        "export": ["export", signed, "--android", project],
    }[command]
    _, stranger = make_keys(tmp_path, "stranger")
    shown = CliRunner().invoke(app, [*map(str, arguments), "--public-key", str(stranger)])
    assert isinstance(shown.exception, SfumatoError)
    assert "not this key's signature" in str(shown.exception)
    remember(signed, read_public_key(stranger))
    shown = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(shown.exception, SfumatoError)
    assert "before, and now" in str(shown.exception)


def test_an_app_goes_on_demanding_its_maker(signed: Path, tmp_path: Path) -> None:
    project = tmp_path / "app"
    (project / "app").mkdir(parents=True)
    (project / "settings.gradle.kts").write_text("")
    maker = read_public_key(tmp_path / "maker.pub")
    assets = place(signed, project, require_maker(signed))
    assert base64.b64decode((assets / MAKER).read_text(encoding="utf-8")) == raw(maker)
    assert {FILE, SIGNATURE, DIGESTS} <= set(os.listdir(assets))
    forget(signed)
    for wrong in (strip, sign_as_another):
        wrong(signed)
        with pytest.raises(SfumatoError, match="demands another maker's signature"):
            place(signed, project, require_maker(signed))
        forget(signed)
    stranger = read_public_key(tmp_path / "stranger.pub")
    place(signed, project, stranger, given=True)
    assert base64.b64decode((project / ASSETS / MAKER).read_text(encoding="utf-8")) == raw(stranger)


@pytest.mark.parametrize("name", ["contract.json", "contract.sha256"])
def test_the_digest_is_compared_on_every_load(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes().replace(b"0", b"1", 1))
    for load in (PhoneModel.load, CloudModel.load):
        with pytest.raises(SfumatoError, match=r"was changed after the export|contract\.json: "):
            load(bundle)


def test_other_line_ends_are_named(bundle: Path) -> None:
    content = (bundle / FILE).read_bytes()
    (bundle / FILE).write_bytes(content.replace(b"\n", b"\r\n"))
    for load in (PhoneModel.load, CloudModel.load):
        with pytest.raises(SfumatoError, match="CRLF"):
            load(bundle)
    (bundle / FILE).write_bytes(content)
    reseal(bundle, "cloud.onnx")
    PhoneModel.load(bundle)
