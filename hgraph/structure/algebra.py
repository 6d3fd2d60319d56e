"""Operations on adjacencies: normalized weights, self-loops, row selection, unions, compositions."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeVar

import torch
from torch import Tensor

from hgraph._torch import is_plain
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.memory import check_memory
from hgraph.structure import coo
from hgraph.structure.coo import inverse_power
from hgraph.structure.edge_list import EdgeList, measured

__all__ = [
    "add_self_loops",
    "compose",
    "inverse_power",
    "lacks_loop",
    "needs_check",
    "normalized_weight",
    "reach",
    "refuse_degrees",
    "refuse_degrees_of",
    "select",
]  # fmt: skip

E = TypeVar("E", bound=EdgeList)

# Paths expanded per chunk by `compose`: limits its working memory to about 100 MB beyond the result.
_PATHS_A_CHUNK = 4_000_000


def normalized_weight(adj: EdgeList, how: Literal["row", "col", "sym"], dtype: torch.dtype | None = None) -> Tensor:
    """Weights [E] divided by degrees (see `Adjacency.normalize`)."""
    if how not in ("row", "col", "sym"):
        raise ArgumentError("how", "'row', 'col' or 'sym'", repr(how))
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ArgumentTypeError("dtype", "a floating-point torch.dtype, or None", repr(dtype))
    if dtype is None:
        dtype = torch.get_default_dtype() if adj.weight is None else adj.weight.dtype
    exponent, wide = -0.5 if how == "sym" else -1.0, torch.promote_types(dtype, torch.float32)
    if adj.weight is None:
        out = torch.ones(adj.num_edges, dtype=wide, device=adj.device)
    else:
        out = adj.weight.to(torch.promote_types(adj.weight.dtype, wide))
        adj = adj.with_weight(out)
    if how in ("row", "sym"):
        out = out * inverse_power(adj.target_degree().to(out.dtype), exponent)[adj.target]
    if how in ("col", "sym"):
        out = out * inverse_power(adj.source_degree().to(out.dtype), exponent)[adj.indices]
    return out.to(dtype)


def needs_check(weight: Tensor) -> bool:
    """Whether weights are negative or so small that the inverse of their sum may be infinite; synchronizes."""
    return bool(((weight < _tiny(weight)) & (weight != 0)).any())


def _tiny(values: Tensor) -> float:
    """The smallest normal number of the dtype in which degrees are inverted."""
    kind = torch.promote_types(values.dtype, torch.float32)
    return torch.finfo(kind).tiny


def refuse_degrees(degree: Tensor, size: Tensor, *, power: float, what: str = "weight", at_every: str = "node") -> None:
    """Reject degrees whose power is unusable: negative under a root, infinite, canceling, or with an infinite power.

    Synchronizes with the device: never call it in a forward.

    Args:
        degree: [N] sums of weights.
        size: [N] sums of their absolute values.
        power: the power of the degrees that is taken, -1 or -0.5 for example.
        what: name of the argument with the weights.
        at_every: what has a degree.

    Raises:
        ArgumentError: there is such a degree; the message names the first node.
    """
    root, finite = power == -0.5, degree.isfinite()
    cancels = finite & (size > 0) & (degree.abs() <= 1e-6 * size)
    tiny = (degree != 0) & ((degree.abs() < _tiny(degree)) | ~(degree.abs() ** power).isfinite())
    bad = cancels | tiny | ~finite
    bad = bad | (degree < 0) if root else bad
    if bool(bad.any()):
        at = int(bad.nonzero()[0, 0])
        kinds = {"an infinite sum": ~finite, "weights that cancel": cancels, "a tiny sum": tiny, "a negative sum": bad}
        kind = next(name for name, those in kinds.items() if bool(those[at]))
        hint = "Use absolute weights, or one graph for positive and one for negative edges"
        hint = "Multiply all weights by a constant" if kind in ("an infinite sum", "a tiny sum") else hint
        expected = f"weights with a positive sum at every {at_every}"
        raise ArgumentError(what, expected, f"{kind} at {at}: {degree[at]:g}", hint)


def refuse_degrees_of(adj: EdgeList, how: Literal["row", "col", "sym", "target"]) -> None:
    """Apply `refuse_degrees` to the degrees that `normalized_weight` divides by.

    Only checks weights on a CPU without gradients; on another device a forward would synchronize.

    ``"target"`` takes the root of the target degrees only, as graph convolutions do.
    """
    weight = adj.weight
    if weight is None or weight.requires_grad or weight.device.type != "cpu" or not is_plain(weight):
        return
    if not needs_check(weight):
        return
    size = adj.with_weight(weight.abs())
    if how in ("row", "sym", "target"):
        refuse_degrees(adj.target_degree(), size.target_degree(), power=-1.0 if how == "row" else -0.5)
    if how in ("col", "sym"):
        refuse_degrees(adj.source_degree(), size.source_degree(), power=-0.5 if how == "sym" else -1.0)


def lacks_loop(adj: EdgeList) -> Tensor:
    """Boolean [T]: which nodes of a square structure have no self-loop; never synchronizes."""
    require_square(adj, "self-loops")
    loops = (adj.indices == adj.target).to(torch.int32)
    return coo.segment_sum(loops, adj.target, adj.num_targets) == 0


def add_self_loops(adj: E) -> E:
    """Add every missing self-loop of a square structure (see `Adjacency.add_self_loops`).

    Inserts the loops into both sorted lists; nothing is sorted again.
    """
    lacks = lacks_loop(adj)
    alone = lacks.nonzero().flatten()
    if len(alone) == 0:
        return measured(dataclasses.replace(adj, input_order=None))  # per-edge values in row-sorted order, as below
    size = adj.num_edges + len(alone)
    row, row_loop = _with_loops(adj, lacks, alone)
    column, column_loop = _with_loops(adj.transpose(), lacks, alone)

    def put(places: tuple[Tensor, Tensor], old: Tensor, new: Tensor) -> Tensor:
        return old.new_empty(size).index_put_(places[:1], old).index_put_(places[1:], new.to(old.dtype))

    rows, columns = (row, row_loop), (column, column_loop)
    before = torch.nn.functional.pad(lacks.cumsum(0), (1, 0))
    fields = {
        "indptr": adj.indptr + before,
        "indices": put(rows, adj.indices, alone),
        "target": put(rows, adj.target, alone),
        "t_indptr": adj.t_indptr + before,
        "t_indices": put(columns, adj.t_indices, alone),
        "source": put(columns, adj.source, alone),
        "perm": put(columns, row.index_select(0, adj.perm), row_loop),
        "inv_perm": put(rows, column.index_select(0, adj.inv_perm), column_loop),
        "input_order": torch.cat([row, row_loop]),
    }
    dtype = coo.index_dtype(*adj.shape, size)
    weight = None
    if adj.weight is not None:
        added = adj.weight.new_ones(len(alone))
        weight = torch.cat([adj.weight, added]).index_select(0, coo.inverse(fields["input_order"]))
    return measured(type(adj)(**{name: t.to(dtype) for name, t in fields.items()}, weight=weight))


def _with_loops(adj: EdgeList, lacks: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
    """The positions of the old edges and of the new loops after the loops of ``alone`` are inserted."""
    before = lacks.cumsum(0) - lacks.long()  # loops added in earlier rows
    target = adj.target.long()
    behind = lacks.index_select(0, target) & (adj.indices > adj.target)
    place = torch.arange(adj.num_edges, device=adj.device) + before.index_select(0, target) + behind
    smaller = coo.segment_sum((adj.indices < adj.target).long(), target, adj.num_targets)
    return place, (adj.indptr[:-1] + smaller + before).index_select(0, alone)


def select(adj: E, rows: Tensor) -> E:
    """The requested rows, in the requested order (see `Adjacency.select`)."""
    rows = coo.as_indices("rows", rows).to(adj.device)
    coo.check_range("rows", rows, adj.num_targets, "targets")
    target, edges = edges_of_rows(adj, rows)
    return type(adj).from_coo(
        target=target,
        source=adj.indices[edges],
        weight=None if adj.weight is None else adj.weight[edges],
        num_targets=len(rows),
        num_sources=adj.num_sources,
        duplicates="keep",
    )


def edges_of_rows(adj: EdgeList, rows: Tensor) -> tuple[Tensor, Tensor]:
    """For each edge of the given rows: its position in ``rows`` and its edge id."""
    start, count = adj.indptr[:-1][rows].long(), adj.indptr.diff()[rows].long()
    position = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
    within = torch.arange(len(position), device=rows.device) - (count.cumsum(0) - count)[position]
    return position, start[position] + within


def set_operation(a: E, b: E, symbol: Literal["|", "&", "-"]) -> E:
    """Union, intersection or difference of the edge sets."""
    if a.shape != b.shape:
        raise ArgumentError(f"a {symbol} b", f"structures of the same shape {a.shape}", b.shape)
    if a.weight is not None or b.weight is not None:
        hint = "It is ambiguous whose weights to use: drop them with .with_weight(None)"
        raise ArgumentError(f"a {symbol} b", "unweighted structures", "edge weights", hint)
    keys_a, keys_b = _edge_keys(a), _edge_keys(b)
    if symbol == "|":
        keys = torch.cat([keys_a, keys_b])
    else:
        keys = keys_a[torch.isin(keys_a, keys_b, invert=symbol == "-")]
    keys = torch.unique(keys)
    columns = max(a.num_sources, 1)
    indptr = coo.pointers(keys // columns, a.num_targets)
    return measured(type(a).trusted(indptr=indptr, indices=keys % columns, num_sources=a.num_sources))


def _edge_keys(adj: EdgeList) -> Tensor:
    return coo.pair_codes(adj.target, adj.indices, *adj.shape)


def compose(a: E, b: E) -> E:
    """The two-hop structure (see `Adjacency.__matmul__`), computed in chunks of a's rows."""
    if a.num_sources != b.num_targets:
        raise ArgumentError("a @ b", f"b with {a.num_sources} targets, the number of sources of a", b.num_targets)
    paths_to = torch.zeros(a.num_edges + 1, dtype=torch.long, device=a.device)
    torch.cumsum(b.indptr.diff()[a.indices], 0, out=paths_to[1:])
    before_row = paths_to[a.indptr.long()]  # number of paths of all rows before each row
    most = int(before_row.diff().clamp(max=b.num_sources).sum())
    hint = "Nodes of high degree make it large: one hyperedge of 60,000 nodes joins 3.6 billion pairs"
    check_memory("structure", 64 * most, f"up to {most:,} two-hop edges", hint)
    weighted = a.weight is not None or b.weight is not None
    parts, first = [], 0
    while first < a.num_targets:
        limit = before_row[first] + _PATHS_A_CHUNK
        last = max(int(torch.searchsorted(before_row, limit, right=True)) - 1, first + 1)
        parts.append(_compose_edges(a, b, int(a.indptr[first]), int(a.indptr[last]), weighted))
        first = last
    if not parts:  # no targets: the result is still weighted exactly if a or b is
        parts.append(_compose_edges(a, b, 0, 0, weighted))
    keys = torch.cat([k for k, _ in parts])
    columns = max(b.num_sources, 1)
    both = type(a).trusted(
        indptr=coo.pointers(keys // columns, a.num_targets),
        indices=keys % columns,
        num_sources=b.num_sources,
        weight=torch.cat([w for _, w in parts]) if weighted else None,
    )
    return measured(both)


def _compose_edges(a: EdgeList, b: EdgeList, first: int, last: int, weighted: bool) -> tuple[Tensor, Tensor]:
    """Distinct sorted (target, source) keys reached through a's edges first .. last, and their summed weights."""
    position, edge = edges_of_rows(b, a.indices[first:last].long())
    keys = coo.pair_codes(a.target[first:last][position], b.indices[edge], a.num_targets, b.num_sources)
    keys, group = torch.unique(keys, return_inverse=True)
    if not weighted:
        return keys, keys
    weight = torch.ones((), device=a.device)
    if a.weight is not None:
        weight = weight * a.weight[first:last][position]
    if b.weight is not None:
        weight = weight * b.weight[edge]
    return keys, coo.segment_sum(weight.expand(len(edge)), group, len(keys))


def reach(adj: E, steps: int) -> E:
    """Everything at most ``steps`` hops away (see `Adjacency.reach`)."""
    require_square(adj, "reach")
    if steps < 0:
        raise ArgumentError("num_hops", "a whole number, 0 or more", steps)
    field = type(adj).eye(adj.num_targets, device=adj.device)
    step = set_operation(adj.with_weight(None), field, "|")
    for _ in range(steps):
        wider = compose(step, field)
        if wider.num_edges == field.num_edges:  # converged
            break
        field = wider
    return measured(field)


def require_square(adj: EdgeList, what: str) -> None:
    """Reject rectangular structures where targets and sources must be the same nodes."""
    if adj.num_targets != adj.num_sources:
        raise ArgumentError(what, "a square structure (targets are the sources)", f"{adj.shape}")
