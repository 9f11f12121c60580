"""Request bodies: media types and sizes, for the service and its client alike.

    body = b"".join(pack(levels, bits=1) for levels in uploads)         # PACKED_BATCH: at most largest_batch(...) uploads

A batch is packed uploads, indices or in answer mode words, one directly after the other. Each has the same length, so the
body's length says how many there are. It is for gateways and for apps that were offline: HTTP costs as much as the network, and
a batch pays for it once.
"""

from sfumato.runtime.answer import word_size
from sfumato.runtime.contract import Contract

PNG = "image/png"
PACKED = "application/vnd.sfumato.packed"
WORD = "application/vnd.sfumato.word"
"""The code word of an answer, one byte or two."""
INDEX = "application/vnd.sfumato.index"
"""The index of an entry of the contract's book. Where there is a book nothing else is taken: that bounds what uploads tell."""
PACKED_BATCH = "application/vnd.sfumato.packed-batch"
WORD_BATCH = "application/vnd.sfumato.word-batch"
INDEX_BATCH = "application/vnd.sfumato.index-batch"
SINGLE = {PACKED_BATCH: PACKED, WORD_BATCH: WORD, INDEX_BATCH: INDEX}
"""Media type of a batch -> that of each of its uploads."""

CONTRACT_HEADER = "Sfumato-Contract"
"""sha256 of the contract.json that an upload was made with, in hexadecimal."""
MAX_BATCH = 64
"""Most uploads in a request."""
MAX_BATCH_BYTES = 2**20
"""Most bytes in a request, whatever the size of an image."""


def decompressed_bytes(contract: Contract) -> int:
    """Bytes of an upload's decompressed PNG: rows, each with its filter byte."""
    upload = contract.upload
    samples = upload.width * (3 if upload.bit_depth == 8 else 1)
    return upload.height * (1 + -(-samples * upload.bit_depth // 8))


def single_types(contract: Contract) -> tuple[str, ...]:
    """Media types of one upload, the usual one first."""
    if contract.index is not None:
        return (INDEX,)
    return (PNG, PACKED) if contract.answer is None else (WORD, PNG, PACKED)


def batch_types(contract: Contract) -> tuple[str, ...]:
    """Media types of several uploads, the usual one first."""
    if contract.index is not None:
        return (INDEX_BATCH,)
    return (PACKED_BATCH,) if contract.answer is None else (WORD_BATCH, PACKED_BATCH)


def largest_body(contract: Contract, kind: str = PNG) -> int:
    """Most bytes of one upload: a PNG may be what any encoder makes of noise, with room for many small chunks."""
    return decompressed_bytes(contract) * 9 // 8 + 1024 if kind == PNG else upload_bytes(contract, kind)


def upload_bytes(contract: Contract, kind: str) -> int:
    """Bytes of each upload of this media type, alone or in a batch; a PNG has no fixed length."""
    if kind in (WORD, WORD_BATCH):
        assert contract.answer is not None, "the types of a request are checked first"
        return word_size(contract.answer.words)
    if kind in (INDEX, INDEX_BATCH):
        assert contract.index is not None, "the types of a request are checked first"
        return -(-contract.index.bits // 8)
    height, width = contract.upload_size
    return -(-height * width * contract.channel.planes * contract.channel.bits // 8)


def largest_batch(contract: Contract, kind: str = PACKED_BATCH) -> int:
    """Most uploads in one request."""
    return max(1, min(MAX_BATCH, MAX_BATCH_BYTES // upload_bytes(contract, kind)))
