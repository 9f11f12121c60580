"""The audit: fresh attackers against a frozen model, and what they reveal.

    from sfumato.audit import audit

    result = audit("runs/smiling", attacks="quick")
    print(result.passed, result.reasons)

`runner` is the whole audit, from top to bottom. It reads a model through `artifact`, builds `attack_data`, runs `attacks` after
a `plan`, turns their `predictions` into figures (`scoring`, `metrics`), computes `bounds` and applies the `pass_rule`.
`schema` is audit.json; `report` and `plots` show it.
"""

from typing import TYPE_CHECKING

from sfumato.core.lazy import lazy_names

if TYPE_CHECKING:
    from sfumato.audit.artifact import Artifact, load
    from sfumato.audit.runner import audit
    from sfumato.audit.schema import Audit

__all__ = ["Artifact", "Audit", "audit", "load"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "artifact": ("Artifact", "load"),
        "runner": ("audit",),
        "schema": ("Audit",),
    },
)
