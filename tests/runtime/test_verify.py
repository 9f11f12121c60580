"""`sfumato verify` must find whatever was changed, and must run without torch and TensorFlow."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sfumato.cli.main import main
from sfumato.core.errors import SfumatoError
from sfumato.core.files import sha256
from sfumato.runtime.contract import DIGESTS, FILE, parse_contract, read_contract
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.signing import SIGNATURE, read_private_key, sign, write_digests
from sfumato.runtime.verification import verify

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    "local_float32.tflite",
    "local_float16.tflite",
    "local_dynamic.tflite",
    "local_int8.tflite",
    "local.onnx",
    "cloud.onnx",
    "vectors.json",
    "audit/cloud.safetensors",
    "audit/config.json",
    "audit/card.json",
]
"""Everything but the contract, its digest and its signature."""


def edit(folder: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    """Change the contract, and mend its digest as a forger would."""
    values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    change(values)
    (folder / FILE).write_text(json.dumps(values))
    write_digests(folder)


def reseal(folder: Path, name: str) -> None:
    """What a forger does: put the new hash into the contract."""

    def change(values: dict) -> None:  # type: ignore[type-arg]
        for entry in values["files"]:
            if entry["name"] == name:
                entry.update(sha256=sha256(folder / name), bytes=(folder / name).stat().st_size)

    edit(folder, change)


def failures(folder: Path, **options: Any) -> str:
    result = verify(folder, **options)
    assert not result.passed
    return " | ".join(f"{check.name}: {check.detail}" for check in result.failed)


def make_keys(folder: Path, name: str = "maker") -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_whole_bundle_verifies(sealed: Path) -> None:
    result = verify(sealed)
    assert result.passed, result.failed
    assert all(
        check.state == "ok" for check in result.checks if check.name not in ("signature", "attestation")
    )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_to_any_file_is_found(bundle: Path, name: str, damage: str) -> None:
    path = bundle / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    elif damage == "cut":
        path.write_bytes(bytes(content[:-1]))
    else:
        path.unlink()
        if name.startswith(("cloud", "audit")):  # a phone's copy comes without these
            assert verify(bundle).passed
            return
    assert name in failures(bundle)


def test_every_flipped_byte_of_the_contract_is_found_with_a_signature(bundle: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    sign(bundle, read_private_key(private))
    assert verify(bundle, public_key=public).passed
    original = (bundle / FILE).read_bytes()
    for at in range(0, len(original), 97):
        changed = bytearray(original)
        changed[at] ^= 0x01
        (bundle / FILE).write_bytes(bytes(changed))
        assert "signature" in failures(bundle, public_key=public)


@pytest.mark.parametrize("signed", [False, True])
def test_a_flipped_byte_anywhere_in_contract_digest_and_signature_is_found(
    bundle: Path, tmp_path: Path, signed: bool
) -> None:
    """Without any key: `contract.sha256` names them."""
    if signed:
        sign(bundle, read_private_key(make_keys(tmp_path)[0]))
    assert verify(bundle).passed
    for name in (FILE, DIGESTS, *([SIGNATURE] if signed else [])):
        original = (bundle / name).read_bytes()
        for at in range(0, len(original), max(1, len(original) // 40)):
            changed = bytearray(original)
            changed[at] ^= 0x01
            (bundle / name).write_bytes(bytes(changed))
            assert DIGESTS in failures(bundle)
        (bundle / name).write_bytes(original[:-1])
        assert DIGESTS in failures(bundle)
        (bundle / name).write_bytes(original)


def test_a_figure_edited_by_hand_is_found_by_the_digest_alone(bundle: Path) -> None:
    """Nothing else contradicts it: the file stays a valid contract."""
    text = (bundle / FILE).read_text(encoding="utf-8")
    values = json.loads(text)
    values["figures"]["rate_bits"]["mean"]["int8"] = 0.5
    (bundle / FILE).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    assert failures(bundle).startswith(f"{DIGESTS}: {FILE} or {DIGESTS} was changed")


def test_a_copy_without_the_digest_still_verifies(bundle: Path) -> None:
    (bundle / DIGESTS).unlink()
    assert verify(bundle).passed


def test_a_swapped_model_is_found(bundle: Path) -> None:
    shutil.copy(bundle / "local_float32.tflite", bundle / "local_int8.tflite")
    assert "local_int8.tflite" in failures(bundle)
    reseal(bundle, "local_int8.tflite")
    assert "image is float32" in failures(bundle)


def test_a_forged_model_with_its_hash_is_found_by_the_vectors(bundle: Path) -> None:
    """Change the weights of a head, mend the hash: only what the model computes can tell."""
    path = bundle / "local_int8.tflite"
    content, interpreter = path.read_bytes(), open_model(path.read_bytes()).interpreter
    head = next(
        entry for entry in interpreter.get_tensor_details() if tuple(entry["shape"]) == (48, 1, 1, 32)
    )
    weights = interpreter.get_tensor(head["index"]).tobytes()
    assert content.count(weights) == 1
    path.write_bytes(content.replace(weights, bytes(len(weights))))
    reseal(bundle, path.name)
    assert "model" in failures(bundle) or "operators" in failures(bundle)


EDITS: dict[str, tuple[Callable[[dict], None], str]] = {  # type: ignore[type-arg]
    "future schema": (
        lambda v: v.update(schema="sfumato-contract/3"),
        "this version reads sfumato-contract/2",
    ),
    "old schema": (lambda v: v.update(schema="sfumato-contract/1", noise=1), "repeats between releases"),
    "no mode": (lambda v: v.pop("mode"), "mode"),
    "other mode": (lambda v: v.update(mode="answer"), "do not belong to the mode answer"),
    "answer": (
        lambda v: v.update(answer={"words": 2, "entropy_bits": 1}),
        "do not belong to the mode picture",
    ),
    "encoding": (lambda v: v["upload"].update(encoding="word"), "do not belong to the mode picture"),
    "unknown key": (lambda v: v.update(extra=1), "Extra inputs"),
    "levels": (lambda v: v["channel"].update(levels=4), "do not belong to the channel"),
    "bit depth": (lambda v: v["upload"].update(bit_depth=2), "bit depth does not belong"),
    "shape": (lambda v: v["input"].update(shape=[1, 64, 64, 3]), "do not belong to the channel"),
    "input scale": (lambda v: v["input"].update(int8_scale=0.5), "scale"),
    "output zero point": (lambda v: v["outputs"][0].update(int8_zero_point=0), "zero point"),
    "output name": (lambda v: v["outputs"][0].update(name="q"), "do not belong"),
    "gate value": (lambda v: v["gates"][1].update(value=7), "does not hold"),
    "gate verdict": (lambda v: v["gates"][0].update(passed=False), "does not hold"),
    "classes": (lambda v: v["keep"][0].update(classes=["a", "b", "c"]), "the heads of cloud.onnx are"),
    "hash": (lambda v: v["files"][-1].update(sha256="0" * 64), "sha256 differs"),
    "noise version": (lambda v: v.update(noise=1), "noise"),
    "sampler version": (lambda v: v.update(sampler=2), "sampler"),
    "path": (lambda v: v["files"][0].update(name="../../etc/passwd"), "String should match"),
    "absolute path": (lambda v: v["models"][0].update(file="/etc/passwd"), "String should match"),
    "unlisted model": (lambda v: v["models"][0].update(file="other.tflite"), "does not list other.tflite"),
    "huge picture": (lambda v: v["input"].update(shape=[1, 10**9, 10**9, 3]), "less than or equal to 4096"),
    "list": (lambda v: v.update(files="everything"), "valid tuple"),
    "not a number": (lambda v: v["gates"][0].update(value=float("nan")), "gate"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_contract_edited_by_hand_is_found(bundle: Path, name: str) -> None:
    change, expected = EDITS[name]
    edit(bundle, change)
    assert expected in failures(bundle)


def test_signatures_of_others_and_missing_ones_are_refused(bundle: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    _, stranger = make_keys(tmp_path, "stranger")
    assert "cannot be read" in failures(bundle, public_key=public)
    sign(bundle, read_private_key(private))
    assert verify(bundle, public_key=public).passed
    assert "not this key's signature" in failures(bundle, public_key=stranger)
    (bundle / SIGNATURE).write_bytes(b"AAAA\n")
    assert "not this key's signature" in failures(bundle, public_key=public)
    with pytest.raises(SfumatoError, match="no Ed25519 public key"):
        verify(bundle, public_key=private)
    with pytest.raises(SfumatoError, match="no unencrypted Ed25519 private key"):
        read_private_key(public)


def test_the_contract_survives_a_round_trip(sealed: Path) -> None:
    contract = read_contract(sealed)
    assert parse_contract(contract.to_json().encode()) == contract
    assert contract.to_json().encode() == (sealed / FILE).read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b" " * (2**20 + 1)]
)
def test_a_contract_that_is_none_gets_one_line(content: bytes) -> None:
    with pytest.raises(SfumatoError) as caught:
        parse_contract(content)
    assert "\n" not in str(caught.value)


def run_blocked(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where importing torch or TensorFlow is an error."""
    block = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'tensorflow', 'onnx', 'onnx2tf', 'lightning_fabric'):\n"
        "            raise ImportError(f'{name} is blocked')\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    path = ":".join(str(ROOT / root) for root in ("train", "export"))
    return subprocess.run(
        [sys.executable, "-c", block + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )


def test_verify_and_perturb_need_neither_torch_nor_tensorflow(sealed: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from sfumato.runtime.phone_model import PhoneModel\n"
        "from sfumato.runtime.verification import verify\n"
        "folder = Path(sys.argv[1])\n"
        "assert verify(folder).passed\n"
        "image = np.zeros((32, 32, 3), np.uint8)\n"
        "print(len(PhoneModel.load(folder).perturb(image, key=bytes(32)).content))\n"
    )
    done = run_blocked(code, str(sealed))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.parametrize("runtime", ["tflite-runtime", "tensorflow"])
def test_other_runtimes_agree(sealed: Path, runtime: str) -> None:
    """In a process of its own, since two interpreters in one can clash."""
    code = (
        "import sys; from pathlib import Path\n"
        "from sfumato.runtime.interpreter import find_runtime\n"
        "from sfumato.core.errors import SfumatoError\n"
        "try: print(find_runtime().name)\n"
        "except SfumatoError: print('absent'); sys.exit()\n"
        "from sfumato.runtime.verification import verify\n"
        "result = verify(Path(sys.argv[1]))\n"
        "assert result.passed, result.failed\n"
    )
    path = ":".join(str(ROOT / root) for root in ("train", "export"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(sealed)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "SFUMATO_RUNTIME": runtime, "HOME": "/nonexistent"},
    )
    if "absent" in done.stdout:
        pytest.skip(f"{runtime} is not installed")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == runtime


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


WRONGS: dict[str, tuple[Callable[[Path], object], str]] = {
    **{f"flipped byte in {name}": (partial(lambda name, b: flip(b / name), name), name) for name in FILES},
    "flipped byte in the contract": (lambda b: flip(b / FILE), "not this key's signature"),
    "flipped byte in the digest": (lambda b: flip(b / DIGESTS), DIGESTS),
    "flipped byte in the signature": (lambda b: flip(b / SIGNATURE), "not this key's signature"),
    "swapped model": (
        lambda b: shutil.copy(b / "local_float32.tflite", b / "local_int8.tflite"),
        "local_int8.tflite has",
    ),
    "contract edited by hand": (
        lambda b: edit(b, lambda v: v["gates"][0].update(limit=9)),
        "not this key's signature",
    ),
    "wrong key": (lambda b: shutil.copy(b.parent / "stranger.pub", b.parent / "maker.pub"), "not this key's"),
    "no key": (lambda b: (b.parent / "maker.pub").unlink(), "cannot be read"),
    "truncated model": (lambda b: cut(b / "local_int8.tflite"), "has 1000 bytes"),
    "truncated contract": (lambda b: cut(b / FILE), "not this key's signature"),
    "empty model": (lambda b: (b / "local_int8.tflite").write_bytes(b""), "has 0 bytes"),
    "no export": (lambda b: (b / FILE).unlink(), "cannot be read"),
}


@pytest.mark.parametrize("name", WRONGS)
def test_the_command_says_one_line_and_exits_with_1(
    bundle: Path,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    private, public = make_keys(tmp_path)
    make_keys(tmp_path, "stranger")
    sign(bundle, read_private_key(private))
    wrong, expected = WRONGS[name]
    wrong(bundle)
    assert told(["verify", str(bundle), "--public-key", str(public)], monkeypatch, capfd, expected) == 1


def test_a_future_schema_version_is_named(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    edit(bundle, lambda v: v.update(schema="sfumato-contract/3"))
    assert told(["verify", str(bundle)], monkeypatch, capfd, "'sfumato-contract/3'; this version reads") == 1


@pytest.mark.parametrize("command", [["verify"], ["perturb", __file__, "--out", "uploads"], ["serve"]])
def test_a_bundle_of_version_1_is_refused_with_the_reason(
    bundle: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def old(values: dict) -> None:  # type: ignore[type-arg]
        values.update(schema="sfumato-contract/1", noise=1)
        values.pop("mode")

    edit(bundle, old)
    name, *rest = command
    reason = (
        "its noise (version 1) repeats between releases, so two uploads of one photo can be compared; export"
    )
    assert told([name, str(bundle), *rest], monkeypatch, capfd, reason) == 1


def told(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], expected: str
) -> object:
    """Run the command line as the shell does; returns its exit code after checking its one line."""
    monkeypatch.setattr(sys, "argv", ["sfumato", *arguments])
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("INFO:")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("sfumato: ")
    assert expected in lines[0]
    return caught.value.code


def test_the_command_succeeds_on_a_whole_bundle(
    sealed: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sfumato", "verify", str(sealed), "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert json.loads(capfd.readouterr().out)["passed"]
