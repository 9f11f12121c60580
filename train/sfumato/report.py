"""report.html (placeholder until the next commit)."""

from pathlib import Path
from sfumato.attacks.evidence import Evidence
from sfumato.audit_schema import Audit


def write(audit: Audit, evidence: Evidence, source: Path, path: Path) -> None:
    """Write."""
