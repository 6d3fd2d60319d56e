"""Attention analysis: receptive fields, attention mass by source and edge type, head importance.

>>> from hgraph import nn, patterns
>>> layer = nn.SelfAttention(8, 2, causal=True)
>>> with nn.record_attention(layer) as records:
...     _ = layer(torch.randn(1, 6, 8))
>>> column_mass(records[""][0]).shape            # mean attention weight for each head and token
torch.Size([2, 6])
>>> near = patterns.sliding_window(6, 2, causal=True)
>>> sorted(mass_by_type(records[""][0], {"near": near, "far": patterns.causal(6) - near}))
['far', 'near']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hgraph import patterns
from hgraph.checks import whole
from hgraph.errors import ArgumentError
from hgraph.nn.attention import AttentionRecord, PartRecord
from hgraph.structure import TokenGraph, coo
from hgraph.structure.coo import segment_sum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "column_mass",
    "draw_column_mass",
    "draw_mass_by_type",
    "head_importance",
    "mass_by_type",
    "receptive_fields",
    "sinks",
]


def receptive_fields(num_layers: Sequence[TokenGraph]) -> list[TokenGraph]:
    """The receptive field of tokens after each layer, including themselves, for layers with separate graphs.

    >>> local, lines = patterns.sliding_window((4, 4), 2), patterns.axial((4, 4), 0)
    >>> [field.num_edges for field in receptive_fields([local, lines])]
    [100, 160]
    """
    if not num_layers:
        return []
    loops = patterns.sliding_window(num_layers[0].num_targets, 1)
    fields: list[TokenGraph] = []
    for graph in num_layers:
        step = graph | loops
        fields.append(step @ fields[-1] if fields else step)
    return fields


def column_mass(record: AttentionRecord) -> Tensor:
    r"""[H, S]: the mean attention weight of each source, over the targets with at least one source.

    .. math:: m_{hs} = \frac{1}{B |T|} \sum_b \sum_{t \in T} \alpha^{(b)}_{hts}

    >>> from hgraph import nn
    >>> layer = nn.SelfAttention(8, 2, causal=True)
    >>> with nn.record_attention(layer) as records:
    ...     _ = layer(torch.zeros(1, 2, 8))  # all tokens are alike
    >>> column_mass(records[""][0])  # token 0 attends to itself, token 1 to both
    tensor([[0.7500, 0.2500],
            [0.7500, 0.2500]])
    """
    _check_whole(record)
    rows = []
    for h in range(record.query.shape[2]):
        total = torch.zeros(record.graph.num_sources)
        count = 0
        for b in range(record.query.shape[0]):
            adj, share = record.weights(example=b, head=h)
            total = total + segment_sum(share.float(), adj.indices, adj.num_sources)
            count += int((segment_sum(share.float(), adj.target, adj.num_targets) > 0).sum())
        rows.append(total / max(count, 1))
    return torch.stack(rows)


def sinks(record: AttentionRecord, *, times: float = 5.0) -> list[list[int]]:
    """For each head the sources with more than ``times`` the mean attention weight of a source, the largest first.

    >>> from hgraph import nn
    >>> layer = nn.SelfAttention(8, 2, causal=True)
    >>> with nn.record_attention(layer) as records:
    ...     _ = layer(torch.zeros(1, 2, 8))  # all tokens are alike
    >>> sinks(records[""][0], times=1.2)  # token 0 gets 0.75 where 0.5 is the mean
    [[0], [0]]
    """
    found = []
    for mass in column_mass(record):
        above = mass > times * mass.mean()
        found.append([int(s) for s in mass.argsort(descending=True) if above[s]])
    return found


def mass_by_type(record: AttentionRecord, types: Mapping[str, TokenGraph]) -> dict[str, Tensor]:
    """For each edge type, given as a graph, the fraction [H] of attention mass on its edges.

    An edge counts in every type that contains it; for a partition take differences (``a``, ``b - a``, ...).

    >>> from hgraph import nn
    >>> layer = nn.SelfAttention(8, 1, causal=True)
    >>> with nn.record_attention(layer) as records:
    ...     _ = layer(torch.zeros(1, 2, 8))  # all tokens are alike
    >>> mass_by_type(records[""][0], {"itself": patterns.sliding_window(2, 1)})
    {'itself': tensor([0.7500])}
    """
    _check_whole(record)
    heads = record.query.shape[2]
    masses = {name: torch.zeros(heads) for name in types}
    total = torch.zeros(heads)
    keys = {name: _keys(graph.adjacency()) for name, graph in types.items()}
    for h in range(heads):
        for b in range(record.query.shape[0]):
            adj, share = record.weights(example=b, head=h)
            own = _keys(adj)
            total[h] += share.sum()
            for name, some in keys.items():
                masses[name][h] += share[torch.isin(own, some)].sum()
    return {name: mass / total.clamp(min=torch.finfo(torch.float32).tiny) for name, mass in masses.items()}


def _check_whole(record: AttentionRecord) -> None:
    if isinstance(record, PartRecord):
        hint = "Use layer.attention_matrix(x) for all pairs"
        raise ArgumentError("record", "a complete record of a call", f"a part, over {record.graph!r}", hint)


def _keys(adj: Any) -> Tensor:
    return coo.pair_codes(adj.target, adj.indices, adj.num_targets, adj.num_sources)


def head_importance(loss: Callable[[Tensor], Tensor], num_heads: int) -> Tensor:
    """[H]: the increase of the loss when a head is masked.

    Args:
        loss: the loss for a head mask, booleans [1, H], which is passed to the layer: ``lambda mask: f(layer(x,
            head_mask=mask))``.
        num_heads: number of heads H.

    Source: Michel et al., "Are Sixteen Heads Really Better than One?", section 3.2 (masking one head at a time).

    >>> weight = torch.tensor([1.0, 0.0, 3.0])
    >>> head_importance(lambda mask: -(mask * weight).sum(), 3).tolist()
    [1.0, 0.0, 3.0]
    """
    whole("num_heads", num_heads, 1)
    with torch.no_grad():
        every = torch.ones(1, num_heads, dtype=torch.bool)
        full = loss(every)
        if full.numel() != 1:
            raise ArgumentError("loss", "a scalar", f"shape {list(full.shape)}")
        silent = ~torch.eye(num_heads, dtype=torch.bool)
        return torch.stack([loss(mask.unsqueeze(0)).reshape(()) - full.reshape(()) for mask in silent])


# ---------------------------------------------------------------------- pictures


def draw_mass_by_type(masses: Mapping[str, Tensor], ax: Axes | None = None) -> Axes:
    """One bar per head, stacked by edge type; the white part is on edges of no type.

    >>> ax = draw_mass_by_type({"near": torch.tensor([0.7, 0.5]), "far": torch.tensor([0.3, 0.5])})
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['near', 'far']
    """
    from hgraph.draw.marks import INK, PALETTE, new_axes

    ax = new_axes(ax, size=(6.4, 3.2))
    heads = len(next(iter(masses.values())))
    below = torch.zeros(heads)
    for i, (name, mass) in enumerate(masses.items()):
        ax.bar(range(heads), mass.numpy(), bottom=below.numpy(), color=PALETTE[i % len(PALETTE)], label=name, width=0.8)
        below = below + mass
    ax.set(xlabel="head", ylabel="attention weight", xticks=range(heads), ylim=(0, max(1.0, float(below.max()))))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), labelcolor=INK)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_column_mass(mass: Tensor, ax: Axes | None = None) -> Axes:
    """Heads by sources: the mean attention weight of each source; sinks are dark columns.

    >>> draw_column_mass(torch.tensor([[0.75, 0.25]])).get_ylabel()
    'head'
    """
    from hgraph.draw.marks import INK, new_axes

    ax = new_axes(ax, size=(6.4, 0.9 + 0.3 * len(mass)))
    picture = ax.imshow(mass.numpy(), aspect="auto", cmap="cividis_r", vmin=0, interpolation="nearest")
    bar = ax.figure.colorbar(picture, ax=ax, pad=0.02)
    bar.set_label("mean attention weight", color=INK)
    bar.outline.set_visible(False)
    ax.set(xlabel="source", ylabel="head", yticks=range(len(mass)))
    return ax
