"""Operations on token graphs: unions, compositions, receptive fields, selections, graphs by head and example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.checks import whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import coo, intervals
from hgraph.structure.token_runs import TokenRuns

R = TypeVar("R", bound=TokenRuns)

__all__ = ["combined", "composed", "crop", "first_hop", "is_causal", "natural", "reach", "select", "stacked"]

_MAX_SQUARE = 8192  # maximum number of tokens for which all pairs are listed
_SETS = "a | b, a & b, a - b"


# ---------------------------------------------------------------------- sets, steps


def combined(a: R, b: R, inside: Callable[[Tensor, Tensor], Tensor]) -> R:
    """The edges for which ``inside(in a, in b)`` holds."""
    _require(_SETS, a, b)
    if a.shape[2:] != b.shape[2:]:
        raise ArgumentError(_SETS, f"graphs of the same shape {a.shape[2:]}", b.shape[2:])
    a, b = _one_order(a, b)
    shape = _common(_SETS, a, b)
    a, b = _broadcast(a, *shape), _broadcast(b, *shape)
    return a.from_line(intervals.combined(a.line(), b.line(), inside), a.extent, a.order)


def composed(a: R, b: R) -> R:
    """The two-hop graph (see `TokenGraph.__matmul__`)."""
    _require("a @ b", a, b)
    if a.num_sources != b.num_targets:
        raise ArgumentError("a @ b", f"b with {a.num_sources} targets, the number of sources of a", b.num_targets)
    a, b = _one_order(a, b)
    shape = _common("a @ b", a, b)
    a, b = _broadcast(a, *shape), _broadcast(b, *shape)
    row = a.row()
    middle = torch.div(row, max(a.num_targets, 1), rounding_mode="floor") * b.num_targets
    line = intervals.composed(row, middle + a.start, middle + a.stop, b.line(), width=b.num_sources)
    extent = torch.empty(*shape, a.num_targets, b.num_sources, 0, device=a.device)
    return a.from_line(line, extent, a.order)


def reach(graph: R, num_layers: int) -> R:
    """The receptive field of ``num_layers`` layers (see `TokenGraph.reach`)."""
    whole("num_layers", num_layers)
    field = loops(graph)
    step = combined(graph, field, torch.logical_or)
    for _ in range(num_layers):
        wider = composed(step, field)
        if wider.num_edges == field.num_edges:  # converged
            break
        field = wider
    return field


def first_hop(graph: TokenRuns, target: int | None) -> Tensor:
    """The number of layers until a source reaches a target (see `TokenGraph.first_hop`)."""
    if graph.batch * graph.num_heads != 1:
        axis = "head" if graph.num_heads > 1 else "example"
        raise ArgumentError("structure", "one graph for all", repr(graph), f"Select one: graph.of({axis}={axis[0]})")
    graph = natural(graph)
    n = graph.num_targets
    if target is None and n > _MAX_SQUARE:
        hint = "Ask for one target: graph.first_hop(t)"
        raise ArgumentError("structure", f"at most {_MAX_SQUARE:,} tokens for all pairs", f"{n:,}", hint)
    field = loops(graph)
    step = combined(graph, field, torch.logical_or)
    if target is not None:
        field = select(field, [whole("target", target, most=n - 1)])
    hops = torch.full((field.num_targets, n), -1, dtype=torch.int32, device=graph.device)
    new, layer = field, 0
    while new.num_runs:
        column, run = intervals.expanded(new.start, new.stop)
        hops[new.row()[run], column] = layer
        wider = composed(field, step)
        new, field, layer = combined(wider, field, lambda a, b: a & ~b), wider, layer + 1
    return hops if target is None else hops[0]


def loops(graph: R) -> R:
    """The graph where every token attends to itself only."""
    if not graph.is_square:
        raise ArgumentError("structure", "a square graph (targets are the sources)", f"{graph.shape[2:]}")
    rows = torch.arange(len(graph.indptr) - 1, device=graph.device)
    line = rows * (graph.num_sources + 1) + rows % max(graph.num_targets, 1)
    return graph.from_line(intervals.Line(line, line + 1), graph.extent, graph.order)


# ---------------------------------------------------------------------- parts, other forms


def select(graph: R, rows: Any) -> R:
    """The graph of the given targets (see `TokenGraph.select`)."""
    rows = coo.as_indices("rows", rows).to(graph.device)
    coo.check_range("rows", rows, graph.num_targets, "targets")
    graph = natural(graph)
    group = torch.arange(graph.batch * graph.num_heads, device=graph.device) * graph.num_targets
    entry, position = intervals.of_rows(graph.indptr, (group.unsqueeze(1) + rows).flatten())
    base = position * (graph.num_sources + 1)
    extent = torch.empty(graph.batch, graph.num_heads, len(rows), graph.num_sources, 0, device=graph.device)
    return graph.from_line(intervals.Line(base + graph.start[entry], base + graph.stop[entry]), extent, None)


def crop(graph: R, num_sources: int) -> R:
    """The graph over the first sources (see `TokenGraph.crop`)."""
    whole("num_sources", num_sources, most=graph.num_sources)
    graph = natural(graph)
    row, start, stop = graph.row(), graph.start.long(), graph.stop.long().clamp(max=num_sources)
    keep = start < stop
    base = row[keep] * (num_sources + 1)
    extent = torch.empty(*graph.shape[:3], num_sources, 0, device=graph.device)
    return graph.from_line(intervals.Line(base + start[keep], base + stop[keep]), extent, None)


def natural(graph: R) -> R:
    """The edges with runs in the order of the tokens (see `TokenGraph.natural`)."""
    order = graph.order
    return graph if order is None else cached(graph, "natural", lambda: _by_token(graph, order))


def _by_token(graph: R, order: Tensor) -> R:
    column, run = intervals.expanded(graph.start, graph.stop)
    row, n = graph.row()[run], graph.num_targets
    row = torch.div(row, n, rounding_mode="floor") * n + order[row % n]
    first = row * (graph.num_sources + 1) + order[column]
    return graph.from_line(intervals.united(intervals.Line(first, first + 1)), graph.extent, None)


def is_causal(graph: TokenRuns) -> bool:
    """Whether no token attends to a later one."""
    graph = natural(graph)
    own = graph.row() % max(graph.num_targets, 1) + (graph.num_sources - graph.num_targets)
    return not bool((graph.stop > own + 1).any())


def checked_order(order: Any, num_targets: int, num_sources: int) -> Tensor:
    """Check an order of all tokens of a square graph."""
    order = coo.as_indices("order", order)
    if num_targets != num_sources or len(order) != num_targets:
        raise ArgumentError("order", "one entry per token of a square graph", f"{len(order)} entries")
    if not torch.equal(torch.sort(order).values, torch.arange(len(order), device=order.device)):
        raise ArgumentError("order", f"every token 0 .. {len(order) - 1} once", "a list that is not a permutation")
    return order


# ---------------------------------------------------------------------- heads and examples


def stacked(graphs: Sequence[R], axis: int) -> R:
    """One graph for each example (axis 0) or head (axis 1)."""
    if not graphs:
        raise ArgumentTypeError("graphs", "one or more token graphs", repr(graphs))
    _require("graphs", *graphs)
    orders = [g.order for g in graphs]
    if not all(o is orders[0] for o in orders):
        graphs = [natural(g) for g in graphs]
    first, other = graphs[0], 1 - axis
    for g in graphs:
        if g.shape[2:] != first.shape[2:] or g.shape[axis] != 1:
            what = "one graph per head" if axis else "one graph per example"
            raise ArgumentError("graphs", f"{what} of {first.shape[2]} x {first.shape[3]}", repr(g))
    size = max(g.shape[other] for g in graphs)
    graphs = [_broadcast(g, *((size, 1) if axis else (1, size))) for g in graphs]
    parts = [g.of(**{"example" if axis else "head": i}) for i in range(size if axis else 1) for g in graphs]
    if not axis:  # the heads of an example are contiguous already
        parts = graphs
    ends = torch.tensor([0, *(p.num_runs for p in parts)], device=first.device).cumsum(0)
    indptr = [p.indptr[:-1] + ends[i] for i, p in enumerate(parts)]
    extent = torch.empty(*((size, len(graphs)) if axis else (len(graphs), size)), *first.extent.shape[2:])
    return type(first)(
        torch.cat([*indptr, ends[-1:]]),
        torch.cat([p.start for p in parts]),
        torch.cat([p.stop for p in parts]),
        extent.to(first.device),
        graphs[0].order,
    )


def _require(name: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, TokenRuns):
            raise ArgumentTypeError(name, "token graphs", type(value).__name__)


def _broadcast(graph: R, batch: int, heads: int) -> R:
    """The graph repeated for examples and heads that share it."""
    if graph.shape[:2] == (batch, heads):
        return graph
    group = torch.arange(graph.batch * graph.num_heads, device=graph.device).view(graph.batch, graph.num_heads, 1)
    rows = group * graph.num_targets + torch.arange(graph.num_targets, device=graph.device)
    rows = rows.expand(batch, heads, graph.num_targets).flatten()
    entry, position = intervals.of_rows(graph.indptr, rows)
    base = position * (graph.num_sources + 1)
    extent = torch.empty(batch, heads, *graph.extent.shape[2:], device=graph.device)
    return graph.from_line(intervals.Line(base + graph.start[entry], base + graph.stop[entry]), extent, graph.order)


def _common(name: str, a: TokenRuns, b: TokenRuns) -> tuple[int, int]:
    """Broadcast batch and head sizes; torch.broadcast_shapes imports sympy, which takes a second."""
    pairs = tuple(zip(a.shape[:2], b.shape[:2], strict=True))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        got = f"{a.shape[:2]} and {b.shape[:2]}"
        raise ArgumentError(name, "equal numbers of examples and heads, or 1", got)
    batch, heads = (y if x == 1 else x for x, y in pairs)
    return batch, heads


def _one_order(a: R, b: R) -> tuple[R, R]:
    """Both graphs with their runs in the same order of the tokens."""
    same = a.order is b.order or (a.order is not None and b.order is not None and torch.equal(a.order, b.order))
    return (a, b) if same else (natural(a), natural(b))
