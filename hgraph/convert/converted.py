"""`Converted`: the return value and argument of every converter - a structure with names and columns."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from hgraph.data.data import Data
from hgraph.data.labels import class_labels, labeled
from hgraph.data.split import Split
from hgraph.errors import ArgumentError, ArgumentTypeError, MissingPackageError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["Converted", "names", "prepare", "refuse", "require"]

S = TypeVar("S", Graph, Hypergraph)

_NONE: Mapping[str, Any] = MappingProxyType({})
_LOG = logging.getLogger("hgraph")
_MASKS = (("train_mask",), ("val_mask", "valid_mask", "validation_mask"), ("test_mask",))


class Converted(NamedTuple):
    """A structure with the ids and attributes of another library; every converter returns and accepts one.

    Args:
        structure: the `Graph` or `Hypergraph`.
        node_ids: the other library's name of node i; None is 0 .. N-1.
        hyperedge_ids: the same for hyperedges; None is 0 .. M-1, and empty for a graph.
        x: [N, F] node features, or None.
        y: [N] labels, or None.
        node_attrs: other columns of N values, tensors or lists; `ABSENT` for nodes without the attribute.
        hyperedge_attrs: columns of M values.
        edge_attrs: columns with one value per edge of the graph, or incidence of the hypergraph, in the order of
            ``structure.adj`` or ``structure.v2e``.
        meta: other attributes of the whole structure.

    >>> c = Converted(Hypergraph.from_lists([[0, 1]], num_nodes=3), node_ids=["a", "b", "c"])
    >>> c.structure.num_nodes, c.node_ids, c.hyperedge_ids
    (3, ['a', 'b', 'c'], None)
    """

    structure: Graph | Hypergraph
    node_ids: Sequence[Hashable] | None = None
    hyperedge_ids: Sequence[Hashable] | None = None
    x: Tensor | None = None
    y: Tensor | None = None
    node_attrs: Mapping[str, Any] = _NONE
    hyperedge_attrs: Mapping[str, Any] = _NONE
    edge_attrs: Mapping[str, Any] = _NONE
    meta: Mapping[str, Any] = _NONE

    def data(self) -> Data:
        """Convert to `Data`: x, y, the ids in ``meta``, and splits if the nodes have the usual masks.

        Masks [N] make the split ``"default"``; masks [N, K] make ``"default"`` and the splits ``"0"`` .. ``"K-1"``.
        Without a validation mask that part is empty; nodes without a label are in no part, which is logged.

        Raises:
            ArgumentError: features or labels are missing, masks overlap, or only one of the masks for
                training and testing exists.
        """
        x, y = self.x, self.y
        if x is None or y is None:
            name = "x" if x is None else "y"
            raise ArgumentError(name, "a tensor with one row per node", None, f"Set it with ._replace({name}=...)")
        splits, masks = {}, _masks(self.node_attrs)
        if masks:
            masks = _of_labeled(masks, y)
            width = max(mask[0].numel() if mask.dim() > 1 and len(mask) else 1 for mask in masks)
            # The test mask of several splits is often one shared column.
            train, val, test = (mask.reshape(len(mask), -1).expand(-1, width) for mask in masks)
            for k in range(width):
                parts = (mask[:, k].nonzero().flatten() for mask in (train, val, test))
                splits[str(k)] = Split(self.structure, *parts)
            splits = {"default": splits["0"]} | (splits if width > 1 else {})
        meta = {"node_ids": self.node_ids, "hyperedge_ids": self.hyperedge_ids} | dict(self.meta)
        return Data(self.structure, x, y, splits, meta).validate()


def _masks(columns: Mapping[str, Any]) -> list[Tensor]:
    """Masks of training, validation and test; empty if there are none."""
    found = [next((columns[n] for n in names if isinstance(columns.get(n), Tensor)), None) for names in _MASKS]
    train, val, test = found
    if train is None and test is None:
        return []
    if train is None or test is None:
        have = [n for names in _MASKS for n in names if n in columns]
        raise ArgumentError("node_attrs", "train_mask and test_mask, val_mask if there is a validation part", have)
    return [train.bool(), torch.zeros_like(train).bool() if val is None else val.bool(), test.bool()]


def _of_labeled(masks: list[Tensor], y: Tensor) -> list[Tensor]:
    """The masks restricted to labeled nodes."""
    there = labeled(class_labels(y))
    lost = sum(int((mask.reshape(len(mask), -1).any(1) & ~there).sum()) for mask in masks)
    if lost:
        _LOG.warning("masks: %s nodes without a label are ignored", f"{lost:,}")
    return [mask & there.reshape(-1, *[1] * (mask.dim() - 1)) for mask in masks]


def require(package: str, extra: str) -> Any:
    """Import a package, or raise an error that names the extra to install."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(package.split(".")[0], extra, "this converter") from error


