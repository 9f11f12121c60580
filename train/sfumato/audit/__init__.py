"""The audit: fresh attackers against a frozen model, and what they reveal.

    from sfumato.audit import audit

    result = audit("runs/smiling", attacks="quick")
    print(result.passed, result.reasons)

`runner` is the whole audit, from top to bottom. It reads a model through `artifact`, builds `attack_data`, runs `attacks` after
a `plan`, turns their `predictions` into figures (`scoring`, `metrics`), computes `bounds` and applies the `pass_rule`.
`schema` is audit.json; `report` and `plots` show it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.audit.artifact import Artifact, load
    from sfumato.audit.runner import audit
    from sfumato.audit.schema import Audit

__all__ = ["Artifact", "Audit", "audit", "load"]

_HOME = {"Artifact": "artifact", "Audit": "schema", "audit": "runner", "load": "artifact"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562): the command line imports this package and stays light."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
