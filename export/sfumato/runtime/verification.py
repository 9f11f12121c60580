"""Check a bundle again from its files alone, without torch and without TensorFlow.

    result = verify("export", public_key="maker.pub")
    result.passed, [check for check in result.checks if check.state == "failed"]

Hashes come first: no file reaches an interpreter before its sha256 is right. A changed contract is found by its digest
(`contract.sha256`), by contradictions in it, by the hashes and, where it is signed, by the signature.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError, first_line
from sfumato.core.files import read_json
from sfumato.core.onnx_content import refuse_external_data
from sfumato.core.onnx_heads import match_heads
from sfumato.core.onnx_session import find_onnxruntime, open_session
from sfumato.runtime import npu_files, test_vectors
from sfumato.runtime.attestation import FILE as ATTESTATION
from sfumato.runtime.attestation import check_attestation, is_attested
from sfumato.runtime.contract import DIGESTS, Contract, Model, read_contract, read_file, read_with_digest
from sfumato.runtime.delegate_lint import graph_findings, nnapi_findings, xnnpack_partitions
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.makers import check_remembered, fingerprint, remembered_key
from sfumato.runtime.phone_model import PhoneModel, check_signature
from sfumato.runtime.sampler import NORMAL_TABLE, normal_table
from sfumato.runtime.sandbox import MEGABYTES, run_sandboxed
from sfumato.runtime.signing import check_digests, is_signed, own_key, read_public_key
from sfumato.runtime.signing import check_signature as check_signed
from sfumato.runtime.tflite_graph import read_graph

State = Literal["ok", "failed", "warning", "left out"]
ONNX_FACTOR = 4
"""Memory that an ONNX file may take beyond any other model, as a multiple of its size: ONNX Runtime copies weights."""

FLOAT_LIMITS = {"float32": 1e-5, "float16": 2 / 256, "dynamic": 16 / 256}
"""Largest difference from local.onnx on the pictures of vectors.json, as a fraction of the range."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    state: State
    detail: str = ""


@dataclass(frozen=True)
class Verification:
    """All checks of one export."""

    folder: Path
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that failed."""
        return tuple(check for check in self.checks if check.state == "failed")

    @property
    def passed(self) -> bool:
        """No check failed."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        checks = [asdict(check) for check in self.checks]
        return {"schema": "sfumato-verify/1", "passed": self.passed, "checks": checks}


def attempt(name: str, work: Callable[[], str]) -> Check:
    """Run a check; a `SfumatoError` is its failure, the returned text its detail."""
    try:
        return Check(name, "ok", work())
    except SfumatoError as error:
        return Check(name, "failed", str(error))


def verify(path: str | Path, *, public_key: str | Path | None = None, attested: bool = False) -> Verification:
    """Check an export.

    Args:
        path: folder of the export.
        public_key: PEM file of its maker; the signature is then demanded and checked.
        attested: demand an attestation of the export and of an audit that is in the folder.

    Raises:
        SfumatoError: the public key itself cannot be read.
    """
    folder, checks = Path(path), list[Check]()

    def done() -> Verification:
        return Verification(folder, tuple(checks))

    given = None if public_key is None else read_public_key(Path(public_key))
    checks += [_signature(folder, given, public_key), _digests(folder)]
    try:
        contract = read_contract(folder)
    except SfumatoError as error:
        checks.append(Check("contract", "failed", str(error)))
        return done()
    checks.append(attempt("contract", lambda: _gates(contract)))
    checks += [_file(folder, contract, entry.name) for entry in contract.files]
    checks.append(_attestation(folder, given, demanded=attested))
    if (folder / npu_files.FILE).exists():
        checks.append(attempt(npu_files.FILE, lambda: _npu(folder)))
    if done().failed:
        checks.append(Check("models", "left out", "a damaged model is not handed to an interpreter"))
        return done()
    checks += [
        attempt(f"{model.file}: operators, tensors, delegates", lambda m=model: _model(folder, contract, m))  # type: ignore[misc]
        for model in contract.models
    ]
    if done().failed:
        return done()
    checks.append(_parity(folder, contract))
    checks.append(_vectors(folder, contract))
    checks.append(_cloud(folder, contract))
    return done()


def _signature(folder: Path, key: Ed25519PublicKey | None, file: str | Path | None) -> Check:
    """Against the key that is given, else the one remembered for this folder, else the one that the export brings with it."""
    own: Ed25519PublicKey | None = None

    def work() -> str:
        nonlocal own
        if key is not None:
            check_signed(folder, key)
            return f"made with {Path(str(file)).name}"
        if (known := check_remembered(folder)) is not None:
            return f"made with the key {fingerprint(known)}, which is remembered for this folder"
        own = own_key(folder)
        return ""

    done = attempt("signature", work)
    if done.state == "failed" or done.detail:
        return done
    if own is not None:
        told = f"made with the key {fingerprint(own)}, which came with the export: give --public-key of its maker"
        return Check("signature", "warning", told)
    if is_signed(folder):
        return Check("signature", "warning", "no key checks it: give --public-key of its maker")
    return Check("signature", "left out", "the export is not signed")


