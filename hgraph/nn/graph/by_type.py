"""Linear maps per node type, for layers over knowledge graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hgraph._torch import is_eager
from hgraph.cache import TensorTable, cached
from hgraph.checks import check_channels, check_dtype
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import KnowledgeGraph

__all__ = ["TypeLinear", "inputs_by_type", "map_by_type", "types_of"]


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


class TypeLinear(nn.Module):
    r"""One linear map per node type, from the number of features of that type to a common width.

    Use it before a layer over nodes of several types, :math:`y_v = x_v W_{\tau(v)} + b_{\tau(v)}`, where
    :math:`W_t` is :math:`F_t \times F'`.

    Args:
        in_channels: the width F_t of each type.
        out_channels: F'.

    >>> x = [torch.randn(2, 3), torch.randn(1, 5)]  # nodes 0 and 2, and node 1
    >>> TypeLinear([3, 5], 4)(x, torch.tensor([0, 1, 0])).shape
    torch.Size([3, 4])
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        check_channels(out_channels=out_channels)
        for width in in_channels:
            check_channels(in_channels=width)
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, out_channels) for width in in_channels)
        self.in_channels, self.out_channels = tuple(in_channels), out_channels
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform maps, zero biases."""
        for linear in self.maps:
            nn.init.xavier_uniform_(linear.weight)  # type: ignore[arg-type]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]

    def forward(self, x: Sequence[Tensor], node_type: Tensor | None) -> Tensor:
        """Map features [N_t, F_t] per type to [N, F'], where the n-th row of a type is its n-th node.

        Raises:
            ArgumentError: the number of types, the number of rows or a width does not match.
        """
        if isinstance(x, Tensor) or not isinstance(x, Sequence):
            hint = "Row n of tensor t has the features of the n-th node of type t"
            raise ArgumentTypeError("x", f"{len(self.maps)} tensors, one per node type", type(x).__name__, hint)
        if node_type is None:
            raise ArgumentError("node_type", "the type of each node", "None", "Pass node_type= to the KnowledgeGraph")
        if len(x) != len(self.maps):
            raise ArgumentError("x", f"{len(self.maps)} tensors, one per node type", len(x))
        for t, (rows, width) in enumerate(zip(x, self.in_channels, strict=True)):
            if rows.dim() != 2 or rows.shape[1] != width:
                raise ArgumentError(f"x[{t}]", f"shape [N_{t}, {width}]", f"shape {list(rows.shape)}")
            check_dtype(f"x[{t}]", rows, self.maps[t].weight)  # type: ignore[arg-type]
        if sum(map(len, x)) != len(node_type):
            raise ArgumentError("x", f"{len(node_type)} rows in all, one per node", sum(map(len, x)))
        mapped = torch.cat([linear(rows) for linear, rows in zip(self.maps, x, strict=True)])
        return mapped.index_select(0, _places(node_type, [len(rows) for rows in x]))


def types_of(num_types: int | None, in_channels: Sequence[int] | int | None) -> int:
    """The number of node types of a layer, from either argument.

    Raises:
        ArgumentError: ``num_types`` and the number of widths differ.
    """
    if in_channels is None or isinstance(in_channels, int):
        return 1 if num_types is None else num_types
    if not len(in_channels):
        raise ArgumentError("in_channels", "a width for each node type", "none")
    if num_types not in (None, len(in_channels)):
        raise ArgumentError("num_types", f"{len(in_channels)}, as many as in_channels has widths", num_types)
    return len(in_channels)


def inputs_by_type(x: Any, kg: KnowledgeGraph, maps: TypeLinear | None) -> Tensor:
    """The features [N, F] of all nodes: x itself, or, through the maps of their types, the features of each type."""
    if maps is None:
        return x
    if not isinstance(kg, KnowledgeGraph):
        raise ArgumentTypeError("structure", "a KnowledgeGraph", type(kg).__name__, "The order is layer(x, kg)")
    mapped: Tensor = maps(x, kg.node_type)
    return mapped


_PLACES: TensorTable[tuple[list[int], Tensor]] = TensorTable()


def _places(node_type: Tensor, counts: list[int]) -> Tensor:
    """The position of each node among the nodes sorted by type; the numbers of nodes per type are checked once."""
    found = _PLACES.get(node_type) if is_eager() and not node_type.is_inference() else None
    if found is not None and found[0] == counts:
        return found[1]
    place = torch.argsort(torch.argsort(node_type, stable=True))
    if is_eager():
        actual = torch.bincount(node_type, minlength=len(counts)).tolist()
        if actual != counts:
            raise ArgumentError("x", f"{actual} rows, as many as nodes of each type", counts)
        if not node_type.is_inference():
            _PLACES.put(node_type, (counts, place))
    return place
