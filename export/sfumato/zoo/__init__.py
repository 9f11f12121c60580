"""The zoo: exports that ship with their audits, and the one command that makes each again.

`index` says what a zoo holds, file by file, with SHA-256. `places` reads from a folder or a web server, `fetch` takes one
export out of a zoo. `recipes` says how each entry is made, `making` does it, `packing` puts the result into a zoo and copies
its figures from the audit. `checking` compares a zoo with its index. `shipped/` is the zoo of the wheel. Only `making` needs
torch and TensorFlow.

    from sfumato.zoo import get, shipped_index
    get("spoken-digits", "digits")
"""

from typing import TYPE_CHECKING

from sfumato.core.lazy import lazy_names

if TYPE_CHECKING:
    from sfumato.zoo.checking import check
    from sfumato.zoo.fetch import get
    from sfumato.zoo.index import Index, shipped_index
    from sfumato.zoo.making import make

__all__ = ["Index", "check", "get", "make", "shipped_index"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "checking": ("check",),
        "fetch": ("get",),
        "index": ("Index", "shipped_index"),
        "making": ("make",),
    },
)
