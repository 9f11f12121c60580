"""What `--leak` asks for: how much the strongest adversary of training may find of each hidden attribute.

    read_leaks("race:0.05,gender:0.1bits")["gender"].most      # 0.1

A plain number is a NAG, the normalized accuracy gain: the share of what photos tell beyond a guess that uploads still tell
(`sfumato.audit.pass_rule`). With `bits` it is information beyond the desired labels.
"""

import re
from dataclasses import dataclass

from sfumato.core.errors import UsageError


@dataclass(frozen=True)
class LeakLimit:
    """Of one attribute.

    Attributes:
        most: a fraction for a NAG, else bits.
        in_bits: which of both.
    """

    most: float
    in_bits: bool = False

    def show(self, leak: float) -> str:
        """A leak in this unit.

        >>> LeakLimit(0.05).show(0.123), LeakLimit(0.1, in_bits=True).show(0.123)
        ('12.3 %', '0.123 bits')
        """
        return f"{leak:.3f} bits" if self.in_bits else f"{100 * leak:.1f} %"


def read_leaks(text: str) -> dict[str, LeakLimit]:
    """Attribute -> its limit.

    >>> read_leaks("race:0.05, gender:0.1bits")
    {'race': LeakLimit(most=0.05, in_bits=False), 'gender': LeakLimit(most=0.1, in_bits=True)}

    Raises:
        UsageError: another form, a NAG that is not between 0 and 1, or an attribute named twice.
    """
    found: dict[str, LeakLimit] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(?P<name>[^:]+):\s*(?P<most>\d+(\.\d*)?|\.\d+)\s*(?P<bits>bits?)?", part)
        if match is None:
            raise UsageError(
                f"leak {part!r}: give ATTRIBUTE:NAG or ATTRIBUTE:NUMBERbits, as in race:0.05,gender:0.1bits"
            )
        name, most, in_bits = match["name"].strip(), float(match["most"]), match["bits"] is not None
        if name in found:
            raise UsageError(f"leak names {name} twice")
        if not 0 < most < (float("inf") if in_bits else 1):
            raise UsageError(f"leak {part!r}: a NAG is a fraction above 0 and below 1, and bits are above 0")
        found[name] = LeakLimit(most, in_bits)
    return found
