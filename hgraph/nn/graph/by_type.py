"""Linear maps per node type, for layers over knowledge graphs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.errors import ArgumentError
from hgraph.structure import KnowledgeGraph

__all__ = ["map_by_type"]


def map_by_type(kg: KnowledgeGraph, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    r"""Apply the map of its node's type to every row, :math:`y_v = x_v W_{\tau(v)} + b_{\tau(v)}`.

    Args:
        kg: N nodes; without types, all nodes have the first type.
        x: [N, F].
        weight: [T, F, F'], one matrix per type; a single one is used for all types.
        bias: [T, F'].

    Returns:
        [N, F'].

    Raises:
        ArgumentError: more types than maps.
    """
    if kg.node_type is None or len(weight) == 1:
        return x @ weight[0] + bias[0]
    groups = cached(kg, "nodes by type", lambda: _groups(kg))
    if len(groups.counts) > len(weight):
        raise ArgumentError("kg", f"at most {len(weight)} types, as in the layer", len(groups.counts))
    parts = zip(x.index_select(0, groups.order).split(groups.counts), weight.unbind(0), bias.unbind(0), strict=False)
    return torch.cat([rows @ matrix + shift for rows, matrix, shift in parts]).index_select(0, groups.place)


class _Groups(NamedTuple):
    """The nodes sorted by type, the position of each node in that order, and the number of nodes per type."""

    order: Tensor
    place: Tensor
    counts: list[int]


def _groups(kg: KnowledgeGraph) -> _Groups:
    assert kg.node_type is not None  # noqa: S101 - only called then
    order = torch.argsort(kg.node_type, stable=True)
    return _Groups(order, torch.argsort(order), torch.bincount(kg.node_type, minlength=1).tolist())
