"""The extras of the package, the commands that need them, and what to type when one is missing.

Standard library only: it speaks when a package cannot be imported.

Usage: `missing("train", "torch")` is `'train' needs PyTorch: pip install "sfumato[train]"`.
"""

import platform
import sys
from importlib.metadata import PackageNotFoundError, requires

EXTRAS = {
    "": "sfumato perturb, sfumato verify",
    "train": "sfumato data, train and audit",
    "lite0": "sfumato train --cloud lite0",
    "export": "sfumato export and demo: ONNX and TFLite",
    "heic": "reading HEIC",
    "medical": "reading DICOM files",
    "server": "sfumato serve, send and tokens",
    "video": "sfumato watch: cameras and video files",
    "bench": "sfumato bench and compare",
    "tflite-runtime": "the second interpreter, SFUMATO_RUNTIME=tflite-runtime",
    "npu": "sfumato export --npu, in an environment of its own (docs/npu.md)",
    "docs": "building the documentation",
    "dev": "make test",
}
"""Extra -> what it is for; the empty name is the base."""

APART = {"npu": 'python3 -m venv npu && npu/bin/pip install "onnxruntime-qnn==2.7.0"'}
"""Extra -> how it is installed where it cannot share an environment with the others."""

EXTRA_OF = {
    "data": "train",
    "train": "train",
    "audit": "train",
    "export": "export",
    "demo": "export",
    "advise": "train",
    "serve": "server",
    "send": "server",
    "tokens": "server",
    "watch": "video",
    "bench": "bench",
    "compare": "bench",
    "zoo": "export",
}
"""Command -> the extra it needs. Those not named here run on the base."""

PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn"}
"""Module -> package, where more than an underscore tells them apart."""
PROPER_NAMES = {"torch": "PyTorch", "tensorflow": "TensorFlow"}


def missing(command: str, module: str) -> str:
    """What to type when `command` cannot import `module`: the extra that brings it, or that nothing does here."""
    name = module.partition(".")[0]
    package = PACKAGES.get(name, name.replace("_", "-"))
    extra = EXTRA_OF.get(command, "")
    needs = f"{command!r} needs {PROPER_NAMES.get(package, package)}"
    if name in sys.stdlib_module_names:
        return f"{needs}, a part of Python that {platform.system()} does not have: use Linux or macOS"
    if not offered(package, extra):
        return f"{needs}, which is not for Python {platform.python_version()} on {platform.system()}"
    return f'{needs}: pip install "sfumato[{extra}]"' if extra else f"{needs}: pip install sfumato"


def offered(package: str, extra: str) -> bool:
    """Whether an extra brings a package on this system: its markers may leave out the Python or the platform."""
    try:
        from packaging.requirements import Requirement

        lines = requires("sfumato") or []
    except (ImportError, PackageNotFoundError):  # missing itself, or run from the sources
        return True
    from sfumato.cli.installation import requirements

    declared = {Requirement(line).name for line in lines}
    return package not in declared or package in {need.name for need in requirements(extra)}
