"""Public names of a package, each imported from its module when it is first asked for (PEP 562).

A package that needs torch or TensorFlow takes seconds to import; its `__init__` costs nothing this way.

    __getattr__, __dir__ = lazy_names(__name__, {"runner": ("train",), "run": ("Run", "load_run")})
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package.

    Args:
        package: its `__name__`.
        modules: module of the package -> the public names that it defines.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get, lambda: sorted(homes)
