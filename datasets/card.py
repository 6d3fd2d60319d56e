"""`Card`: what is known of a data set without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Card"]


@dataclass(frozen=True)
class Card:
    """What is known of a data set before a byte of it is read.

    Args:
        name: what `load` calls it.
        description: one sentence.
        kind: what one example is: ``"hypergraph"``, ``"graph"``, ``"knowledge graph"``, ``"table"``, ``"image"``,
            ``"text"`` ...
        task: ``"node classification"`` and so on.
        target_spec: what the target holds, for instance ``{"kind": "class", "num_classes": 7}``.
        license: the terms as published, or ``"none stated"``.
        redistribute: False where the terms forbid passing on the data or anything made from it.
        citation: whom to cite.
        caveats: surprises a user should know of, one sentence each.
        sizes: counts that the loaded data has, ``{"nodes": 2708, ...}``.
        options: the keywords `load` takes for this set, with their defaults.
        download: bytes that the first `load` fetches; 0 where the data comes with the installed packages, None where
            they are not known beforehand.
        files: what it fetches, as ``<folder>/<path>`` below the root.

    >>> card = Card("own", "Two nodes.", "graph", "none", {"kind": "class"}, "CC0-1.0", True, "nobody")
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
