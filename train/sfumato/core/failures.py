"""What machines do to a command: full disks, folders that are not there, too little memory, text that has no letters for it.

`explain` is the one place that turns such an error into a line for a person; the command line asks it for whatever gets that
far. `writing` names the file that could not be written while that is still known.

    with writing(path):
        path.write_bytes(content)               # WriteError: cannot write uploads/a.png (No space left on device)
    explain(error)                              # a SfumatoError with one line, or None: a fault of ours
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfumato.core.errors import SfumatoError, first_line

WRITING = (errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What only writing can meet."""
FULL = ("OutOfMemoryError", "not enough memory", "can't allocate memory")
"""How PyTorch says it, which has types of its own for it."""


class WriteError(SfumatoError, OSError):
    """A file or folder that cannot be written."""

    def __init__(self, path: object, error: OSError) -> None:
        self.line = f"cannot write {path} ({reason(error)})"
        super().__init__(self.line)
        self.errno, self.strerror = error.errno, error.strerror

    def __str__(self) -> str:
        return self.line  # not how OSError tells its number


def reason(error: Exception) -> str:
    """What the system says of an error, or the error's first line."""
    return getattr(error, "strerror", None) or first_line(error)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system within the block are about writing `path`, unless they name a file that lies elsewhere.

    Args:
        path: of what shall be there in the end; made in a scratch file or folder beside it, or in itself.

    Raises:
        WriteError: the system refused.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        named = Path(str(error.filename)) if error.filename is not None else path
        if path.parent not in named.parents and named not in path.parents:
            raise
        # A scratch file is nothing a person knows; a folder above is what has to be mended.
        raise WriteError(named if named in path.parents else path, error) from None


def explain(error: BaseException) -> SfumatoError | None:
    """An error as one line that a person can act on; None where it can only be a fault of this program.

    >>> str(explain(FileNotFoundError(2, "No such file or directory", "a.png")))
    'cannot use a.png (No such file or directory)'
    """
    if isinstance(error, SfumatoError):
        return error
    if isinstance(error, OSError):
        full = error.errno in WRITING
        if error.filename is None:
            return SfumatoError(f"cannot write ({reason(error)})" if full else reason(error))
        return SfumatoError(f"cannot {'write' if full else 'use'} {error.filename} ({reason(error)})")
    if isinstance(error, MemoryError) or any(word in f"{type(error).__name__} {error}" for word in FULL):
        return SfumatoError(
            "out of memory: take fewer or smaller pictures (limit=, size=) or a smaller batch_size"
        )
    if isinstance(error, RecursionError):
        return SfumatoError("what was given nests too deeply: make it flatter")
    if isinstance(error, UnicodeError):
        encoding = getattr(error, "encoding", "text")
        return SfumatoError(f"a name or a text does not fit {encoding} ({first_line(error)}): rename it")
    return None
