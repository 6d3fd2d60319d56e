"""Packages whose names are imported on first use (PEP 562), so that importing the package loads no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy"]


def lazy(
    package: str, exports: Mapping[str, str], submodules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its ``__name__``.
        exports: name -> the module that has it.
        submodules: modules and packages below it that are reachable as attributes without an import of their own.

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
        setattr(sys.modules[package], name, value)  # the next access is an ordinary one
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *exports, *submodules})

    return get, names
