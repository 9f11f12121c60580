"""What a maker states holds for these very files alone; whatever is edited, swapped or signed by another is refused."""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.runtime.test_verify import edit, make_keys, reseal
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError
from sfumato.runtime.attestation import (
    AUDIT,
    EXPORT,
    FILE,
    PAYLOAD,
    STATEMENT,
    attest,
    check_attestation,
    encoded,
    seal,
)
from sfumato.runtime.contract import FILE as CONTRACT
from sfumato.runtime.makers import remember
from sfumato.runtime.signing import read_private_key, read_public_key, sign
from sfumato.runtime.verification import Check, verify

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_audit(folder: Path, name: str = "audit.json", **values: Any) -> None:
    """As much of an audit as a statement repeats."""
    audit = {
        "schema": "sfumato-audit/3",
        "verdict": "not_passed",
        "plan": "default",
        "seed": 0,
        "desired": [{"name": "glasses", "accuracy": 0.91}],
        "attributes": [
            {"name": "smiling", "declared": True, "best": {}, "gains": [{"nag": 0.31}], "notes": []}
        ],
        "attacks": [{"accuracy": 0.7}],
        "basis": {"files": {CONTRACT: digest(folder / CONTRACT)}, "data": "d" * 64},
        **values,
    }
    (folder / name).write_text(json.dumps(audit), encoding="utf-8")


@pytest.fixture
def maker(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path)


@pytest.fixture
def attested(bundle: Path, maker: tuple[Path, Path]) -> Path:
    """Signed, audited, attested."""
    key = read_private_key(maker[0])
    sign(bundle, key)
    write_audit(bundle)
    attest(bundle, key)
    return bundle


def attestation(folder: Path, **options: Any) -> Check:
    return next(check for check in verify(folder, **options).checks if check.name == "attestation")


def envelopes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]


