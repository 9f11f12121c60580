"""What is measured: models as bytes, with what their files say about them.

subjects = export_subjects(Path("export"), ["int8", "float32"])
subjects[0].facts()["macs"]
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sfumato.bench.arithmetic import Layer, layers_of
from sfumato.core.errors import UsageError, unknown
from sfumato.runtime.contract import VARIANTS, read_contract, read_file
from sfumato.runtime.tflite_graph import Graph, read_graph

OURS = "sfumato"


@dataclass(frozen=True)
class Subject:
    """One model file."""

    name: str
    """`sfumato`, or another method."""
    variant: str
    content: bytes

    @property
    def id(self) -> str:
        """For people and file names: `sfumato int8` is `sfumato-int8`."""
        return f"{self.name}-{self.variant}"

    @cached_property
    def graph(self) -> Graph:
        """What is in the file."""
        return read_graph(self.content)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers."""
        return layers_of(self.graph)

    @property
    def int8(self) -> bool:
        """Whether it computes in int8."""
        return self.graph.inputs[0].type == "INT8"

    def facts(self) -> dict[str, Any]:
        """The fields of a result row that only depend on the file."""
        _, height, width, _ = self.graph.inputs[0].shape
        return {
            "subject": self.name,
            "variant": self.variant,
            "size": (height, width),
            "nodes": len(self.graph.operators),
            "params": sum(layer.params for layer in self.layers),
            "macs": sum(layer.macs for layer in self.layers),
            "bytes": len(self.content),
            "sha256": hashlib.sha256(self.content).hexdigest(),
        }


def export_subjects(export: Path, variants: Sequence[str]) -> list[Subject]:
    """Models of an export, checked against its contract.

    Raises:
        UsageError: a variant is not known.
        SfumatoError: the export is damaged, or does not hold the variant.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise UsageError(unknown("variant", variant, VARIANTS))
    contract = read_contract(export)
    files = {variant: contract.file(contract.model(variant).file) for variant in variants}
    return [Subject(OURS, variant, read_file(export, entry)) for variant, entry in files.items()]
