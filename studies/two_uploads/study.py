"""Every pair of uploads that one device key can give of one photo, attacked.

results = run_study(load_export("a"), load_export("b"), photos=500, seed=0)
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from studies.two_uploads import likelihood
from studies.two_uploads.likelihood import Bits, Learnt, Maps, learnt

from sfumato.core.errors import SfumatoError
from sfumato.core.provenance import provenance
from sfumato.core.reports import Grid
from sfumato.data import Split
from sfumato.export.artifact import ExportArtifact
from sfumato.runtime.contract import read_file
from sfumato.runtime.interpreter import Session, open_model
from sfumato.runtime.keyed_noise import keyed_noise, stream_key
from sfumato.runtime.sampler import to_int8, to_q

SCHEMA = "sfumato-two-uploads/1"
Rule = Literal["version 1", "version 2", "independent"]
RULES: tuple[Rule, ...] = ("version 1", "version 2", "independent")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """What one model in one arithmetic gives for every candidate photo, and the contract it gives it under."""

    q: Maps
    digest: bytes


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    seen: str
    """What the provider sees."""
    noise: Rule | None
    """None for a single upload: the rule does not matter."""
    equal: float
    """Fraction of photos whose two uploads are the same."""
    learnt: Learnt


def version_1_noise(key: bytes, image: Pixels, count: int) -> Pixels:
    """Noise as contracts of schema 1 had it: key and pixels alone decide. For comparison only."""
    message = b"sfumato-noise-v1" + hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
    counter = hmac.new(key, message, hashlib.sha256).digest()[:16]
    stream = Cipher(algorithms.AES(stream_key(key)), modes.CTR(counter)).encryptor()
    return np.frombuffer(stream.update(bytes(count)), dtype=np.uint8)


def draw(source: Source, images: Pixels, key: bytes, rule: Rule, random: np.random.Generator) -> Bits:
    """One upload of every photo as bits (N, D)."""
    noise: Callable[[int], Pixels] = {
        "version 1": lambda i: version_1_noise(key, images[i], source.q.shape[1]),
        "version 2": lambda i: keyed_noise(
            key, source.digest, source.q[i].tobytes(), images[i], source.q.shape[1]
        ),
        "independent": lambda _: random.integers(0, 256, source.q.shape[1], dtype=np.uint8),
    }[rule]
    return np.stack([noise(i) < q for i, q in enumerate(source.q)])


def attack(
    seen: str, one: Source, two: Source, images: Pixels, rule: Rule, key: bytes, random: np.random.Generator
) -> Row:
    """Draw two uploads of every photo under a rule, and weigh all candidates by the likelihood that this rule gives."""
    first, second = (draw(source, images, key, rule, random) for source in (one, two))
    given = (first, second, one.q, two.q)
    logs: NDArray[Any]
    if rule == "version 1":
        logs = likelihood.common(*given)
    elif rule == "version 2":
        logs = likelihood.version_2(*given, one_contract=one.digest == two.digest)
    else:
        logs = likelihood.independent(*given)
    return Row(seen, rule, float((first == second).all(axis=1).mean()), learnt(logs))


def in_every_arithmetic(artifact: ExportArtifact, images: Pixels) -> dict[str, Source]:
    """The parameter bytes of one export in every arithmetic that the runtime at hand offers, the shipped one first."""
    contract, digest = artifact.contract, artifact.phone.digest
    assert digest is not None
    found = {"int8, XNNPACK": _maps(to_q, artifact.phone.session, to_int8(images))}
    for model in contract.models:
        content = read_file(artifact.folder, contract.file(model.file))
        if model.variant == "int8":
            found["int8, plain kernels"] = _maps(to_q, open_model(content, xnnpack=False), to_int8(images))
        else:
            found[model.variant] = _maps(_rounded, open_model(content), images / np.float32(255))
    return {name: Source(q, digest) for name, q in found.items()}


def _rounded(values: NDArray[Any]) -> Pixels:
    """What a delegate in floats would compare noise bytes with."""
    rounded: Pixels = np.clip(np.floor(256 * values + 0.5), 0, 255).astype(np.uint8)
    return rounded


def _maps(to_bytes: Callable[[NDArray[Any]], Pixels], session: Session, inputs: NDArray[Any]) -> Maps:
    return np.stack([to_bytes(session.run(one[None])["p"]).reshape(-1) for one in inputs])


def run_study(
    one: ExportArtifact,
    two: ExportArtifact,
    *,
    photos: int,
    seed: int,
    watch: Callable[[str], None] = lambda title: None,
) -> dict[str, Any]:
    """All rows for two exports of one data set; candidates are test photos of it.

    Raises:
        SfumatoError: the exports are not comparable, or their channel is not dither.
    """
    if one.dataset.id != two.dataset.id or one.contract.channel != two.contract.channel:
        raise SfumatoError("the two exports must have the same data set and channel")
    if one.contract.channel.name != "dither":
        raise SfumatoError(f"the likelihoods here are for dither, not for {one.contract.channel.name}")
    images, _ = one.dataset.subset(Split.TEST, [])
    if not 2 <= photos <= len(images):
        raise SfumatoError(f"--photos {photos}: the data set has {len(images)} test photos, and 2 are needed")
    images = np.ascontiguousarray(images[:photos])
    key, random = hashlib.sha256(f"two uploads {seed}".encode()).digest(), np.random.default_rng(seed)
    watch("parameters of every photo")
    ways = in_every_arithmetic(one, images)
    (shipped, a), *others = ways.items()
    watch("one upload")
    drawn = draw(a, images, key, "version 2", random)
    rows = [Row("one upload", None, 1.0, learnt(likelihood.one_upload(drawn, a.q)))]
    b = next(iter(in_every_arithmetic(two, images).values()))
    service = Source(a.q, hashlib.sha256(b"another service" + a.digest).digest())
    pairs = [("two releases", b), ("two services, one model", service)]
    pairs += [(f"{shipped} and {name}", source) for name, source in others]
    for seen, source in pairs:
        for rule in RULES:
            watch(f"{seen}: {rule}")
            rows.append(attack(seen, a, source, images, rule, key, random))
    differ = {name: float((a.q != source.q).any(axis=1).mean()) for name, source in others}
    return {
        "schema": SCHEMA,
        "exports": [
            {"contract": each.phone.digest.hex(), "folder": each.folder.name}
            for each in (one, two)
            if each.phone.digest
        ],
        "photos": photos,
        "seed": seed,
        "ceiling_bits": float(np.log2(photos)),
        "photos_whose_parameters_differ": {"two releases": float((a.q != b.q).any(axis=1).mean()), **differ},
        "rows": [asdict(row) for row in rows],
        "provenance": provenance(),
    }


def grid(results: dict[str, Any]) -> Grid:
    """The table of a result."""
    rows = []
    for row in results["rows"]:
        found = row["learnt"]
        (low, high), (least, most) = found["bits_interval"], found["first_interval"]
        rows.append(
            (
                row["seen"],
                row["noise"] or "-",
                f"{100 * row['equal']:.1f}",
                f"{found['bits']:.2f} ({low:.2f} - {high:.2f})",
                f"{found['largest_bits']:.1f}",
                f"{100 * found['first']:.1f} ({100 * least:.1f} - {100 * most:.1f})",
            )
        )
    columns = (
        "the provider sees",
        "noise",
        "equal, %",
        "bits about the photo",
        "largest",
        "true photo first, %",
    )
    chance = 100 / results["photos"]
    title = f"{results['photos']} candidates: at most {results['ceiling_bits']:.2f} bits, first by chance {chance:.2f} %"
    return Grid(title, columns, tuple(rows))
