"""`record_attention`: record calls of attention layers, without storing attention matrices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.ops import Relative, attention_weights
from hgraph.ops.tiles.tokens import edge_bias
from hgraph.structure import Adjacency, TokenGraph

__all__ = ["AttentionRecord", "PartRecord", "record", "record_attention", "recording"]


@dataclass(frozen=True)
class AttentionRecord:
    """One call of a layer: graph, queries and keys [B, N, H, D], lse [B, T, H]; computes attention weights on demand.

    ``mask``, boolean [B, S], is True at real sources; None if all are real.
    """

    graph: TokenGraph
    query: Tensor
    key: Tensor
    lse: Tensor
    bias: Relative | None = None
    mask: Tensor | None = None

    def weights(self, *, example: int = 0, head: int = 0) -> tuple[Adjacency, Tensor]:
        """The edges of one example and head, and their attention weights [E]."""
        graph = self.graph.of(
            example=example if self.graph.batch > 1 else 0, head=head if self.graph.num_heads > 1 else 0
        )
        heads = self.query.shape[2]
        bias = edge_bias(graph, self.bias, heads)
        group = heads // self.key.shape[2]
        adj = graph.adjacency()
        weight = attention_weights(
            adj,
            self.query[example, :, head : head + 1],
            self.key[example, :, head // group : head // group + 1],
            self.lse[example, :, head : head + 1],
            bias=None if bias is None else bias[:, head],
        ).squeeze(1)
        return adj, weight if self.mask is None else weight * self.mask[example][adj.indices.long()]


@dataclass(frozen=True)
class PartRecord(AttentionRecord):
    """One of several attentions of a call: within regions, or over tokens and regions, which have a common lse."""


# Active recordings: names of modules, and their records.
_ACTIVE: list[tuple[dict[nn.Module, str], dict[str, list[AttentionRecord]]]] = []


@contextlib.contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, list[AttentionRecord]]]:
    """Context that records every call of the attention layers of a model, by layer name.

    Use it to look at the attention weights of a model without changing it.

    >>> from hgraph import nn
    >>> model = torch.nn.Sequential(nn.SelfAttention(8, 2, causal=True))
    >>> with record_attention(model) as records:
    ...     _ = model(torch.randn(1, 4, 8))
    >>> adj, weight = records["0"][0].weights(head=1)
    >>> adj.num_edges, round(float(weight.sum()), 3)     # the weights of each of four targets add up to 1
    (10, 4.0)
    """
    records: dict[str, list[AttentionRecord]] = {}
    active = ({module: name for name, module in model.named_modules()}, records)
    _ACTIVE.append(active)
    try:
        yield records
    finally:
        _ACTIVE.remove(active)


def recording(module: nn.Module) -> bool:
    """Whether calls of the module are recorded."""
    return not torch.compiler.is_compiling() and any(module in names for names, _ in _ACTIVE)


def record(
    module: nn.Module,
    graph: TokenGraph,
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    bias: Relative | None = None,
    *,
    kind: type[AttentionRecord] = AttentionRecord,
    mask: Tensor | None = None,
    **more: Any,
) -> None:
    """Add a call to the active recordings of the module; ``kind`` is the record class, which computes the weights."""
    if torch.compiler.is_compiling():
        return
    for names, records in _ACTIVE:
        if module in names:
            of_sources = None if mask is None else _batched(mask, 2)
            made = kind(graph, _batched(query, 4), _batched(key, 4), _batched(lse, 3), bias, of_sources, **more)
            records.setdefault(names[module], []).append(made)


def _batched(x: Tensor, dims: int) -> Tensor:
    x = x.detach()
    return x.flatten(0, -dims) if x.dim() >= dims else x.unsqueeze(0)
