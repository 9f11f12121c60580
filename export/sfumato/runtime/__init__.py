"""What runs beside the model on a phone or a gateway. Neither torch nor TensorFlow is needed.

`contract` describes a bundle. `phone_model` runs it: `interpreter`, then `keyed_noise`, `sampler` and `upload_codec`.
`exact_rate` computes the rate of one upload. `verification` checks a bundle with `signing`, `test_vectors`, `tflite_graph` and
`delegate_lint`; `sandbox` runs untrusted files in a child process.

    from sfumato.runtime import PhoneModel, device_key
    upload = PhoneModel.load("export").perturb("photo.jpg", key=device_key())
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.runtime.contract import Contract, read_contract
    from sfumato.runtime.keyed_noise import device_key, read_key
    from sfumato.runtime.phone_model import PhoneModel, Upload
    from sfumato.runtime.verification import Verification, verify

__all__ = [
    "Contract",
    "PhoneModel",
    "Upload",
    "Verification",
    "device_key",
    "read_contract",
    "read_key",
    "verify",
]

_MODULES = {
    "Contract": "contract",
    "PhoneModel": "phone_model",
    "Upload": "phone_model",
    "Verification": "verification",
    "device_key": "keyed_noise",
    "read_contract": "contract",
    "read_key": "keyed_noise",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    """PEP 562: a public name is imported when it is first asked for, so that the package itself costs nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
