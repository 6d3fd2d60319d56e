"""`attend` over token graphs: orders, relative biases, and the choice of tiles or edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hgraph import checks
from hgraph.cache import cached
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops.dispatch.backend import current_backend
from hgraph.ops.edge import Dot
from hgraph.ops.random import draw_seed
from hgraph.ops.tiles.block_attend import block_attend
from hgraph.ops.tiles.plan import FEW, block_of, tensors_of
from hgraph.ops.tiles.receivers import attend_receivers, is_skipping
from hgraph.structure import Adjacency, BlockAdjacency, TokenGraph

__all__ = ["Relative", "alibi", "attend_tokens", "block_of", "edge_bias", "fastest_form", "is_scattered"]


@dataclass(frozen=True)
class Relative:
    r"""A bias by relative position, gathered from a small table with scattered gradients.

    Use it for position biases in attention over token graphs, such as `alibi` or a learned table.

    .. math:: b_{ts} = \mathrm{table}\big[h, \mathrm{clamp}(p_t - p_s + \lfloor (L - 1) / 2 \rfloor, 0, L - 1)\big]

    Args:
        table: [H or 1, L], or [H or 1, L1, .., Ld] for positions on a grid of d axes. With L = 2 R + 1, distances
            beyond R use the outermost entries.
        target_place: integers [T] or [T, d], positions of targets; by default 0, 1, .. such that the last target is at
            the last source.
        source_place: integers [S] or [S, d]; by default 0, 1, ..

    >>> import hgraph
    >>> g, q = hgraph.patterns.full(2), torch.zeros(2, 1, 1)
    >>> bias = Relative(torch.tensor([[0.0, 1.0, 2.0]]))       # sources after, with, before the target
    >>> hgraph.attend(g, q, q, q, bias=bias).lse.flatten()          # log(e^1 + e^0), log(e^2 + e^1)
    tensor([1.3133, 2.3133])
    """

    table: Tensor
    target_place: Tensor | None = None
    source_place: Tensor | None = None


def alibi(slopes: Tensor, length: int) -> Relative:
    r"""ALiBi: :math:`b_{ts} = -m_h |t - s|` for sequences up to ``length``, differentiable in the slopes m [H].

    >>> alibi(torch.tensor([0.5]), 3).table  # 2 before, 1 before, with, after the target
    tensor([[-1.0000, -0.5000, -0.0000, -0.5000, -1.0000]])
    """
    distance = torch.arange(1 - length, length, device=slopes.device, dtype=slopes.dtype).abs()
    return Relative(-slopes.unsqueeze(1) * distance)


def fastest_form(graph: TokenGraph) -> Adjacency | BlockAdjacency:
    """The edges of a token graph in the form that `attend` uses: single edges if scattered, else tiles.

    Cached, and computed outside of compiled code, which cannot count tiles.
    """
    return graph.adjacency() if is_scattered(graph) else graph.tiles(block_of(graph))


def attend_tokens(
    graph: TokenGraph | BlockAdjacency,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    score: Any,
    *,
    bias: Any = None,
    scale: float | None = None,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
    head_mask: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``out`` and ``lse`` of `hgraph.attend` over a token graph or tiles; its caller has checked the arguments.

    Rows masked by a head mask may or may not be computed: the caller must mask the result.
    """
    batch, heads = q.shape[:-3], q.shape[-2]
    if not isinstance(score, Dot):
        hint = "Other scores need single edges: graph.adjacency()"
        raise ArgumentTypeError("score", "Dot() for token graphs", type(score).__name__, hint)
    _check_groups(graph, batch, heads)
    table, target_place, source_place = _relative(graph, bias, heads)
    order = graph.order
    if order is not None:
        q, k, v = (x.index_select(-3, order) for x in (q, k, v))
        mask = None if mask is None else mask.index_select(-1, order)
        if table is not None:
            target_place, source_place = (p[order] for p in (target_place, source_place) if p is not None)
    if isinstance(graph, TokenGraph):
        q, k, v = _cleared(graph, q, k, v)
    # A compiler cannot count tiles: there the operator gets the runs, and computes the tiles at run time.
    tiles: TokenGraph | BlockAdjacency = graph
    if isinstance(graph, TokenGraph) and not torch.compiler.is_compiling():
        tiles = _tiles(graph, q, k, v)
    seed = draw_seed(generator, q.device) if dropout > 0 else None
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    flat = [x.flatten(0, -4) if batch else x.unsqueeze(0) for x in (q, k, v)]
    mask = None if mask is None else mask.expand(*batch, -1).reshape(flat[1].shape[:2])
    plain = order is None and table is None and seed is None and mask is None
    if plain and head_mask is not None and isinstance(tiles, BlockAdjacency) and is_skipping(tiles, head_mask):
        attends = head_mask.expand(*batch, graph.num_targets, heads).reshape(flat[0].shape[:3])
        out, lse = attend_receivers(tiles, flat[0], flat[1], flat[2], attends, float(scale))
    else:
        out, lse = block_attend(
            tensors_of(tiles), *flat, table, target_place, source_place, mask, seed, dropout, float(scale)
        )
    out, lse = out.view(*batch, *out.shape[1:]), lse.view(*batch, *lse.shape[1:])
    if order is not None:
        place = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
        out, lse = out.index_select(-3, place), lse.index_select(-2, place)
    return out, lse


