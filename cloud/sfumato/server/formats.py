"""Request bodies: media types and sizes, for the service and its client alike.

    body = b"".join(pack(levels, bits=1) for levels in uploads)         # PACKED_BATCH: at most largest_batch(contract) uploads

A batch is packed uploads, one directly after the other. Each has the same length, so the body's length says how many there
are. It is for gateways and for apps that were offline: HTTP costs as much as the network, and a batch pays for it once.
"""

from sfumato.runtime.contract import Contract

PNG = "image/png"
PACKED = "application/vnd.sfumato.packed"
PACKED_BATCH = "application/vnd.sfumato.packed-batch"

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


def largest_body(contract: Contract) -> int:
    """Most bytes of one upload: what any PNG encoder makes of noise, with room for many small chunks."""
    return decompressed_bytes(contract) * 9 // 8 + 1024


def packed_bytes(contract: Contract) -> int:
    """Bytes of a packed upload."""
    height, width = contract.size
    return -(-height * width * 3 * contract.channel.bits // 8)


def largest_batch(contract: Contract) -> int:
    """Most uploads in one request."""
    return max(1, min(MAX_BATCH, MAX_BATCH_BYTES // packed_bytes(contract)))
