"""`sfumato doctor`: what is installed, what is missing, and the exact line that installs it."""

from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, alone.")] = False,
) -> None:
    """Show versions and what each missing part needs; fails only when the core is broken."""
    from sfumato.cli.installation import examine
    from sfumato.core.console import emit_json, note, show, table
    from sfumato.core.errors import SfumatoError

    report = examine()
    if as_json:
        emit_json(report)
    else:
        about = report["provenance"]
        show(
            table(
                f"sfumato {about['sfumato']}, Python {about['python']}, {about['platform']}",
                ("part", "state", "for"),
                [(part["name"], _state(part), part["purpose"]) for part in report["parts"]],
            )
        )
        for part in report["parts"]:
            if not part["ok"]:
                note(f"{part['name']}: {'; '.join(part['problems'])}\n    {part['install']}")
    broken = [problem for part in report["parts"] if part["required"] for problem in part["problems"]]
    if broken:
        raise SfumatoError(f"the core is broken: {'; '.join(broken)}")


def _state(part: dict[str, object]) -> str:
    if part["ok"]:
        return f"ok {part['version'] or ''}".rstrip()
    return "BROKEN" if part["required"] else "missing"
