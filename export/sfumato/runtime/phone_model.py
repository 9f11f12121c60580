"""The phone-side model: an exported bundle, an interpreter, a key. Neither torch nor TensorFlow is needed.

    model = PhoneModel.load("export")
    upload = model.perturb("photo.jpg", key=key)
    upload.content                      # the only thing that leaves the phone: a PNG, or the bytes of an answer's code word

Loading refuses whatever does not agree with the contract: another sha256, shape, type, scale or version.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.errors import SfumatoError, UsageError, unknown
from sfumato.core.image_io import SUFFIXES, Source, to_grey
from sfumato.core.image_io import load as load_image
from sfumato.core.picture_file import MAX_DECODED
from sfumato.core.sound import load_sound
from sfumato.core.strengths import FULL
from sfumato.core.wav_file import SUFFIX
from sfumato.runtime.answer import (
    NOISE_BYTES,
    decide,
    draw,
    plain_word,
    read_table,
    state,
    word_bytes,
    word_image,
)
from sfumato.runtime.contract import FILE, Contract, Tensor, read_file, read_with_digest
from sfumato.runtime.exact_rate import block_rate, dither_rate, gaussian_rate
from sfumato.runtime.familiar import Limits, read_limits
from sfumato.runtime.index_code import IndexCode
from sfumato.runtime.interpreter import Session, open_model
from sfumato.runtime.keyed_noise import fresh_noise, keyed_noise, parameter_bytes
from sfumato.runtime.ledger import draw_id
from sfumato.runtime.makers import check_remembered
from sfumato.runtime.sampler import (
    dither,
    dither_noise_bytes,
    gaussian,
    gaussian_noise_bytes,
    to_int8,
    to_q,
    weaken,
)
from sfumato.runtime.upload_codec import encode_png

Bytes = NDArray[np.uint8]
Encoding = Literal["word", "image", "index"]
"""How an upload travels: as the bytes of a code word (answer bundles alone), as a PNG, or as the index of a book's entry
(bundles whose contract has a book, and those as nothing else)."""
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


@dataclass(frozen=True)
class Upload:
    """One perturbed image."""

    levels: Bytes
    """(H, W, 3), in grey pictures (H, W, 1): 0 .. L-1 for dither, 0 .. 255 for gaussian; in answer mode the word's image."""
    content: bytes
    """The encoded upload."""
    encoding: Encoding
    word: int | None
    """The code word; None in picture mode."""
    keyed: bool
    draw: bytes | None
    """What the ledger remembers of it (`draw_id`); None for fresh noise."""
    measure: Callable[[], float] = field(repr=False, compare=False)
    unlike: bool | None = None
    """The photo looks like none of those that the model was made for, so its answer means nothing; None: the bundle does not
    say what they look like. Depends on the photo: keep it on the phone."""
    strength: int | None = None
    """Of the point that was chosen; None: the bundle has no points."""

    @cached_property
    def rate_bits(self) -> float:
        """How much this draw can reveal, in bits.

        In picture mode it is the exact rate of this image; of an index, its bits without the entropy of the draw. It depends on
        the photo: keep it on the phone. In answer mode it is log2 N for N words, the same for every photo: no draw can reveal
        more, whatever the network computed.
        Computed when first read: no upload needs it, and it takes a quarter of the network's time.
        """
        return self.measure()