def _attestation(folder: Path, key: Ed25519PublicKey | None, *, demanded: bool) -> Check:
    """Against the same key as the signature; without any key it says nothing."""
    if not is_attested(folder):
        state: State = "failed" if demanded else "left out"
        return Check(
            "attestation", state, f"{ATTESTATION} is not here: nothing is stated about export and audit"
        )
    known = remembered_key(folder) if key is None else key

    def work() -> str:
        trusted = known or own_key(folder)
        if trusted is None:
            return "no key checks it"
        stated = check_attestation(folder, trusted)
        if demanded and (stated.unattested or not stated.audits):
            raise SfumatoError(f"an attested audit is demanded, and this is stated: {stated.text()}")
        return stated.text()

    done = attempt("attestation", work)
    if done.state == "failed" or known is not None:
        return done
    detail = f"{done.detail}; anybody can have signed it: give --public-key of its maker"
    return Check("attestation", "failed" if demanded else "warning", detail)


def _digests(folder: Path) -> Check:
    if not (folder / DIGESTS).exists():
        return Check(DIGESTS, "left out", "not in this copy: an edited contract may pass")
    return attempt(DIGESTS, lambda: check_digests(folder) or "the contract is the one that was written")  # type: ignore[func-returns-value]


def _gates(contract: Contract) -> str:
    if failed := contract.failed_gates:
        raise SfumatoError(
            f"the gate {failed[0].name!r} does not hold: {failed[0].value}, allowed is {failed[0].limit}"
        )
    return f"{len(contract.gates)} gates hold"


def _file(folder: Path, contract: Contract, name: str) -> Check:
    entry = contract.file(name)
    if entry.role != "phone" and not (folder / name).exists():
        return Check(name, "left out", f"not in this copy; only the {entry.role} needs it")
    return attempt(name, lambda: f"{len(read_file(folder, entry)):,} bytes, sha256 as in the contract")


def _npu(folder: Path) -> str:
    """Files that lie beside the contract: whole, and for this contract. No signature covers them."""
    listed = npu_files.check_npu(folder, read_with_digest(folder)[1].hex())
    return f"{0 if listed is None else len(listed.files)} files for an NPU, sha256 as listed; not signed"


def _model(folder: Path, contract: Contract, model: Model) -> str:
    return inspect_model(read_file(folder, contract.file(model.file)), contract, model)


def try_model(content: bytes, contract: Contract, model: Model) -> None:
    """Load one variant and run it on a black picture.

    Raises:
        SfumatoError: it cannot be loaded, or its tensors are not what the contract says.
    """
    int8 = model.variant == "int8"
    session = open_model(content)
    check_signature(contract, session, int8=int8)
    try:
        session.run(np.zeros(contract.input.shape, dtype=np.int8 if int8 else np.float32))
    except (RuntimeError, ValueError) as error:
        raise SfumatoError(f"{model.file} does not run: {' '.join(str(error).split())}") from None


def inspect_model(content: bytes, contract: Contract, model: Model) -> str:
    """Lint, tensors and delegates of one variant; an untrusted file runs in another process first.

    Raises:
        SfumatoError: damaged, not what the contract says, or too much for this computer.
    """
    graph = read_graph(content)
    if findings := graph_findings(graph):
        raise SfumatoError("; ".join(findings))
    if model.variant == "int8" and (refused := nnapi_findings(graph)):
        raise SfumatoError("NNAPI would leave nodes to the CPU: " + "; ".join(refused))
    run_sandboxed(lambda: try_model(content, contract, model), model.file)
    session = open_model(content)
    check_signature(contract, session, int8=model.variant == "int8")
    partitions = xnnpack_partitions(session)
    if session.runtime.name == test_vectors.REFERENCE and partitions not in (1, None):
        raise SfumatoError(f"XNNPACK splits the graph into {partitions} partitions; 1 is expected")
    delegate = "XNNPACK not in this runtime" if partitions is None else f"{partitions} XNNPACK partition(s)"
    return f"{len(graph.operators)} nodes, {delegate}, {session.runtime.name} {session.runtime.version}"


def _parity(folder: Path, contract: Contract) -> Check:
    """The float models against local.onnx on made-up pictures; without onnxruntime against the float32 model."""
    names = [tensor.name for tensor in contract.outputs]

    def work() -> str:
        source = _source(folder, contract, names)
        gaps = {}
        for model in contract.models:
            if model.variant == "int8":
                continue  # its bytes are compared with vectors.json
            session = open_model(read_file(folder, contract.file(model.file)))
            pictures = [_pixels(make(*contract.size)) for make in test_vectors.PATTERNS.values()]
            gap = max(_gap(source(pixels), session.run(pixels), contract) for pixels in pictures)
            if not gap <= FLOAT_LIMITS[model.variant]:
                raise SfumatoError(f"{model.file} differs by {gap:.1e} of the range")
            gaps[model.variant] = gap
        return ", ".join(f"{variant} {gap:.1e}" for variant, gap in gaps.items())

    if find_onnxruntime() is not None:
        return attempt("parity with local.onnx", work)
    if any(model.variant == "float32" for model in contract.models):
        return attempt("parity with the float32 model (onnxruntime is not installed)", work)
    return Check("parity", "left out", "neither onnxruntime nor a float32 model is here")


