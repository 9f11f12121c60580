"""Tables that take long: every row is kept as soon as it is there, so that a run that was stopped goes on where it was.

    table = fill(Path("own-networks.json"), ["u_net direct"], measure, schema="rows/1", made_with={"torch": "2"})

The file says what the rows were made with: versions, and a hash of the code that they judge. Rows of anything else are made
again.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sfumato.core.console import emit_json, note, show, table
from sfumato.core.files import atomic_write, make_folder, read_object, write_json
from sfumato.core.reports import Grid, markdown

Row = Mapping[str, Any]


def fill(
    path: Path | None,
    keys: Sequence[str],
    make: Callable[[str], Row],
    *,
    schema: str,
    made_with: Mapping[str, str],
) -> dict[str, Any]:
    """Make the rows that are missing, in the order of `keys`, and keep each; says how far it is and how long it may take.

    Args:
        path: of the JSON file; None: nothing is kept.
        keys: the rows; none twice.
        make: the row of a key, a JSON object; what its key `words` says is shown.
        schema: of the file.
        made_with: what a row depends on.

    Returns:
        What the file holds: `schema`, `made_with`, and `rows` by key.

    Raises:
        SfumatoError: the file cannot be written, or is not JSON.
    """
    if path is not None:
        make_folder(path.absolute().parent)
    rows = kept(path, schema, made_with)
    found: dict[str, Any] = {"schema": schema, "made_with": dict(made_with), "rows": {}}
    found["rows"] = {key: rows[key] for key in keys if key in rows}
    missing = [key for key in keys if key not in rows]
    if len(missing) < len(keys):
        note(f"{path}: {len(keys) - len(missing)} of {len(keys)} rows are there already")
    began = time.monotonic()
    for done, key in enumerate(missing, 1):
        row = make(key)
        found["rows"][key] = dict(row)
        if path is not None:
            write_json(path, found)
        left = (time.monotonic() - began) / done * (len(missing) - done) / 60
        note(f"{done} of {len(missing)}: {key}: {row.get('words') or 'yes'} (about {left:.0f} min left)")
    found["rows"] = {key: found["rows"][key] for key in keys}
    if path is not None:
        write_json(path, found)
    return found


def kept(path: Path | None, schema: str, made_with: Mapping[str, str]) -> dict[str, Row]:
    """The rows of a file that were made with the same; none if it is missing or of another schema.

    Raises:
        SfumatoError: it is no JSON object.
    """
    if path is None or not path.exists():
        return {}
    content = read_object(path)
    same = content.get("schema") == schema and content.get("made_with") == dict(made_with)
    rows = content.get("rows")
    return rows if same and isinstance(rows, dict) else {}


def versions(*packages: str) -> dict[str, str]:
    """Versions of packages, for `made_with`; those that are missing are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def code_hash(files: Sequence[Path]) -> str:
    """A name for what these files say, for `made_with`."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]


def page(title: str, command: str, words: Sequence[str], grids: Sequence[Grid]) -> str:
    """A page of the documentation that a command made."""
    tables = [cell for grid in grids for cell in (markdown(grid), "")]
    head = [f"# {title}", "", f"Written by `{command}`; a change belongs there, not here.", ""]
    return "\n".join([*head, *(line for word in words for line in (word, "")), *tables])


def made_by(made_with: Mapping[str, str]) -> str:
    """The paragraph that names what rows were made with."""
    return f"Made with {', '.join(f'{name} {value}' for name, value in made_with.items() if name != 'code')}."


def present(
    result: Mapping[str, Any],
    grid: Callable[[Sequence[Row]], Grid],
    render: Callable[[Mapping[str, Any]], str],
    *,
    page_file: Path | None,
    as_json: bool,
) -> None:
    """The end of a command: write the page where one is asked for, and print the table or its JSON.

    Args:
        result: of `fill`.
        grid: rows -> the table for people.
        render: result -> the page.
        page_file: where the page goes.
        as_json: print JSON in place of the table.
    """
    if page_file is not None:
        write_page(page_file, render(result))
    if as_json:
        emit_json(result)
        return
    shown = grid(list(result["rows"].values()))
    show(table(shown.title, shown.columns, shown.rows))


def not_yet(missing: Sequence[str]) -> tuple[str, ...]:
    """A paragraph that names the rows that a table lacks; none if it has all."""
    return (f"Not measured yet: {', '.join(missing)}.",) if missing else ()


def write_page(path: Path, text: str) -> None:
    """Write a page, whole or not at all."""
    make_folder(path.absolute().parent)
    with atomic_write(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