@dataclass(frozen=True)
class PhoneModel:
    """An int8 local network with its contract."""

    folder: Path
    contract: Contract
    session: Session
    digest: bytes | None = None
    """SHA-256 of contract.json, which keyed noise depends on; None while the contract is not written yet."""
    table: NDArray[np.uint32] | None = None
    """(states, words), of a randomised answer."""

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 1) -> "PhoneModel":
        """Open the int8 model of an export.

        Args:
            path: folder of the export.
            threads: of the interpreter.

        Raises:
            SfumatoError: the contract is missing, damaged, changed since the export or of another version, the model is not
                the one it names, or the signature is not of the key that is remembered for this folder.
        """
        folder = Path(path)
        contract, digest = read_with_digest(folder)
        check_remembered(folder)
        return cls.open(folder, contract, digest=digest, threads=threads)

    @classmethod
    def open(
        cls, folder: Path, contract: Contract, *, digest: bytes | None = None, threads: int = 1
    ) -> "PhoneModel":
        """Open the int8 model of a contract that is already read, or not written yet: then `perturb` takes no key.

        Raises:
            SfumatoError: as `load`.
        """
        entry = contract.file(contract.model("int8").file)
        session = open_model(read_file(folder, entry), threads=threads)
        check_signature(contract, session, int8=True)
        table = None
        if contract.answer is not None and contract.answer.table is not None:
            content = read_file(folder, contract.file(contract.answer.table))
            table = read_table(content, contract.classes, contract.answer.margins)
        return cls(folder, contract, session, digest, table)

    def parameters(self, image: Bytes) -> dict[str, Bytes]:
        """Parameter bytes q (0..255) by output name, each (H, W, planes), an answer's scores (1, 1, S).

        `image` is (H, W, planes) of the model's size.
        """
        (height, width), planes = self.contract.size, self.contract.planes
        if image.shape != (height, width, planes) or image.dtype != np.uint8:
            kind = "RGB" if planes == 3 else "grey"
            raise SfumatoError(
                f"this model takes {height} x {width} {kind} bytes, {height, width, planes}, not {image.dtype} {image.shape}"
            )
        return {name: to_q(value[0]) for name, value in self.session.run(to_int8(image)[None]).items()}

    def at_strength(self, parameters: dict[str, Bytes], strength: int) -> dict[str, Bytes]:
        """The parameter bytes q' from which a dither channel draws at a strength of 1..128; those of 128 are q itself."""
        return {"p": weaken(parameters["p"], strength, gates=bool(self.contract.channel.gates))}

    @cached_property
    def noise_bytes(self) -> int:
        """Noise bytes one image needs."""
        height, width = self.contract.upload_size
        if self.contract.answer is not None:
            return NOISE_BYTES
        if self.book is not None:
            return self.book.noise_bytes
        if self.contract.channel.name == "dither":
            channel = self.contract.channel
            return dither_noise_bytes(height, width, channel.bits, channel.planes)
        return gaussian_noise_bytes(height, width)

    @cached_property
    def book(self) -> IndexCode | None:
        """What uploads are entries of; None where they are no indices."""
        return None if self.contract.index is None else IndexCode.of(self.contract)

    def noise(self, image: Bytes, parameters: dict[str, Bytes], key: bytes | None) -> Bytes:
        """The noise bytes of one upload: keyed, or without a key fresh.

        Raises:
            SfumatoError: the key is no key, or the contract is not written yet.
        """
        if key is None:
            return fresh_noise(self.noise_bytes)
        given = parameter_bytes(self.contract, parameters)
        return keyed_noise(key, self._digest(), given, image, self.noise_bytes)

    def _digest(self) -> bytes:
        if self.digest is None:
            raise SfumatoError(f"keyed noise depends on {FILE}, which is not written yet")
        return self.digest

    def word(self, parameters: dict[str, Bytes], noise: Bytes) -> int:
        """The code word of an answer's scores; two noise bytes choose it where the answer is randomised.

        Raises:
            SfumatoError: in picture mode there are no words.
        """
        answer, classes = self.contract.answer, self.contract.classes
        if answer is None:
            raise SfumatoError("a picture bundle has no code words")
        decision = decide(to_int8(parameters["scores"].reshape(-1)), classes)
        if self.table is None:
            return int(plain_word(decision, classes))
        return int(draw(self.table, state(decision, classes, answer.margins), noise))

    def sample(self, image: Bytes, parameters: dict[str, Bytes], noise: Bytes) -> Bytes:
        """Draw the levels (height, width, 3) of one upload from the image's parameters and noise bytes.

        Height and width are the contract's `upload_size`. An answer's levels are its word's image.
        """
        if self.contract.answer is not None:
            return word_image(self.word(parameters, noise), self.contract.answer.words, *self.contract.size)
        if self.book is not None:
            return self.book.levels(self.book.draw(parameters["p"], noise))
        channel = self.contract.channel
        if channel.name == "dither":
            return dither(parameters["p"], noise, bits=channel.bits, gray=bool(channel.gray))
        mean = image if channel.additive else parameters["mean"]
        return gaussian(mean, parameters["scale"], noise, **self._gaussian())

    def rate_bits(self, image: Bytes, parameters: dict[str, Bytes]) -> float:
        """Rate of one image in bits, as `Upload.rate_bits`."""
        if self.contract.answer is not None:
            return math.log2(self.contract.answer.words)
        if self.book is not None:
            return self.book.exact_bits(parameters["p"])
        channel = self.contract.channel
        if channel.name == "dither":
            rate = block_rate if channel.gates else dither_rate
            return rate(parameters["p"], gray=bool(channel.gray)) / math.log(2)
        mean = image if channel.additive else parameters["mean"]
        reference = float(channel.reference_scale or 0)
        nats = gaussian_rate(mean, parameters["scale"], reference_scale=reference, **self._gaussian())
        return nats / math.log(2)

    def perturb(
        self,
        image: Source | Bytes,
        *,
        key: bytes | None = None,
        encoding: str | None = None,
        strength: int | None = None,
    ) -> Upload:
        """Crop, resize, run, draw, encode.

        Args:
            image: a file, the bytes of one, an image of Pillow's, or an array (H, W, planes) of uint8 of the model's size.
                Where the contract has `sound`, files are recordings (WAV), and nothing is an image of Pillow's.
            key: the device key; None draws fresh noise, which is for measurements only: uploads of one photo can
                then be averaged.
            encoding: one of `ENCODINGS`; None takes the word of an answer bundle, the index where the contract has
                a book, and the image of any other.
            strength: of one of the contract's points; None takes the first, which is full strength.

        Raises:
            DataError: the image cannot be read.
            UsageError: an unknown encoding or one that the bundle does not have, or a strength that is that of no point.
            SfumatoError: the array has another size or type, the key is no key, or the contract is not written yet.
        """
        chosen, answer = self._encoding(encoding), self.contract.answer
        if strength is not None:
            self.contract.check_strength(strength)
        elif self.contract.points is not None:
            strength = FULL
        pixels = self._pixels(image)
        parameters = self.parameters(pixels)
        if strength is not None:
            parameters = self.at_strength(parameters, strength)
        noise = self.noise(pixels, parameters, key)
        content = None
        if self.book is not None:
            content = self.book.draw(parameters["p"], noise)
            word, levels = None, self.book.levels(content)
        elif answer is None:
            word, levels = None, self.sample(pixels, parameters, noise)
        else:
            word = self.word(parameters, noise)
            levels = word_image(word, answer.words, *self.contract.size)
        if chosen == "word" and answer is not None and word is not None:
            content = word_bytes(word, answer.words)
        elif content is None:
            content = encode_png(
                levels, bits=self.contract.channel.bits, gates=bool(self.contract.channel.gates)
            )
        return Upload(
            levels,
            content,
            chosen,
            word,
            key is not None,
            None if key is None else self.draw_id(pixels, parameters, key),
            lambda: self.rate_bits(pixels, parameters),
            None if self.limits is None else self.limits.unlike(pixels),
            strength,
        )

    def unlike(self, image: Source | Bytes) -> bool:
        """Whether a photo looks like none of those that the model was made for; False where the bundle does not say.

        Raises:
            DataError, SfumatoError: as `perturb`.
        """
        return self.limits is not None and self.limits.unlike(self._pixels(image))

    @cached_property
    def limits(self) -> Limits | None:
        """What ordinary photos look like; None in bundles of earlier versions.

        Raises:
            SfumatoError: the contract's figures are damaged.
        """
        return read_limits(self.contract.figures)

    def draw_id(self, image: Bytes, parameters: dict[str, Bytes], key: bytes) -> bytes:
        """What the ledger remembers of a draw: 16 bytes, as `sfumato.runtime.ledger.draw_id`.

        Raises:
            SfumatoError: the contract is not written yet.
        """
        return draw_id(key, self._digest(), parameter_bytes(self.contract, parameters), image.tobytes())

    def _encoding(self, chosen: str | None) -> Encoding:
        if chosen is None:
            usual: Encoding = "image" if self.contract.answer is None else "word"
            return usual if self.book is None else "index"
        if chosen not in ENCODINGS:
            raise UsageError(unknown("encoding", chosen, ENCODINGS))
        if (chosen == "index") != (self.book is not None):
            raise UsageError(
                "this bundle sends no indices: leave the encoding out"
                if self.book is None
                else "this bundle sends indices and nothing else, which is what bounds its uploads: leave the encoding out"
            )
        if chosen == "word" and self.contract.answer is None:
            raise UsageError("this bundle sends pictures, which have no code words: leave the encoding out")
        return chosen

    def _pixels(self, image: Source | Bytes) -> Bytes:
        """(H, W, planes) of the model's size."""
        if isinstance(image, np.ndarray):
            return image.copy()  # a camera may fill its buffer again before the rate is asked for
        if not isinstance(image, str | Path | bytes | Image.Image):
            kinds = "a file, its bytes, an image of Pillow's or an array of uint8"
            raise SfumatoError(f"an image is {kinds}, not {type(image).__name__}")
        return self.read(image)

    def read(self, image: Source, *, max_decoded: int = MAX_DECODED) -> Bytes:
        """What the model sees of a photo or recording, (H, W, planes); `max_decoded` as in `sfumato.core.image_io.load`.

        Raises:
            DataError: it cannot be read.
            SfumatoError: the model takes recordings, and this is an image of Pillow's.
        """
        if self.contract.sound is None:
            size, window = self.contract.size, self.contract.window
            pixels = load_image(image, *size, max_decoded=max_decoded, window=window)
        elif isinstance(image, Image.Image):
            raise SfumatoError("this model takes recordings: give a WAV file, or its bytes")
        else:
            pixels = load_sound(image, *self.contract.size)
        return to_grey(pixels) if self.contract.planes == 1 else pixels

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings, in small letters, of the files that are taken from a folder."""
        return SUFFIXES if self.contract.sound is None else (SUFFIX,)

    def _gaussian(self) -> dict[str, Any]:
        channel = self.contract.channel
        return {"largest_scale": channel.largest_scale, "additive": bool(channel.additive)}


def check_signature(contract: Contract, session: Session, *, int8: bool) -> None:
    """Compare names, shapes, types and scales of a loaded model with the contract.

    Raises:
        SfumatoError: any of them differs.
    """
    pairs = (((contract.input,), session.inputs), (contract.outputs, session.outputs))
    for promised, found in pairs:
        if {tensor.name for tensor in promised} != set(found):
            raise SfumatoError(f"the model's tensors are {', '.join(found)}: not what the contract names")
        for tensor in promised:
            _check_tensor(tensor, found[tensor.name], int8=int8)


def _check_tensor(tensor: Tensor, found: Any, *, int8: bool) -> None:
    shape, dtype = tuple(int(n) for n in found["shape"]), np.dtype(found["dtype"])
    if shape != tensor.shape or dtype != np.dtype(np.int8 if int8 else np.float32):
        raise SfumatoError(f"the model's {tensor.name} is {dtype} {shape}, the contract says {tensor.shape}")
    if int8:
        scale, zero = found["quantization"]
        # A model holds single precision.
        if not math.isclose(scale, tensor.int8_scale, rel_tol=1e-6) or zero != tensor.int8_zero_point:
            raise SfumatoError(
                f"the model's {tensor.name} has scale {scale} and zero point {zero}, the contract says "
                f"{tensor.int8_scale} and {tensor.int8_zero_point}"
            )
