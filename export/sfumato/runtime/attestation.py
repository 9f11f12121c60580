"""What a maker states about an export and its audits: in-toto statements (v1), each in a signed envelope (DSSE).

    attest(Path("export"), read_private_key(Path("maker.pem")))       # writes export/attestation.intoto.jsonl
    check_attestation(Path("export"), key)                             # what is stated; anything that differs is refused

One statement names every file of the export by SHA-256. One more for each audit names audit.json and the contract, and repeats
verdict, figures and basis, for readers that have the statement alone. The key is the maker's, of the contract's signature.
What such a statement proves, and what it does not: docs/attestation.md.

Sources: in-toto attestation framework, Statement v1 and Bundle; DSSE v1.0, whose encoding is one line and needs no library.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_write, parse_json, read_inside
from sfumato.runtime.contract import FILE as CONTRACT
from sfumato.runtime.contract import Contract, read_file, read_sealed
from sfumato.runtime.signing import own_key, raw

FILE = "attestation.intoto.jsonl"
"""A bundle as in-toto names it: one envelope a line."""
STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
EXPORT, AUDIT = "urn:sfumato:attestation:export:1", "urn:sfumato:attestation:audit:1"
LARGEST = 2**26
"""Bytes of an audit, and of all envelopes together."""
AUDIT_NAME = re.compile(r"audit(-strength-\d{1,3})?\.json")
REPEATED = (
    "schema",
    "artifact",
    "verdict",
    "reasons",
    "rule",
    "goal",
    "n_test",
    "n_attack_test",
    "desired",
    "rate_bits",
    "information_bounds",
    "exact",
    "positive_controls",
    "compositions",
    "plan",
    "seed",
    "seeds",
    "folds",
    "strength",
    "basis",
    "provenance",
    "date",
)
"""Entries of audit.json that its statement repeats."""
OF_ATTRIBUTES = ("name", "declared", "asked", "best", "gains", "class_gains", "leak_bits_lower")


@dataclass(frozen=True)
class Attested:
    """What was stated, and holds."""

    audits: Mapping[str, str]
    """File of an audit -> its verdict, plan and seed in words; those that are not in this copy are left out."""
    left_out: tuple[str, ...]
    """Audits that are attested and not in this copy."""
    unattested: tuple[str, ...]
    """Audits in the folder about which nothing is stated."""

    def text(self) -> str:
        """In one line."""
        parts = ["the export", *(f"{name} ({said})" for name, said in self.audits.items())]
        parts += [f"{name}, which is not in this copy" for name in self.left_out]
        also = f"; nothing is stated about {', '.join(self.unattested)}" if self.unattested else ""
        return ", ".join(parts) + also


def attest(folder: Path, key: Ed25519PrivateKey) -> Path:
    """State what an export and the audits in its folder are; writes `attestation.intoto.jsonl` there.

    Args:
        folder: of the export, with all its files.
        key: of the maker.

    Returns:
        The file.

    Raises:
        SfumatoError: a file is missing or differs from the contract, the contract was signed with another key, or an audit is
            of another export or names nothing that it was made from.
    """
    contract, content = read_sealed(folder)
    for entry in contract.files:
        read_file(folder, entry)
    own = own_key(folder)
    if own is not None and raw(own) != raw(key.public_key()):
        raise SfumatoError(f"{folder} was signed with another key: attest with that of its signature")
    statements = [export_statement(contract, content)]
    statements += [
        audit_statement(name, read_inside(folder, name, largest=LARGEST), content)
        for name in audit_files(folder)
    ]
    lines = [json.dumps(seal(statement, key)) + "\n" for statement in statements]
    with atomic_write(folder / FILE) as scratch:
        scratch.write_text("".join(lines), encoding="utf-8")
    return folder / FILE


def check_attestation(folder: Path, key: Ed25519PublicKey) -> Attested:
    """Check every envelope, signature first, and compare what it states with the files.

    Args:
        folder: of the export; files for the cloud, the audit, and audits themselves may be missing.
        key: of the maker.

    Raises:
        SfumatoError: an envelope is damaged or not that key's, no statement is about this export, or a statement and a file
            differ.
    """
    contract, content = read_sealed(folder)
    lines = read_inside(folder, FILE, largest=LARGEST).splitlines()
    statements = [
        open_envelope(parse_json(line, f"{FILE}, line {at}", finite=True), key, f"{FILE}, line {at}")
        for at, line in enumerate(lines, 1)
    ]
    if [one["predicateType"] for one in statements].count(EXPORT) != 1:
        raise SfumatoError(f"{FILE} has not one statement about the export: attest again")
    found, missing, named = dict[str, str](), list[str](), set[str]()
    for one in statements:
        if one["predicateType"] == EXPORT:
            if one != export_statement(contract, content):
                raise SfumatoError(
                    f"{FILE} is about another export: its digests or figures are not those of {CONTRACT}"
                )
        elif one["predicateType"] == AUDIT:
            name = audit_name(one)
            if name in named:
                raise SfumatoError(f"{FILE} has two statements about {name}")
            named.add(name)
            if not (folder / name).exists():
                if subjects(one).get(CONTRACT) != hashlib.sha256(content).hexdigest():
                    raise SfumatoError(f"{FILE} states an audit of another export")
                missing.append(name)
                continue
            if one != audit_statement(name, read_inside(folder, name, largest=LARGEST), content):
                raise SfumatoError(
                    f"{name} is not the audit that is attested: its digest or a figure differs"
                )
            found[name] = in_words(one["predicate"])
    also = tuple(name for name in audit_files(folder) if name not in named)
    return Attested(found, tuple(missing), also)


def is_attested(folder: Path) -> bool:
    """Whether anything is stated, by whomever."""
    return (folder / FILE).exists()


def audit_files(folder: Path) -> list[str]:
    """Names of the audits in a folder."""
    return sorted(path.name for path in folder.glob("audit*.json") if AUDIT_NAME.fullmatch(path.name))


def export_statement(contract: Contract, content: bytes) -> dict[str, Any]:
    """What is stated about an export: every file by its digest, and what the contract promises.

    Args:
        contract: of the export.
        content: the bytes of contract.json.
    """
    files = {CONTRACT: hashlib.sha256(content).hexdigest()} | {one.name: one.sha256 for one in contract.files}
    values = parse_json(content, CONTRACT)
    repeated = ("schema", "mode", "keep", "hide", "channel", "goal", "figures", "gates", "provenance")
    return statement(files, EXPORT, {name: values[name] for name in repeated if name in values})


def audit_statement(name: str, content: bytes, contract: bytes) -> dict[str, Any]:
    """What is stated about an audit.

    Args:
        name: of its file.
        content: the bytes of the file.
        contract: those of contract.json.

    Raises:
        SfumatoError: it is no audit of that export.
    """
    values = parse_json(content, name, finite=True)
    digest = hashlib.sha256(contract).hexdigest()
    if not isinstance(values, dict) or not str(values.get("schema")).startswith("sfumato-audit/"):
        raise SfumatoError(f"{name} is no audit")
    basis = values.get("basis")
    if not isinstance(basis, dict):
        raise SfumatoError(f"{name} does not name the files and data it was made from: audit again")
    if basis.get("files") != {CONTRACT: digest}:
        raise SfumatoError(f"{name} is an audit of another export: audit this one")
    predicate = {entry: values.get(entry) for entry in REPEATED}
    try:
        predicate["attributes"] = [
            {entry: one.get(entry) for entry in OF_ATTRIBUTES} for one in values["attributes"]
        ]
    except (AttributeError, KeyError, TypeError):
        raise SfumatoError(f"{name} is no audit: its attributes are damaged") from None
    return statement({name: hashlib.sha256(content).hexdigest(), CONTRACT: digest}, AUDIT, predicate)


def statement(files: Mapping[str, str], kind: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto Statement v1."""
    named = [{"name": name, "digest": {"sha256": digest}} for name, digest in files.items()]
    return {"_type": STATEMENT, "subject": named, "predicateType": kind, "predicate": dict(predicate)}