def write_envelopes(folder: Path, lines: list[Any]) -> None:
    (folder / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_statements_name_every_file_and_the_signature_is_that_of_dsse(
    attested: Path, maker: tuple[Path, Path]
) -> None:
    export, audit = envelopes(attested)
    key = read_public_key(maker[1])
    for envelope in (export, audit):
        assert envelope["payloadType"] == "application/vnd.in-toto+json"
        payload = base64.b64decode(envelope["payload"])
        # As DSSE writes it down, by hand.
        signed = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
        key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    stated = json.loads(base64.b64decode(export["payload"]))
    assert (stated["_type"], stated["predicateType"]) == (STATEMENT, EXPORT)
    contract = json.loads((attested / CONTRACT).read_text(encoding="utf-8"))
    assert {one["name"]: one["digest"]["sha256"] for one in stated["subject"]} == {
        name: digest(attested / name) for name in [CONTRACT, *(one["name"] for one in contract["files"])]
    }
    stated = json.loads(base64.b64decode(audit["payload"]))
    assert stated["predicateType"] == AUDIT
    assert {one["name"]: one["digest"]["sha256"] for one in stated["subject"]} == {
        name: digest(attested / name) for name in (CONTRACT, "audit.json")
    }
    assert stated["predicate"]["verdict"] == "not_passed"
    assert stated["predicate"]["attributes"][0]["gains"] == [{"nag": 0.31}]
    assert "notes" not in stated["predicate"]["attributes"][0]


def test_other_readers_of_envelopes_agree(attested: Path, maker: tuple[Path, Path]) -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[import-not-found]

    for line in envelopes(attested):
        (signature,) = line["signatures"]
        key = SSlibKey.from_crypto(read_public_key(maker[1]), keyid=signature["keyid"])
        assert dsse.Envelope.from_dict(line).verify([key], 1)
    payload = base64.b64decode(envelopes(attested)[0]["payload"])
    theirs = dsse.Envelope(payload, PAYLOAD, {})
    theirs.sign(CryptoSigner(read_private_key(maker[0])))
    write_envelopes(attested, [theirs.to_dict(), envelopes(attested)[1]])
    check_attestation(attested, read_public_key(maker[1]))


def test_the_commands_write_and_check_it(bundle: Path, maker: tuple[Path, Path]) -> None:
    private, public = map(str, maker)
    write_audit(bundle)
    write_audit(bundle, "audit-strength-64.json", verdict="passed", seeds=[0, 1, 2])
    done = CliRunner().invoke(app, ["attest", str(bundle), "--sign-with", private, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["audits"] == {
        "audit.json": "not passed, plan default, seed 0",
        "audit-strength-64.json": "passed, plan default, seed 0, 1, 2",
    }
    sign(bundle, read_private_key(maker[0]))
    done = CliRunner().invoke(app, ["verify", str(bundle), "--public-key", public, "--attested"])
    assert done.exit_code == 0, done.output
    assert "audit.json (not passed, plan default, seed 0)" in done.stdout


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        (lambda v: v["desired"][0].update(accuracy=0.99), "audit.json is not the audit that is attested"),
        (lambda v: v["attacks"].clear(), "audit.json is not the audit that is attested"),
        (lambda v: v.update(verdict="passed"), "audit.json is not the audit that is attested"),
        (
            lambda v: v["basis"]["files"].update({CONTRACT: "0" * 64}),
            "audit.json is an audit of another export",
        ),
    ],
)
def test_an_edited_audit_is_refused(
    attested: Path, maker: tuple[Path, Path], edited: Edit, said: str
) -> None:
    values = json.loads((attested / "audit.json").read_text(encoding="utf-8"))
    edited(values)
    (attested / "audit.json").write_text(json.dumps(values), encoding="utf-8")
    found = attestation(attested, public_key=maker[1])
    assert found.state == "failed"
    assert said in found.detail


def test_edited_statements_and_signatures_are_refused(attested: Path, maker: tuple[Path, Path]) -> None:
    whole, key = envelopes(attested), read_public_key(maker[1])

    def refused(lines: list[Any], said: str) -> None:
        write_envelopes(attested, lines)
        with pytest.raises(SfumatoError, match=said):
            check_attestation(attested, key)
        assert attestation(attested, public_key=maker[1]).state == "failed"

    def with_payload(envelope: dict[str, Any], change: Edit) -> dict[str, Any]:
        stated = json.loads(base64.b64decode(envelope["payload"]))
        change(stated)
        return {**envelope, "payload": base64.b64encode(json.dumps(stated).encode()).decode()}

    better = with_payload(whole[1], lambda v: v["predicate"].update(verdict="passed"))
    refused([whole[0], better], "line 2 is not this key's")
    refused([{**whole[0], "payloadType": "text/plain"}, whole[1]], "holds 'text/plain'")
    refused([whole[1]], "has not one statement about the export")
    refused([*whole, whole[1]], "two statements about audit.json")
    refused([{**whole[0], "signatures": []}], "is not this key's")
    others: list[Any] = [
        {},
        [],
        3,
        None,
        {**whole[0], "payload": "?"},
        {**whole[0], "signatures": [{"sig": 1}]},
    ]
    for broken in others:
        refused([broken], "is no envelope")
    flipped = bytearray(base64.b64decode(whole[0]["signatures"][0]["sig"]))
    flipped[0] ^= 1
    refused(
        [{**whole[0], "signatures": [{"sig": base64.b64encode(flipped).decode()}]}, whole[1]],
        "line 1 is not this key's",
    )
    write_envelopes(attested, whole)
    assert attestation(attested, public_key=maker[1]).state == "ok"


def test_a_signature_of_something_else_of_the_maker_is_none(attested: Path, maker: tuple[Path, Path]) -> None:
    """The maker's key signs contracts too: neither can be taken for the other."""
    signature = base64.b64decode((attested / "contract.sig").read_bytes())
    content = (attested / CONTRACT).read_bytes()
    forged = {
        "payload": base64.b64encode(content).decode(),
        "payloadType": PAYLOAD,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    write_envelopes(attested, [forged])
    with pytest.raises(SfumatoError, match="is not this key's"):
        check_attestation(attested, read_public_key(maker[1]))


def test_figures_edited_and_signed_again_by_the_maker_are_what_only_a_repetition_finds(
    attested: Path, maker: tuple[Path, Path]
) -> None:
    """A signature says who states something, not that it is true: docs/attestation.md says so."""
    write_audit(attested, desired=[{"name": "glasses", "accuracy": 1.0}], verdict="passed")
    attest(attested, read_private_key(maker[0]))
    assert attestation(attested, public_key=maker[1]).state == "ok"


def test_a_resealed_contract_or_file_is_refused(attested: Path, maker: tuple[Path, Path]) -> None:
    """A forger without the key writes contract and digests anew."""
    model = attested / "local.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    reseal(attested, "local.onnx")
    with pytest.raises(SfumatoError, match="is about another export"):
        check_attestation(attested, read_public_key(maker[1]))
    with pytest.raises(SfumatoError, match="is not this key's signature"):
        attest(attested, read_private_key(maker[0]))


def test_another_key_another_exports_statement_and_a_removed_one_are_refused(
    attested: Path, maker: tuple[Path, Path], tmp_path: Path
) -> None:
    other = Ed25519PrivateKey.generate()
    with pytest.raises(SfumatoError, match="was signed with another key"):
        attest(attested, other)
    whole = envelopes(attested)
    statement = json.loads(base64.b64decode(whole[0]["payload"]))
    write_envelopes(attested, [seal(statement, other), whole[1]])
    assert attestation(attested, public_key=maker[1]).state == "failed"
    copy = tmp_path / "copy"
    shutil.copytree(attested, copy)
    write_envelopes(copy, whole)
    edit(copy, lambda values: values["figures"].clear())
    sign(copy, read_private_key(maker[0]))
    assert "is about another export" in attestation(copy, public_key=maker[1]).detail
    (copy / FILE).unlink()
    assert attestation(copy, public_key=maker[1]).state == "left out"
    assert attestation(copy, public_key=maker[1], attested=True).state == "failed"


def test_without_a_key_from_elsewhere_a_statement_binds_nobody(
    attested: Path, maker: tuple[Path, Path]
) -> None:
    assert attestation(attested).state == "warning"
    found = attestation(attested, attested=True)
    assert (found.state, "give --public-key" in found.detail) == ("failed", True)
    remember(attested, read_public_key(maker[1]))
    assert attestation(attested, attested=True).state == "ok"


def test_a_copy_without_the_audit_verifies_unless_it_is_demanded(
    attested: Path, maker: tuple[Path, Path]
) -> None:
    (attested / "audit.json").unlink()
    found = attestation(attested, public_key=maker[1])
    assert (found.state, "audit.json, which is not in this copy" in found.detail) == ("ok", True)
    assert attestation(attested, public_key=maker[1], attested=True).state == "failed"


def test_a_further_audit_is_said_to_be_unattested(attested: Path, maker: tuple[Path, Path]) -> None:
    write_audit(attested, "audit-strength-64.json", verdict="passed")
    found = attestation(attested, public_key=maker[1])
    assert found.detail.endswith("nothing is stated about audit-strength-64.json")
    assert attestation(attested, public_key=maker[1], attested=True).state == "failed"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"basis": None}, "does not name the files and data"),
        ({"basis": {"files": {}}}, "is an audit of another export"),
        ({"schema": "sfumato-bench/1"}, "is no audit"),
        ({"attributes": 3}, "its attributes are damaged"),
        ({"seconds": float("nan")}, "NaN is no number"),
    ],
)
def test_what_cannot_be_stated_leaves_no_file(
    bundle: Path, maker: tuple[Path, Path], values: dict[str, Any], said: str
) -> None:
    write_audit(bundle, **values)
    with pytest.raises(SfumatoError, match=said):
        attest(bundle, read_private_key(maker[0]))
    assert not (bundle / FILE).exists()


def test_the_test_vector_of_dsse() -> None:
    assert encoded("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
