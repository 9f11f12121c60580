"""The grammar of a data set's name on the command line: `KIND[:PATH][,option=value]...`.

Usage: `spec = Spec.parse("utkface:faces,size=48x64,limit=2000", extra=())`
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sfumato.core.errors import DataError, unknown

SPLIT_RULES = ("official", "identity", "stratified")
COMMON = ("size", "limit", "seed", "split", "attacker", "planes", "window", "mirror")
ATTACKER = 0.01, 0.9
"""Bounds of the attacker's share."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A parsed data set name."""

    kind: str
    path: Path | None = None
    size: tuple[int, int] | None = None
    """(height, width) in pixels; None is the kind's own default."""
    planes: int | None = None
    """3 for colour, 1 for grey; None is the kind's own default."""
    window: tuple[float, float] | None = None
    """Of pictures of 16 bits and DICOM: the grey values that become black and white; None: all, or the file's own."""
    mirror: bool = True
    """Mirror images are pictures of the same; False where left and right decide."""
    limit: int | None = None
    """Use only so many images, chosen by the seed with the labels' proportions kept."""
    seed: int = 0
    """Decides the splits, the choice made by `limit`, and what `synthetic` draws."""
    split: str | None = None
    """One of `SPLIT_RULES`; None takes the first that the data set allows."""
    attacker: float | None = None
    """Share of the pictures for training that the audit's attackers learn from; None: that of `FRACTIONS` in `splits`."""
    extra: tuple[tuple[str, str], ...] = ()
    """Options only this kind knows, in the order given."""

    @staticmethod
    def kind_of(text: str) -> str:
        """The part before the path and the options."""
        return re.split("[:,]", text, maxsplit=1)[0].strip()

    @classmethod
    def parse(cls, text: str, *, extra: Collection[str], repeatable: Collection[str] = ()) -> "Spec":
        """Read a spec.

        Args:
            text: the spec. Commas are allowed in the path: options begin at the first `,name=`.
            extra: names of the options only this kind knows.
            repeatable: those of them that may be given more than once.

        Raises:
            DataError: an unknown or malformed option; the known ones are listed.
        """
        kind = cls.kind_of(text)
        rest = text[len(kind) :]
        start = re.search(r",[A-Za-z_-]+=", rest)
        path_text, options = (
            (rest, []) if start is None else (rest[: start.start()], rest[start.end() :].split(","))
        )
        if start is not None:
            options[0] = start.group()[1:] + options[0]
        if path_text and not path_text.startswith(":"):
            raise DataError(f"cannot read {text!r}: write KIND:PATH,option=value, e.g. {kind},size=64")
        known = (*COMMON, *extra)
        values: dict[str, str] = {}
        others: list[tuple[str, str]] = []
        for option in options:
            name, equals, value = (part.strip() for part in option.partition("="))
            if not equals or not value:
                raise DataError(
                    f"cannot read option {option!r} of {text!r}: write name=value with name one of {known}"
                )
            if name not in known:
                raise DataError(f"{unknown('option', name, known)} (in {text!r})")
            if name not in repeatable and (name in values or any(name == other for other, _ in others)):
                raise DataError(f"option {name!r} is given twice in {text!r}")
            if name in COMMON:
                values[name] = value
            else:
                others.append((name, value))
        return cls(
            kind=kind,
            path=Path(path_text[1:]).expanduser() if len(path_text) > 1 else None,
            size=_size(values["size"]) if "size" in values else None,
            planes=_planes(values["planes"]) if "planes" in values else None,
            window=_window(values["window"]) if "window" in values else None,
            mirror=_yes("mirror", values.get("mirror", "yes")),
            limit=whole("limit", values["limit"], least=1) if "limit" in values else None,
            seed=whole("seed", values.get("seed", "0"), least=0),
            split=_rule(values["split"]) if "split" in values else None,
            attacker=_share(values["attacker"]) if "attacker" in values else None,
            extra=tuple(others),
        )

    def __str__(self) -> str:
        """Canonical text: parses back to an equal spec."""
        parts = [self.kind if self.path is None else f"{self.kind}:{self.path}"]
        if self.size is not None:
            parts.append(f"size={self.size[0]}x{self.size[1]}")
        if self.planes is not None:
            parts.append(f"planes={self.planes}")
        if self.window is not None:
            parts.append("window=" + ":".join(f"{value:.12g}" for value in self.window))
        parts += ["mirror=no"] * (not self.mirror)
        if self.limit is not None:
            parts.append(f"limit={self.limit}")
        parts += [f"seed={self.seed}"] * (self.seed != 0)
        parts += [f"split={self.split}"] * (self.split is not None)
        parts += [f"attacker={self.attacker}"] * (self.attacker is not None)
        return ",".join([*parts, *(f"{name}={value}" for name, value in self.extra)])


def whole(name: str, text: str, *, least: int) -> int:
    """A whole number of at least `least`, or a `DataError` that names the option."""
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) < least:
        raise DataError(f"option {name}={text!r} must be a whole number of at least {least}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,4})(?:x([0-9]{1,4}))?", text)
    if match is None:
        raise DataError(
            f"option size={text!r} must be pixels, e.g. size=64, or HEIGHTxWIDTH, e.g. size=48x64"
        )
    height, width = int(match[1]), int(match[2] or match[1])
    if not (8 <= height <= 1024 and 8 <= width <= 1024):
        raise DataError(f"option size={text!r} must lie between 8 and 1024 pixels a side")
    return height, width


def _planes(text: str) -> int:
    if text not in ("1", "3"):
        raise DataError(f"option planes={text!r} must be 1 (grey) or 3 (colour)")
    return int(text)


def _yes(name: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise DataError(f"option {name}={text!r} must be yes or no")
    return text == "yes"


def _window(text: str) -> tuple[float, float]:
    match = re.fullmatch(r"(-?[0-9]{1,7}(?:\.[0-9]{1,4})?):(-?[0-9]{1,7}(?:\.[0-9]{1,4})?)", text)
    if match is None or not float(match[1]) < float(match[2]):
        raise DataError(
            f"option window={text!r} must be the values of black and white, e.g. window=0:4095, of CT window=-160:240"
        )
    return float(match[1]), float(match[2])


def _share(text: str) -> float:
    least, most = ATTACKER
    if not re.fullmatch(r"0?\.[0-9]{1,4}", text) or not least <= float(text) <= most:
        raise DataError(f"option attacker={text!r} must be a share between {least:g} and {most:g}")
    return float(text)


def _rule(text: str) -> str:
    if text not in SPLIT_RULES:
        raise DataError(unknown("split rule", text, SPLIT_RULES))
    return text