Outputs = Mapping[str, NDArray[Any]]


def _source(folder: Path, contract: Contract, names: list[str]) -> Callable[[NDArray[np.float32]], Outputs]:
    """What the float models are compared with: pixels (1, H, W, 3) -> outputs."""
    if find_onnxruntime() is None:
        return open_model(read_file(folder, contract.file(contract.model("float32").file))).run
    content = read_file(folder, contract.file("local.onnx"))
    blank = np.zeros(contract.input.shape, dtype=np.float32)
    run_onnx_sandboxed(content, "local.onnx", lambda session: session.run(names, {"image": blank}))
    source = open_session(content, name="local.onnx")
    return lambda pixels: dict(zip(names, source.run(names, {"image": pixels}), strict=True))


def run_onnx_sandboxed(content: bytes, name: str, work: Callable[[Any], object]) -> None:
    """Open an ONNX file in another process and do something with its session: it is a program as a model of the phone is.

    Raises:
        SfumatoError: its weights lie elsewhere, it cannot be loaded, or takes too much memory or time.
    """
    refuse_external_data(content, name)
    megabytes = MEGABYTES + ONNX_FACTOR * len(content) // 2**20
    run_sandboxed(lambda: work(open_session(content, name=name)), name, megabytes=megabytes)


def _pixels(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return image[None].astype(np.float32) / np.float32(255)


def _gap(wanted: Outputs, found: Outputs, contract: Contract) -> float:
    """Largest difference of an output, as a fraction of its range."""
    gaps = [
        np.abs(wanted[t.name] - found[t.name]).max() / (t.range[1] - t.range[0]) for t in contract.outputs
    ]
    return float(max(gaps))


def _vectors(folder: Path, contract: Contract) -> Check:
    if not any(model.variant == "int8" for model in contract.models):
        return Check(test_vectors.FILE, "left out", "this export has no int8 model")

    def work() -> str:
        contract.file(test_vectors.FILE)
        stored = read_json(folder / test_vectors.FILE)
        problems = test_vectors.check_vectors(stored, PhoneModel.load(folder))
        if contract.channel.name == "gaussian" and not _same_table(folder, contract):
            problems.append(f"{NORMAL_TABLE} is not the table of the sampler")
        if problems:
            raise SfumatoError("; ".join(problems))
        return f"{sum(len(part) for part in stored.values() if isinstance(part, list))} cases agree"

    return attempt("noise, sampler and model against vectors.json", work)


def _same_table(folder: Path, contract: Contract) -> bool:
    """Phones draw gaussian noise from this file instead of computing it."""
    return read_file(folder, contract.file(NORMAL_TABLE)) == normal_table().astype("<i2").tobytes()


def _cloud(folder: Path, contract: Contract) -> Check:
    name = "cloud.onnx answers"
    if not (folder / "cloud.onnx").exists():
        return Check(name, "left out", "not in this copy")
    if find_onnxruntime() is None:
        return Check(name, "left out", "onnxruntime is not installed")

    def work() -> str:
        content = read_file(folder, contract.file("cloud.onnx"))
        run_onnx_sandboxed(content, "cloud.onnx", lambda session: check_answers(session, contract))
        return ", ".join(f"{entry.name}: {len(entry.classes)} classes" for entry in contract.keep)

    return attempt(name, work)


def check_answers(session: Any, contract: Contract) -> None:
    """Ask a cloud network about two black uploads and compare its heads with the contract.

    Args:
        session: of ONNX Runtime.
        contract: of the export.

    Raises:
        SfumatoError: other inputs, heads or class counts, or answers that are not finite.
    """
    height, width = contract.size
    keep = [entry.name for entry in contract.keep]
    try:
        heads = match_heads([output.name for output in session.get_outputs()], keep)
    except SfumatoError as error:
        raise SfumatoError(f"the heads of cloud.onnx are not those of the contract: {error}") from None
    blank = np.zeros((2, contract.channel.planes, height, width), dtype=np.float32)
    try:
        answers = session.run(list(heads), {session.get_inputs()[0].name: blank})
    except Exception as error:  # ONNX Runtime has a type of its own for every complaint
        raise SfumatoError(f"cloud.onnx does not take this contract's uploads: {first_line(error)}") from None
    found = {name: np.shape(answer) for name, answer in zip(keep, answers, strict=True)}
    expected = {entry.name: (2, *entry.shape) for entry in contract.keep}
    if found != expected:
        raise SfumatoError(f"the heads of cloud.onnx are {found}, the contract says {expected}")
    if not all(np.isfinite(answer).all() for answer in answers):
        raise SfumatoError("the answers of cloud.onnx are not finite: NaN or infinite weights; export again")
