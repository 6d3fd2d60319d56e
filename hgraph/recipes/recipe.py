"""Recipes by name: published results, and how to reproduce them."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from hgraph.errors import ArgumentError, did_you_mean
from hgraph.files import write_atomically
from hgraph.schema import fields_of, parse

__all__ = ["names", "published", "read_results", "reproduce"]


def names() -> tuple[str, ...]:
    """The available recipes.

    >>> names()
    ('graph-folds', 'graph-zoo', 'hypergraph-zoo', 'lighthgnn')
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


def read_results(file: Path, kind: type[Any]) -> list[dict[str, Any]]:
    """The records of a file of results; an incomplete last line of an interrupted run is removed from it.

    Args:
        file: one JSON object per line.
        kind: a dataclass with the keys of a record and their types.

    Raises:
        DataError: a line is no such record; names the line and the key.
    """
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if len(whole) != len(text):
        write_atomically(file, whole.encode())
    found = [parse(line, f"{file}:{number}") for number, line in enumerate(whole.splitlines(), 1)]
    for number, record in enumerate(found, 1):
        fields_of(kind, record, f"{file}:{number}", hint="Delete this line to compute it again")
    return found


def reproduce(name: str, folder: Path, **options: Any) -> Path:
    """Run a recipe into a folder and return its report; finished parts in the folder are skipped.

    Args:
        name: one of `names`.
        folder: receives results as they are computed, ``report.md`` at the end.
        **options: keyword arguments of the recipe's ``run``.
    """
    recipe = published(name)
    return import_module(f"hgraph.recipes.{recipe['module']}").run(recipe, folder, **options)
