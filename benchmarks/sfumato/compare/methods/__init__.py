"""Other methods, each from its published formula, under one trainer and one audit.

    method = create("cloak", task, 10.0)        # untrained, at this value of the method's setting
    train_method(method, "cloak", task)         # sfumato.compare.methods.training

These are the networks that we train and attack, at sizes equal to ours. What a paper runs on the phone, at the paper's own
size, is in `sfumato.bench.phone_networks`; `sfumato bench networks` shows both.

A further method is one file with a `Method` and its `Curve`, one line in `METHODS` and one in `sfumato.compare.network_sizes`.
"""

from collections.abc import Callable

from sfumato.compare.methods.arden import Arden
from sfumato.compare.methods.base import Curve, Method, Task, UnsuitableError
from sfumato.compare.methods.blur import Blurred
from sfumato.compare.methods.cloak import Cloak
from sfumato.compare.methods.codecs import Avif, Compressed, Jpeg, WebP
from sfumato.compare.methods.deep_obfuscator import DeepObfuscator
from sfumato.compare.methods.info_decom import InfoDecomStyle
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

METHODS: dict[str, type[Method]] = {
    "raw": Raw,
    "blur": Blurred,
    "pixelate": Pixelated,
    "jpeg": Jpeg,
    "webp": WebP,
    "avif": Avif,
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
    "infodecom-style": InfoDecomStyle,
    "on-phone": OnPhone,
}
"""Name on the command line -> method."""


def create(name: str, task: Task, value: float | None = None) -> Method:
    """An untrained method.

    Args:
        name: of the method.
        task: what it is made for.
        value: of its setting; None: the one that stands for the method.

    Raises:
        UsageError: the name is not known, or the value is out of range.
        UnsuitableError: the method needs hidden attributes and none was named, or another cloud network.
    """
    if name not in METHODS:
        raise UsageError(unknown("method", name, METHODS))
    make: Callable[..., Method] = METHODS[name]
    curve = METHODS[name].curve
    if curve is None:
        if value is not None:
            raise UsageError(f"{name} has no setting")
        return make(task)
    return make(task, **{curve.option: curve.accept(name, curve.values[0] if value is None else value)})


def available(name: str) -> bool:
    """Whether a method can be made here: picture formats need a Pillow that writes them."""
    method = METHODS[name]
    return not issubclass(method, Compressed) or method.available()


__all__ = ["METHODS", "Curve", "Method", "Task", "UnsuitableError", "available", "create"]
