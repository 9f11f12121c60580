"""Seeds that follow from what they are for, so that no stage depends on how many numbers another one drew.

seed_everything(config.seed, "clean", epoch)      # torch's global generator
generator.manual_seed(derive_seed(config.seed, "test"))
"""

import hashlib


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any parts; unlike `hash`, the same in every process.

    >>> derive_seed(0, "clean", 1) == derive_seed(0, "clean", 1) != derive_seed(0, "clean", 2)
    True
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_everything(*parts: object) -> None:
    """Seed torch's global generator from the parts."""
    import torch  # here, for `core` is imported where torch is not installed

    torch.manual_seed(derive_seed(*parts))
