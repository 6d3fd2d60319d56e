"""Lazy imports of package attributes (PEP 562), so that importing a package does not load torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy"]


def lazy(
    package: str, exports: Mapping[str, str], submodules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` of a package.

    Args:
        package: its ``__name__``.
        exports: name -> the module that defines it.
        submodules: modules and subpackages that are accessible as attributes without an explicit import.

    >>> __getattr__, __dir__ = lazy("hgraph", {"Graph": "hgraph.structure"}, ["nn"])
    >>> __getattr__("Graph")
    <class 'hgraph.structure.graph.Graph'>
    """
    submodules = frozenset(submodules)

    def get(name: str) -> Any:
        if name in exports:
            value = getattr(import_module(exports[name]), name)
        elif name in submodules:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        setattr(sys.modules[package], name, value)  # cached for the next access
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *exports, *submodules})

    return get, names
