"""`Card`: the description of a data set, readable without loading the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Card"]


@dataclass(frozen=True)
class Card:
    """The description of a data set, readable without loading the data.

    Args:
        name: the name that `load` takes.
        description: one sentence.
        kind: the type of one example: ``"hypergraph"``, ``"graph"``, ``"knowledge graph"``, ``"table"``, ``"image"``,
            ``"text"``, ...
        task: ``"node classification"`` and so on.
        target_spec: the type of the target, for instance ``{"kind": "class", "num_classes": 7}``.
        license: the terms as published, or ``"none stated"``.
        redistribute: False if the terms forbid redistribution of the data or of anything derived from it.
        citation: the publication to cite.
        caveats: what a user should know before using the data, one sentence each.
        sizes: counts of the loaded data, ``{"nodes": 2708, ...}``.
        options: the keyword arguments that `load` takes for this set, with their defaults.
        download: bytes that the first `load` downloads; 0 if the data comes with the installed packages, None if the
            size is not known in advance.
        files: the files it downloads, as ``<folder>/<path>`` below the root.

    >>> card = Card("example", "Two nodes.", "graph", "none", {"kind": "class"}, "CC0-1.0", True, "none")
    >>> card.redistribute, card.download
    (True, 0)
    """

    name: str
    description: str
    kind: str
    task: str
    target_spec: Mapping[str, Any]
    license: str
    redistribute: bool
    citation: str
    caveats: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    download: int | None = 0
    files: tuple[str, ...] = ()
