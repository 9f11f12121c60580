"""Files that hold secrets: device keys, tokens.

require_private(Path("device.key"))      # refuses a file that others can read
"""

import os
import stat
from pathlib import Path

from sfumato.core.errors import SfumatoError
from sfumato.core.files import require_file


def open_to_others(path: Path) -> bool:
    """Whether the group or anybody else may read or write a file; where there are no such bits (Windows), never."""
    return os.name == "posix" and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def require_private(path: Path) -> None:
    """Refuse a file with a secret that others may read or write.

    Raises:
        SfumatoError: it is open to others, missing, or no regular file.
    """
    require_file(path)
    if open_to_others(path):
        raise SfumatoError(f"others can read {path}, which holds a secret: chmod 600 {path}")
