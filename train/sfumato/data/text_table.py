"""Reading a table of text as people save it: any usual encoding and separator, blank lines, Excel's habits.

table = read_table(Path("photos/labels.csv"))
table.columns["smiling"], table.lines        # values, and the line that each row stands on, for messages
"""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.core.console import note
from sfumato.core.errors import DataError

MOST_BYTES = 512 * 2**20
"""Largest table that is read: it is held in memory."""
SEPARATORS = ",;\t|"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Columns of equal length."""

    path: Path
    columns: dict[str, list[str]]
    """Values by column, cleaned by `clean`."""
    lines: Sequence[int]
    """The line of the file that each row ends on."""


def clean(text: str) -> str:
    """A cell without what nobody sees: composed letters (NFC), no space around it, no zero-width characters.

    >>> clean(" u\u0308ber\u00a0"), clean("n\u200bo")
    ('über', 'no')
    """
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).strip()


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16, UTF-32 or, where it is none of these, Windows-1252, which is said.

    Raises:
        DataError: the file cannot be read, is too large, or is not text.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file")
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path} is larger than {MOST_BYTES // 2**20} MB: is it a table?")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    half = len(content[:4000]) // 2
    if marked is None and half and content[1:4000:2].count(0) > 0.4 * half:
        marked = "utf-16-le"  # letters of Latin scripts have a zero byte each
    elif marked is None and half and content[0:4000:2].count(0) > 0.4 * half:
        marked = "utf-16-be"
    for encoding in (marked,) if marked else ("utf-8", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        if encoding == "cp1252":
            note(f"{path} is not UTF-8: read as Windows-1252. Save it as UTF-8 if letters are wrong")
        return text
    raise DataError(f"{path} is not text in UTF-8, UTF-16 or Windows-1252: save it as CSV in UTF-8")


def read_table(path: Path, *, key: str, aliases: Sequence[str] = ()) -> TextTable:
    """Read a table whose first line names its columns.

    The separator is the one of `SEPARATORS` that makes the first line name most columns, `key` among them. Column names are
    cleaned; `key` is found in any case, or by one of `aliases`, and called `key` then. Columns without a name, blank lines
    and empty cells at the end of a row are dropped.

    Raises:
        DataError: not such a table, a name twice, or a row with another number of values; the line is named.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    first, _, rest = text.partition("\n")
    said = re.fullmatch(r'"?sep=(.)"?', first.strip())  # what Excel writes and reads
    skipped = 1 if said else 0
    if said:
        text, first = rest, rest.partition("\n")[0]
    headers = {one: _header(first, one) for one in (said[1] if said else SEPARATORS)}
    names = {key: (key, *aliases)}
    fitting = {
        one: found for one, found in headers.items() if found and _position(found, names[key]) is not None
    }
    if not fitting:
        raise DataError(f"{path}: the first line must name a column {key!r} and every other column once")
    separator = max(fitting, key=lambda one: len(fitting[one]))
    header = fitting[separator]
    while not header[-1]:
        header.pop()
    at = _position(header, names[key])
    assert at is not None
    if header[at].casefold() != key:
        note(f"{path}: the column {header[at]!r} is taken as {key!r}")
    header[at] = key
    named = [name for name in header if name]
    if len({name.casefold() for name in named}) < len(named):
        raise DataError(f"{path}: the first line must name a column {key!r} and every other column once")
    columns: dict[str, list[str]] = {name: [] for name in named}
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        next(reader)
        for row in reader:
            while len(row) > len(header) and not row[-1].strip():
                row.pop()
            if not any(cell.strip() for cell in row):
                continue
            line = reader.line_num + skipped
            if len(row) != len(header):
                raise DataError(f"{path} line {line}: {len(row)} values for {len(header)} columns")
            for name, cell in zip(header, row, strict=True):
                if name:
                    columns[name].append(clean(cell))
            lines.append(line)
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num + skipped}: not a CSV file ({error})") from None
    return TextTable(path=path, columns=columns, lines=lines)


def _header(line: str, separator: str) -> list[str]:
    try:
        return [clean(name) for name in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return []


def _position(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Where the first of these names stands, in any case."""
    folded = [name.casefold() for name in header]
    return next((folded.index(name) for name in names if name in folded), None)
