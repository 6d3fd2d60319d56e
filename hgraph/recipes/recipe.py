"""Recipes by name: what was published, and how to run it again."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from hgraph.errors import ArgumentError, did_you_mean

__all__ = ["names", "published", "reproduce"]


def names() -> tuple[str, ...]:
    """The recipes there are.

    >>> names()
    ('lighthgnn',)
    """
    return tuple(sorted(f.name[:-5] for f in files("hgraph.recipes").iterdir() if f.name.endswith(".toml")))


def published(name: str) -> dict[str, Any]:
    """The recipe's TOML: protocol, published figures, deviations.

    Raises:
        ArgumentError: no such recipe.

    >>> published("lighthgnn")["seeds"]
    5
    """
    if name not in names():
        raise ArgumentError("name", f"one of {list(names())}", repr(name), did_you_mean(name, names()))
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((files("hgraph.recipes") / f"{name}.toml").read_text(encoding="utf-8"))


def reproduce(name: str, folder: Path, **options: Any) -> Path:
    """Run a recipe into a folder and return its report; what the folder already holds is not run again.

    Args:
        name: one of `names`.
        folder: results go there as they come, ``report.md`` at the end.
        **options: keywords of the recipe's ``run``.
    """
    recipe = published(name)
    return import_module(f"hgraph.recipes.{name}").run(recipe, folder, **options)
