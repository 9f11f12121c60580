"""What runs beside the model on a phone or a gateway. Neither torch nor TensorFlow is needed.

`contract` describes a bundle. `phone_model` runs it: `interpreter`, then `keyed_noise`, `sampler` and `upload_codec`.
`keyring` derives a key for every service. `exact_rate` computes the rate of one upload. `ledger` keeps the account of what was
sent, in a `sealed_log`. `scenes` tells which frames of a camera show one scene. `verification` checks a bundle with `signing`,
`attestation`, `test_vectors`, `tflite_graph` and `delegate_lint`; `sandbox` runs untrusted files in a child process.

    from sfumato.runtime import PhoneModel, device_keys
    upload = PhoneModel.load("export").perturb("photo.jpg", key=device_keys().for_service("photos.example"))
"""

from typing import TYPE_CHECKING

from sfumato.core.lazy import lazy_names

if TYPE_CHECKING:
    from sfumato.runtime.contract import Contract, read_contract
    from sfumato.runtime.keyed_noise import device_key, read_key
    from sfumato.runtime.keyring import KeyRing, device_keys
    from sfumato.runtime.ledger import Ledger, device_ledger
    from sfumato.runtime.phone_model import PhoneModel, Upload
    from sfumato.runtime.verification import Verification, verify

__all__ = [
    "Contract",
    "KeyRing",
    "Ledger",
    "PhoneModel",
    "Upload",
    "Verification",
    "device_key",
    "device_keys",
    "device_ledger",
    "read_contract",
    "read_key",
    "verify",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "contract": ("Contract", "read_contract"),
        "keyed_noise": ("device_key", "read_key"),
        "keyring": ("KeyRing", "device_keys"),
        "ledger": ("Ledger", "device_ledger"),
        "phone_model": ("PhoneModel", "Upload"),
        "verification": ("Verification", "verify"),
    },
)
