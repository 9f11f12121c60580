"""Several uploads in one request: their packed forms, one after the other, with nothing in between.

Each has the same length, so the body's length says how many there are. For gateways, and for apps that were offline: HTTP costs
as much as the network's answer, and a batch pays it once.

    body = b"".join(pack(levels, bits=1) for levels in uploads)         # at most largest_batch(contract) of them
"""

from sfumato.runtime.contract import Contract

PACKED_BATCH = "application/vnd.sfumato.packed-batch"
MOST = 64
"""Uploads in a request."""
BODY = 2**20
"""Bytes in a request, whatever the size of a picture."""


def packed_bytes(contract: Contract) -> int:
    """Bytes of a packed upload."""
    height, width = contract.size
    return -(-height * width * 3 * contract.channel.bits // 8)


def largest_batch(contract: Contract) -> int:
    """Most uploads in one request."""
    return max(1, min(MOST, BODY // packed_bytes(contract)))