def subjects(stated: Mapping[str, Any]) -> dict[str, str]:
    """File -> SHA-256 of a statement.

    Raises:
        SfumatoError: they have another form.
    """
    try:
        return {one["name"]: one["digest"]["sha256"] for one in stated["subject"]}
    except (KeyError, TypeError):
        raise SfumatoError(f"{FILE}: a statement names its files in another form") from None


def audit_name(stated: Mapping[str, Any]) -> str:
    """The file that a statement about an audit names beside the contract.

    Raises:
        SfumatoError: it names none, or more.
    """
    names = [name for name in subjects(stated) if name != CONTRACT]
    if len(names) != 1 or not AUDIT_NAME.fullmatch(str(names[0])):
        raise SfumatoError(f"{FILE}: a statement about an audit names no audit")
    return names[0]


def in_words(predicate: Mapping[str, Any]) -> str:
    """Verdict, plan and seeds."""
    seeds: Sequence[object] = predicate.get("seeds") or [predicate.get("seed")]
    said = str(predicate.get("verdict")).replace("_", " ")
    return f"{said}, plan {predicate.get('plan')}, seed {', '.join(map(str, seeds))}"


def encoded(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed.

    >>> encoded("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)


def seal(stated: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """An envelope around a statement."""
    payload = json.dumps(stated, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    signature = key.sign(encoded(PAYLOAD, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD,
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }


def open_envelope(envelope: Any, key: Ed25519PublicKey, name: str) -> dict[str, Any]:
    """The statement in an envelope, once a signature of it is found to be the key's; `keyid` is a hint and decides nothing.

    Raises:
        SfumatoError: it is no envelope, no signature is that key's, or it holds no statement.
    """
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        kind = envelope["payloadType"]
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise SfumatoError(f"{name} is no envelope: attest again") from None
    if kind != PAYLOAD:
        raise SfumatoError(f"{name} holds {kind!r}, not {PAYLOAD}")
    if not any(signed(key, one, encoded(kind, payload)) for one in signatures):
        raise SfumatoError(f"{name} is not this key's: do not believe it")
    stated = parse_json(payload, name, finite=True)
    if not isinstance(stated, dict) or stated.get("_type") != STATEMENT or "predicateType" not in stated:
        raise SfumatoError(f"{name} holds no {STATEMENT}")
    return stated


def signed(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    """Whether a signature is this key's of this content."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the key as DER, by which other readers of envelopes look keys up."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
