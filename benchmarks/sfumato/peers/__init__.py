"""Other methods, each from its published formula, under one trainer and one audit.

    peer = create("cloak", task)          # untrained
    train_peer(peer, "cloak", task)       # sfumato.peers.training

A further method is one file with a `Peer` and one line in `PEERS`.
"""

from collections.abc import Callable

from sfumato.errors import UsageError, unknown
from sfumato.peers.arden import Arden
from sfumato.peers.base import Peer, Task
from sfumato.peers.blur import Blurred
from sfumato.peers.cloak import Cloak
from sfumato.peers.deep_obfuscator import DeepObfuscator
from sfumato.peers.jpeg import Compressed
from sfumato.peers.mass import Mass
from sfumato.peers.maxent_arl import MaxEntArl
from sfumato.peers.narl import Narl
from sfumato.peers.on_phone import OnPhone
from sfumato.peers.pixelate import Pixelated
from sfumato.peers.protective import Protective
from sfumato.peers.raw import Raw
from sfumato.peers.shredder import Shredder
from sfumato.peers.substitution import Substitution
from sfumato.peers.uniform import UniformGaussian, UniformLaplace

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