def prepare(source: Any, kind: type[S], other: str = "") -> tuple[S, Converted]:
    """Check a structure or a `Converted` of one type; returns (structure, `Converted` with ids filled in).

    Raises:
        ArgumentTypeError: the wrong type of structure; ``other`` is the hint.
        ArgumentError: repeated ids, or a column of wrong length.
    """
    c = source if isinstance(source, Converted) else Converted(source)
    if not isinstance(c.structure, kind):
        got = type(c.structure).__name__
        hint = "Pass Converted(data.structure, x=data.x, y=data.y)" if got == "Data" else ""
        raise ArgumentTypeError("source", f"a {kind.__name__} or a Converted that holds one", got, hint or other)
    s = c.structure
    n, m, e = (s.num_nodes, 0, s.num_edges) if isinstance(s, Graph) else _sizes(s)
    node_ids = _checked_ids("node_ids", c.node_ids, n)
    hyperedge_ids = _checked_ids("hyperedge_ids", c.hyperedge_ids, m)
    for name, size in (("node_attrs", n), ("hyperedge_attrs", m), ("edge_attrs", e)):
        for key, column in getattr(c, name).items():
            if len(column) != size:
                raise ArgumentError(f"{name}[{key!r}]", f"{size} values", len(column))
    for name in ("x", "y"):
        tensor = getattr(c, name)
        if tensor is not None and len(tensor) != n:
            raise ArgumentError(name, f"{n} rows (one per node)", len(tensor))
    return c.structure, c._replace(node_ids=node_ids, hyperedge_ids=hyperedge_ids)


def _checked_ids(name: str, ids: Sequence[Hashable] | None, size: int) -> Sequence[Hashable]:
    if ids is None:
        return range(size)
    if len(ids) != size:
        raise ArgumentError(name, f"{size} ids", len(ids))
    if not isinstance(ids, range) and len(set(ids)) < size:
        raise ArgumentError(name, "distinct ids", "repeated ids")
    return ids


def names(c: Converted) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
    """(node ids, hyperedge ids) after :func:`prepare`."""
    return c.node_ids or (), c.hyperedge_ids or ()


def _sizes(hg: Hypergraph) -> tuple[int, int, int]:
    return hg.num_nodes, hg.num_hyperedges, hg.num_incidences


def refuse(c: Converted, target: str, *fields: str) -> None:
    """Reject fields that the target cannot hold, so that nothing is lost silently.

    ``fields`` are names of `Converted`, or of the weights of a `Hypergraph`.
    """
    for name in fields:
        if name in ("node_ids", "hyperedge_ids"):
            ids = getattr(c, name)
            lost = ids is not None and list(ids) != list(range(len(ids)))
        elif name == "weight":
            lost = isinstance(c.structure, Hypergraph) and c.structure.v2e.weight is not None
        elif name in ("hyperedge_weight", "node_weight"):
            lost = getattr(c.structure, name) is not None
        else:
            held = getattr(c, name)
            lost = len(held) > 0 if isinstance(held, Mapping) else held is not None
        if lost:
            raise ArgumentError(name, f"none, as {target} cannot hold any", "some", _how_to_drop(name))


def _how_to_drop(name: str) -> str:
    if name == "weight":
        return "To drop the incidence weights: dataclasses.replace(hg, v2e=hg.v2e.with_weight(None))"
    if name in ("hyperedge_weight", "node_weight"):
        return f"To drop them: dataclasses.replace(hg, {name}=None)"
    empty = "None" if name in ("x", "y", "node_ids", "hyperedge_ids") else "{}"
    return f"Store it separately and drop it here with ._replace({name}={empty})"
