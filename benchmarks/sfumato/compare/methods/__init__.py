"""Other methods, each from its published formula, under one trainer and one audit.

    peer = create("cloak", task)          # untrained
    train_peer(peer, "cloak", task)       # sfumato.compare.methods.training

A further method is one file with a `Peer` and one line in `PEERS`.
"""

from collections.abc import Callable

from sfumato.compare.methods.arden import Arden
from sfumato.compare.methods.base import Peer, Task
from sfumato.compare.methods.blur import Blurred
from sfumato.compare.methods.cloak import Cloak
from sfumato.compare.methods.deep_obfuscator import DeepObfuscator
from sfumato.compare.methods.jpeg import Compressed
from sfumato.compare.methods.mass import Mass
from sfumato.compare.methods.maxent_arl import MaxEntArl
from sfumato.compare.methods.narl import Narl
from sfumato.compare.methods.on_phone import OnPhone
from sfumato.compare.methods.pixelate import Pixelated
from sfumato.compare.methods.protective import Protective
from sfumato.compare.methods.raw import Raw
from sfumato.compare.methods.shredder import Shredder
from sfumato.compare.methods.substitution import Substitution
from sfumato.compare.methods.uniform import UniformGaussian, UniformLaplace
from sfumato.core.errors import UsageError, unknown

PEERS: dict[str, Callable[[Task], Peer]] = {
    "raw": Raw,
    "blur": Blurred,
    "pixelate": Pixelated,
    "jpeg": Compressed,
    "gaussian": UniformGaussian,
    "laplace": UniformLaplace,
    "arden": Arden,
    "shredder": Shredder,
    "cloak": Cloak,
    "deepobfuscator": DeepObfuscator,
    "maxent-arl": MaxEntArl,
    "narl": Narl,
    "mass": Mass,
    "pass": Substitution,
    "protective": Protective,
    "on-phone": OnPhone,
}
"""Name on the command line -> peer."""


def create(name: str, task: Task) -> Peer:
    """An untrained peer.

    Raises:
        UsageError: the name is not known, or the peer needs hidden attributes and none was named.
    """
    if name not in PEERS:
        raise UsageError(unknown("peer", name, PEERS))
    return PEERS[name](task)


__all__ = ["PEERS", "Peer", "Task", "create"]
