"""Which output of a cloud network in ONNX answers which kept attribute.

match_heads(["race", "gender"], ["gender", "race"])      # ("gender", "race")

Neither torch nor onnx is needed: the service and `sfumato verify` ask as well.
"""

from collections.abc import Sequence

from sfumato.core.errors import SfumatoError


def match_heads(outputs: Sequence[str], attributes: Sequence[str]) -> tuple[str, ...]:
    """Names of the outputs in the order of the attributes: the same names, or one output of any name for one attribute.

    Raises:
        SfumatoError: the names differ.
    """
    if len(outputs) == len(attributes) == 1:
        return tuple(outputs)
    if sorted(outputs) != sorted(attributes):
        raise SfumatoError(
            f"its outputs are {', '.join(outputs)}, the kept attributes {', '.join(attributes)}: "
            "name every output after the attribute that it answers"
        )
    return tuple(attributes)
