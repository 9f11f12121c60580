"""`sfumato bench report`: result files as one page and three pictures.

write_report([read_results(path) for path in paths], Path("report"))
"""

from collections.abc import Sequence
from pathlib import Path

from sfumato.bench.plots import PLOTS
from sfumato.bench.results import SCHEMA, Results, read_results
from sfumato.bench.tables import tables
from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_write, read_json
from sfumato.core.reports import markdown, save_png

PAGE = "report.md"


def find_results(paths: Sequence[Path]) -> dict[str, Results]:
    """Result files by name; a folder stands for those in it, of whatever version. Other studies may lie beside them.

    Raises:
        SfumatoError: there is none, or one cannot be read.
    """
    files = [file for path in paths for file in (_of_benchmarks(path) if path.is_dir() else [path])]
    if not files:
        raise SfumatoError(f"no result files in {', '.join(map(str, paths))}: make some with --out FILE.json")
    return {file.stem: read_results(file) for file in files}


def _of_benchmarks(folder: Path) -> list[Path]:
    kind = SCHEMA.partition("/")[0]
    values = {file: read_json(file) for file in sorted(folder.glob("*.json"))}
    schemas = {file: value.get("schema") for file, value in values.items() if isinstance(value, dict)}
    return [file for file, schema in schemas.items() if str(schema).partition("/")[0] == kind]


def write_report(found: dict[str, Results], out: Path) -> list[Path]:
    """Write the page and the pictures that the results allow; returns what was written."""
    written = []
    for name, draw in PLOTS.items():
        plot = draw(list(found.values()))
        if plot is not None:
            save_png(plot, out / f"{name}.png")
            written.append(out / f"{name}.png")
    parts = ["# Benchmarks", *(f"![{path.stem}]({path.name})" for path in written)]
    for name, results in found.items():
        parts += [f"## {name}", origin(results), *map(markdown, tables(results))]
    with atomic_write(out / PAGE) as scratch:
        scratch.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [out / PAGE, *written]


def origin(results: Results) -> str:
    """Where and with what a file was made, in a sentence."""
    facts = results.environment
    place = facts.get("device") or facts.get("emulator") or facts.get("processor") or facts.get("platform")
    commit = str(facts.get("git_commit") or "unknown")[:10]
    changed = ", with changes" if facts.get("git_dirty") else ""
    return f"{place}; sfumato {facts.get('sfumato')}, commit {commit}{changed}."