def _cleared(graph: TokenGraph, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Zero out nodes without edges: padding may hold NaN, and NaN times 0 would spread in its tile."""
    traced = torch.compiler.is_compiling()  # a compiler cannot test whether there are any
    has_sources, has_targets = _connected(graph) if traced else cached(graph, "connected", lambda: _isolated(graph))
    if has_sources is not None:
        q = torch.where(_by_batch(has_sources, q.shape[:-3]), q, 0.0)
    if has_targets is not None:
        k, v = (torch.where(_by_batch(has_targets, k.shape[:-3]), x, 0.0) for x in (k, v))
    return q, k, v


def _connected(graph: TokenGraph) -> tuple[Tensor, Tensor]:
    """Which targets [B, T, H] have sources, and which sources [B, S, 1] have targets, in the graph's order."""
    batch, heads, targets, sources = graph.shape
    has_sources = (graph.indptr.diff() > 0).view(batch, heads, targets).transpose(1, 2)
    run = torch.arange(graph.num_runs, device=graph.device)
    row = torch.searchsorted(graph.indptr, run, right=True) - 1
    first = row.div(max(heads * targets, 1), rounding_mode="floor") * (sources + 1)
    steps = torch.zeros(batch * (sources + 1), dtype=torch.int32, device=graph.device)
    one = torch.ones_like(graph.start, dtype=torch.int32)
    steps = steps.scatter_add(0, first + graph.start, one).scatter_add(0, first + graph.stop, -one)
    return has_sources, (steps.view(batch, sources + 1, 1).cumsum(1) > 0)[:, :sources]


def _isolated(graph: TokenGraph) -> tuple[Tensor | None, Tensor | None]:
    """The same; None if all nodes have edges."""
    has_sources, has_targets = _connected(graph)
    return None if bool(has_sources.all()) else has_sources, None if bool(has_targets.all()) else has_targets


def _by_batch(mask: Tensor, batch: torch.Size) -> Tensor:
    """[..., N, H, 1] of [B, N, H] for inputs of several batch dimensions."""
    return mask.unsqueeze(-1).view(*(batch if mask.shape[0] > 1 else ()), *mask.shape[1:], 1)


def _tiles(graph: TokenGraph, *inputs: Tensor) -> BlockAdjacency:
    """The graph's tiles; with the transpose if a GPU's backward pass will read it."""
    block = block_of(graph)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    if not wanted or current_backend(inputs[0].device) != "triton":
        return graph.tiles(block)
    return cached(graph, ("transposed tiles", block), lambda: graph.tiles(block).with_transpose())


_SCATTERED = 32  # a single edge costs about as much as this many pairs of a tile


def is_scattered(graph: TokenGraph) -> bool:
    """Whether the edges are so scattered that single edges are faster than tiles."""
    if graph.batch * graph.num_heads != 1 or graph.num_targets <= FEW:
        return False
    block = block_of(graph)
    return graph.num_edges * _SCATTERED < graph.num_tiles(block) * block * block


def edge_bias(graph: TokenGraph, bias: Any, heads: int) -> Tensor | None:
    """A relative bias as a per-edge bias, [E, H or 1]."""
    table, target_place, source_place = _relative(graph, bias, heads)
    if table is None or target_place is None or source_place is None:
        return None
    adj = graph.adjacency()
    apart = target_place[adj.target] - source_place[adj.indices]
    entry = torch.zeros((), dtype=torch.long, device=table.device)
    for axis, size in enumerate(table.shape[1:]):
        entry = entry * size + (apart[:, axis] + (size - 1) // 2).clamp(0, size - 1)
    return table.flatten(1)[:, entry].T.expand(-1, heads)


def _check_groups(graph: TokenGraph | BlockAdjacency, batch: torch.Size, heads: int) -> None:
    if graph.num_heads not in (1, heads):
        raise ArgumentError("q", f"{graph.num_heads} heads, as in the structure", heads)
    if graph.batch not in (1, batch.numel()):
        raise ArgumentError("q", f"{graph.batch} examples, as in the structure", f"batch shape {list(batch)}")


def _relative(
    graph: TokenGraph | BlockAdjacency, bias: Any, heads: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    if bias is None:
        return None, None, None
    if not isinstance(bias, Relative):
        hint = "A per-edge bias needs the exact edges: graph.adjacency()"
        raise ArgumentTypeError("bias", "a Relative for token graphs", type(bias).__name__, hint)
    table = bias.table
    checks.floating("bias.table", table, graph.device)
    if table.dim() < 2 or table.shape[0] not in (1, heads) or 0 in table.shape:
        raise ArgumentError("bias.table", f"shape [{heads} or 1, L, ...]", f"shape {list(table.shape)}")
    axes = table.dim() - 1
    places = []
    for name, place, size in (
        ("target_place", bias.target_place, graph.num_targets),
        ("source_place", bias.source_place, graph.num_sources),
    ):
        if place is None:
            offset = graph.num_sources - graph.num_targets if name == "target_place" else 0
            place = torch.arange(size, device=graph.device) + offset
        checks.integers(f"bias.{name}", place, graph.device)
        place = place.unsqueeze(1) if place.dim() == 1 else place
        checks.shape(f"bias.{name}", place, [size, axes], "One row per token, one column per axis of the table")
        places.append(place.long())
    return table, places[0], places[1]
