"""Recipes by name: published results, and how to reproduce them."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from hgraph.errors import ArgumentError, did_you_mean

__all__ = ["names", "published", "reproduce"]


def names() -> tuple[str, ...]:
    """The available recipes.

    >>> names()
    ('hypergraph-zoo', 'lighthgnn')
    """
    return tuple(
        sorted(f.name[:-5].replace("_", "-") for f in files("hgraph.recipes").iterdir() if f.name.endswith(".toml"))
    )


def published(name: str) -> dict[str, Any]:
    """The recipe's TOML: protocol, published results, deviations.

    Raises:
        ArgumentError: an unknown recipe.

    >>> published("lighthgnn")["seeds"]
    5
    """
    if name not in names():
        raise ArgumentError("name", f"one of {list(names())}", repr(name), did_you_mean(name, names()))
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((files("hgraph.recipes") / f"{name.replace('-', '_')}.toml").read_text(encoding="utf-8"))


def reproduce(name: str, folder: Path, **options: Any) -> Path:
    """Run a recipe into a folder and return its report; finished parts in the folder are skipped.

    Args:
        name: one of `names`.
        folder: receives results as they are computed, ``report.md`` at the end.
        **options: keyword arguments of the recipe's ``run``.
    """
    recipe = published(name)
    return import_module(f"hgraph.recipes.{name.replace('-', '_')}").run(recipe, folder, **options)
