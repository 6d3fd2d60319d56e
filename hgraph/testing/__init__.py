"""Inputs, oracles and tolerances for tests, benchmarks and users' own checks.

Oracles are loops over the sums in float64: slow, and too plain to be wrong. Tolerances are derived from the number
of terms and the rounding unit of the dtype, not guessed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.ops import Additive, Dot
from hgraph.structure import Adjacency, Graph, Hypergraph, KnowledgeGraph

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "adjacencies",
    "assert_close",
    "assert_layout_independent",
    "attend_oracle",
    "covering",
    "degenerate_adjacencies",
    "hypergraphs",
    "knowledge_graphs",
    "pairwise",
    "propagate_oracle",
    "random_adjacency",
    "random_graph",
    "random_hypergraph",
    "random_knowledge_graph",
    "random_layout",
    "softmax_oracle",
]


# ---------------------------------------------------------------------- inputs


def random_adjacency(
    num_targets: int, num_sources: int, num_edges: int, *, seed: int = 0, weighted: bool = False
) -> Adjacency:
    """Uniformly drawn edges, parallel ones kept; weights in -1 .. 1.

    >>> random_adjacency(3, 4, 10).shape
    (3, 4)
    """
    generator = torch.Generator().manual_seed(seed)
    return Adjacency.from_coo(
        target=torch.randint(num_targets, (num_edges,), generator=generator) if num_edges else [],
        source=torch.randint(num_sources, (num_edges,), generator=generator) if num_edges else [],
        weight=torch.rand(num_edges, generator=generator, dtype=torch.float64) * 2 - 1 if weighted else None,
        num_targets=num_targets,
        num_sources=num_sources,
        duplicates="keep",
    )


def random_graph(num_nodes: int, num_edges: int, *, seed: int = 0, weighted: bool = False) -> Graph:
    """A directed graph of uniformly drawn edges, repeated ones dropped; weights in 0.5 .. 1.5."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(num_nodes, (2, num_edges), generator=generator).unique(dim=1)
    weight = torch.rand(pairs.shape[1], generator=generator) + 0.5 if weighted else None
    return Graph.from_edge_index(pairs, num_nodes=num_nodes, directed=True, weight=weight)


def random_hypergraph(
    num_nodes: int, num_hyperedges: int, num_incidences: int, *, seed: int = 0, weighted: bool = False
) -> Hypergraph:
    """Uniformly drawn incidences, repeated ones dropped; every kind of weight in 0.5 .. 1.5 when weighted."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([[num_nodes], [num_hyperedges]])
    pairs = (torch.rand(2, num_incidences, generator=generator) * size).long().unique(dim=1)

    def weights(count: int) -> Tensor | None:
        return torch.rand(count, generator=generator) + 0.5 if weighted else None

    return Hypergraph.from_coo(
        node=pairs[0],
        hyperedge=pairs[1],
        num_nodes=num_nodes,
        num_hyperedges=num_hyperedges,
        weight=weights(pairs.shape[1]),
        hyperedge_weight=weights(num_hyperedges),
        node_weight=weights(num_nodes),
    )


def random_knowledge_graph(
    num_nodes: int, num_triples: int, num_relations: int = 3, *, seed: int = 0, weighted: bool = False
) -> KnowledgeGraph:
    """Uniformly drawn facts, repeated ones kept as parallel edges; weights in 0.5 .. 1.5.

    >>> random_knowledge_graph(5, 12)
    KnowledgeGraph(5 nodes, 12 triples, 3 relations, cpu)
    """
    generator = torch.Generator().manual_seed(seed)
    kg = KnowledgeGraph.from_triples(
        head=torch.randint(num_nodes, (num_triples,), generator=generator) if num_triples else [],
        relation=torch.randint(num_relations, (num_triples,), generator=generator) if num_triples else [],
        tail=torch.randint(num_nodes, (num_triples,), generator=generator) if num_triples else [],
        num_nodes=num_nodes,
        num_relations=num_relations,
        duplicates="keep",
    )
    return kg.with_weight(torch.rand(num_triples, generator=generator) + 0.5) if weighted else kg


def degenerate_adjacencies() -> dict[str, Adjacency]:
    """Structures on which careless code breaks, by name.

    >>> sorted(degenerate_adjacencies())[:3]
    ['all_to_one', 'duplicates', 'empty_rows']
    """

    def make(target: Any, source: Any, t: int, s: int) -> Adjacency:
        return Adjacency.from_coo(target=target, source=source, num_targets=t, num_sources=s, duplicates="keep")

    hub = torch.cat([torch.zeros(90, dtype=torch.long), torch.arange(10)])
    late = torch.cat([torch.arange(10), torch.full((90,), 6)])
    return {
        "empty_rows": make([1, 1, 4], [0, 2, 2], 6, 4),
        "no_edges": make([], [], 3, 5),
        "no_targets": make([], [], 0, 5),
        "no_sources": make([], [], 3, 0),
        "nothing": make([], [], 0, 0),
        "one_loop": make([0], [0], 1, 1),
        "one_vertex": make([], [], 1, 1),
        "hub": make(hub, torch.arange(100) % 37, 11, 37),
        "late_hub": make(late, torch.cat([torch.full((10,), 30), torch.arange(90) % 37]), 11, 37),
        "all_to_one": make([0] * 5, [0, 1, 2, 3, 4], 1, 5),
        "one_to_all": make([0, 1, 2, 3, 4], [0] * 5, 5, 1),
        "duplicates": make([0, 0, 0, 1, 1], [2, 2, 2, 0, 0], 3, 3),
        "self_loops": make([0, 1, 2, 0], [0, 1, 2, 1], 3, 3),
        "odd": random_adjacency(17, 13, 61, seed=3),
    }


def adjacencies(*, max_size: int = 8, max_edges: int = 24, weighted: bool | None = None) -> SearchStrategy[Adjacency]:
    """Hypothesis strategy: structures of any shape, empty ones, parallel edges and isolated vertices included."""
    from hypothesis import strategies as st

    @st.composite
    def draw_one(draw: Any) -> Adjacency:
        t, s = draw(st.integers(0, max_size)), draw(st.integers(0, max_size))
        edges = (
            draw(st.lists(st.tuples(st.integers(0, t - 1), st.integers(0, s - 1)), max_size=max_edges)) if t * s else []
        )
        has_weight = draw(st.booleans()) if weighted is None else weighted
        weight = [draw(st.floats(-2, 2, width=32)) for _ in edges] if has_weight else None
        return Adjacency.from_coo(
            target=[e[0] for e in edges],
            source=[e[1] for e in edges],
            weight=None if weight is None else torch.tensor(weight, dtype=torch.float64),
            num_targets=t,
            num_sources=s,
            duplicates="keep",
        )

    return draw_one()


def hypergraphs(*, max_nodes: int = 8, max_hyperedges: int = 6, weighted: bool = False) -> SearchStrategy[Hypergraph]:
    """Hypothesis strategy: hypergraphs with empty, repeated and one-vertex hyperedges, and isolated vertices."""
    from hypothesis import strategies as st

    @st.composite
    def draw_one(draw: Any) -> Hypergraph:
        n = draw(st.integers(0, max_nodes))
        members = st.lists(st.integers(0, n - 1), unique=True, max_size=n) if n else st.just([])
        hyperedges = draw(st.lists(members, max_size=max_hyperedges))
        positive = st.floats(0.125, 4, width=32)
        weight = [draw(positive) for _ in hyperedges] if weighted else None
        return Hypergraph.from_lists(
            hyperedges,
            num_nodes=n,
            hyperedge_weight=None if weight is None else torch.tensor(weight, dtype=torch.float64),
        )

    return draw_one()


def random_layout(x: Tensor, *, seed: int, expand: bool = True) -> Tensor:
    """A tensor of x's shape at random strides: permuted, sliced with steps and an offset, or expanded.

    Use it to test code against inputs and output gradients that are views: compare ``f(y)`` with
    ``f(y.contiguous())``. Unused memory between and around the numbers is NaN (of integers, the largest), so reading
    it shows. Dimensions of size 1 get arbitrary strides.

    Args:
        x: a dense tensor.
        seed: chooses the layout.
        expand: whether one dimension may get stride 0; the result then repeats the first slice of x along it.

    Returns:
        A view with the numbers of x, apart from an expanded dimension; without a gradient history.

    >>> y = random_layout(torch.arange(6.0).view(2, 3), seed=1)
    >>> y.stride(), y.tolist()
    ((2, 5), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    x, shape = x.detach(), x.shape
    wide = [d for d in range(x.dim()) if shape[d] > 1]
    if wide and expand and draw(0, 0, 1):
        x = x.narrow(wide[draw(*range(len(wide)))], 0, 1)
    order = torch.randperm(x.dim(), generator=generator).tolist()
    steps, gaps = [draw(1, 1, 2, 3) for _ in order], [draw(0, 0, 1, 2) for _ in order]
    if x.dim() > 2 and draw(0, 0, 1):  # channels last, as convolutions return it
        order, steps, gaps = [0, *range(2, x.dim()), 1], [1] * x.dim(), [0] * x.dim()
    sizes = [x.shape[d] * step + gap for d, step, gap in zip(order, steps, gaps, strict=True)]
    offset = draw(0, 1, 5)
    if x.is_floating_point():
        fill = float("nan")
    else:
        fill = True if x.dtype == torch.bool else torch.iinfo(x.dtype).max
    view = torch.full((offset + math.prod(sizes),), fill, dtype=x.dtype, device=x.device)[offset:].view(sizes)
    for axis, (step, gap) in enumerate(zip(steps, gaps, strict=True)):
        view = view[(slice(None),) * axis + (slice(gap, None, step),)]
    view = view.permute([order.index(d) for d in range(x.dim())])
    view.copy_(x)
    strides = [draw(0, 1, *view.stride()) if n == 1 else s for n, s in zip(view.shape, view.stride(), strict=True)]
    return view.as_strided(view.shape, strides, view.storage_offset()).expand(shape)


def pairwise(**choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Few combinations in which every choice of one list meets every choice of every other.

    Raises:
        ArgumentError: fewer than two lists, or an empty one.

    >>> len(pairwise(a=[1, 2, 3], b=[1, 2, 3], c=[1, 2], d=[1, 2])) < 3 * 3 * 2 * 2 // 3
    True
    """
    return covering(2, **choices)


def covering(strength: int, /, **choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Few combinations in which all choices of any so many of the lists meet: of any three lists for 3.

    Raises:
        ArgumentError: a strength below 1 or above the number of lists, or an empty list: a test of no combinations
            would run nothing and say nothing.

    >>> len(covering(3, a=[1, 2], b=[1, 2], c=[1, 2], d=[1, 2]))
    8
    """
    lists = [list(choice) for choice in choices.values()]
    if not 1 <= strength <= len(lists):
        raise ArgumentError("strength", f"1 .. {len(lists)}, as many as there are lists", strength)
    if not all(lists):
        empty = next(name for name, own in zip(choices, lists, strict=True) if not own)
        raise ArgumentError(empty, "one choice at least", "none")
    missing = {
        (at, given)
        for at in itertools.combinations(range(len(lists)), strength)
        for given in itertools.product(*(range(len(lists[i])) for i in at))
    }

    def brought(row: dict[int, int], k: int) -> int:
        """How much of what is missing a choice for list k brings, together with those made before."""
        meets = (sorted((*others, k)) for others in itertools.combinations(row.keys() - {k}, strength - 1))
        return sum((tuple(at), tuple(row[i] for i in at)) in missing for at in meets)

    rows = []
    while missing:
        row = dict(zip(*min(missing), strict=True))
        for k in range(len(lists)):
            if k not in row:
                row[k] = max(range(len(lists[k])), key=lambda c, k=k, row=row: brought(row | {k: c}, k))  # type: ignore[misc]
        missing -= {(at, tuple(row[i] for i in at)) for at in itertools.combinations(range(len(lists)), strength)}
        rows.append(tuple(lists[k][row[k]] for k in range(len(lists))))
    return rows


def knowledge_graphs(
    *, max_nodes: int = 7, max_relations: int = 3, max_triples: int = 16
) -> SearchStrategy[KnowledgeGraph]:
    """Hypothesis strategy: facts that repeat, loops, vertices and relations without facts, no vertices, names or none.

    Vertices may have types; there are no weights.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_one(draw: Any) -> KnowledgeGraph:
        n, r = draw(st.integers(0, max_nodes)), draw(st.integers(0, max_relations))
        one = st.tuples(st.integers(0, max(n - 1, 0)), st.integers(0, max(r - 1, 0)), st.integers(0, max(n - 1, 0)))
        facts = draw(st.lists(one, max_size=max_triples)) if n * r else []
        named, typed = draw(st.booleans()), draw(st.booleans())
        return KnowledgeGraph.from_triples(
            head=[f[0] for f in facts],
            relation=[f[1] for f in facts],
            tail=[f[2] for f in facts],
            num_nodes=n,
            num_relations=r,
            node_type=[v % 2 for v in range(n)] if typed else None,
            node_names=draw(st.lists(st.text(max_size=4), min_size=n, max_size=n)) if named else None,
            relation_names=[f"r{i}" for i in range(r)] if named else None,
            type_names=["even", "odd"] if typed and named else None,
            duplicates="keep",
        )

    return draw_one()


# ---------------------------------------------------------------------- oracles


def _edges(adj: Adjacency) -> list[tuple[int, int]]:
    return list(zip(adj.target.tolist(), adj.indices.tolist(), strict=True))


def propagate_oracle(adj: Adjacency, x: Tensor, weight: Tensor | None = None, reduce: str = "sum") -> Tensor:
    """`hgraph.propagate` of x [S, D] by loops, in float64."""
    x = x.detach().double()
    weight = adj.weight if weight is None else weight
    channels, edges = x.shape[1], _edges(adj)
    wide = torch.ones(adj.num_edges, 1) if weight is None else weight.detach().unsqueeze(-1).flatten(1)
    block = channels // max(wide.shape[1], 1)
    out = torch.zeros(adj.num_targets, channels, dtype=torch.float64)
    weights, numbers = wide.tolist(), x.tolist()
    for d in range(channels):
        heard: list[list[float]] = [[] for _ in range(adj.num_targets)]
        for e, (t, s) in enumerate(edges):
            heard[t].append(weights[e][d // block] * numbers[s][d])
        for t, messages in enumerate(heard):
            if messages:
                total = math.fsum(messages)
                out[t, d] = {"sum": total, "mean": total / len(messages), "max": max(messages), "min": min(messages)}[
                    reduce
                ]
    return out


def softmax_oracle(adj: Adjacency, score: Tensor) -> Tensor:
    """`hgraph.edge_softmax` of scores [E, H] by loops, in float64."""
    score = score.detach().double()
    out, edges, numbers = torch.zeros_like(score), _edges(adj), score.tolist()
    for h in range(score.shape[1]):
        for t in range(adj.num_targets):
            own = {e: numbers[e][h] for e, (target, _) in enumerate(edges) if target == t}
            finite = {e: s for e, s in own.items() if s > float("-inf")}
            if finite:
                top = max(finite.values())
                total = math.fsum(math.exp(s - top) for s in finite.values())
                for e, s in finite.items():
                    out[e, h] = math.exp(s - top) / total
    return out


def attend_oracle(
    adj: Adjacency,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score: Dot | Additive | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`hgraph.attend` without batch dimensions by loops, in float64: (out [T, H, D], lse [T, H])."""
    q, k, v = (tensor.detach().double() for tensor in (q, k, v))
    heads, group = q.shape[1], q.shape[1] // k.shape[1]
    additive = isinstance(score, Additive)
    scale = (1.0 if additive else q.shape[-1] ** -0.5) if scale is None else scale
    out = torch.zeros(adj.num_targets, heads, v.shape[-1], dtype=torch.float64)
    lse = torch.full((adj.num_targets, heads), float("-inf"), dtype=torch.float64)
    for h in range(heads):
        rows: dict[int, list[tuple[float, int]]] = {}
        for e, (t, s) in enumerate(_edges(adj)):
            if isinstance(score, Additive):
                one = torch.nn.functional.leaky_relu(q[t, h] + k[s, h // group], score.slope)
                raw = float(one if score.a is None else one @ score.a[h].detach().double())
            else:
                raw = float(q[t, h] @ k[s, h // group])
            add = 0.0 if bias is None else float(bias.unsqueeze(-1).flatten(1).expand(-1, heads)[e, h])
            if scale * raw + add > float("-inf"):
                rows.setdefault(t, []).append((scale * raw + add, s))
        for t, heard in rows.items():
            top = max(value for value, _ in heard)
            total = math.fsum(math.exp(value - top) for value, _ in heard)
            lse[t, h] = top + math.log(total)
            for value, s in heard:
                out[t, h] += math.exp(value - top) / total * v[s, h // group]
    return out, lse


# ---------------------------------------------------------------------- tolerances


def assert_close(actual: Tensor, expected: Tensor, *, terms: int, magnitude: float | Tensor = 1.0) -> None:
    r"""Hold a computed sum against its float64 oracle, within what rounding can explain.

    The bound is :math:`((n + 4)\, u_{acc} + 2 u) \cdot m`: n terms of total magnitude m, accumulated with unit
    :math:`u_{acc}` (float32 for half types) and rounded once to the dtype with unit u, or to one of its subnormals.

    Args:
        actual: what was computed, in its dtype.
        expected: the oracle, float64.
        terms: the most numbers added into one output.
        magnitude: the largest sum of absolute values behind one output (a number, or one an output).

    >>> assert_close(torch.tensor([0.1 + 0.2]), torch.tensor([0.3], dtype=torch.float64), terms=2)
    """
    unit = torch.finfo(actual.dtype).eps / 2
    accumulator = torch.float32 if actual.dtype in (torch.float16, torch.bfloat16) else actual.dtype
    bound = ((terms + 4) * torch.finfo(accumulator).eps / 2 + 2 * unit) * torch.as_tensor(magnitude).double()
    bound = bound + torch.finfo(actual.dtype).smallest_normal * 2 * unit
    if actual.shape != expected.shape:
        raise AssertionError(f"shape {list(actual.shape)}, expected {list(expected.shape)}")
    same = (actual.double() == expected) | ((actual.double() - expected).abs() <= bound)
    if not bool(same.all()):
        worst = (actual.double() - expected).abs().masked_fill(same, 0).max()
        raise AssertionError(
            f"{int((~same).sum())} of {same.numel()} off, the worst by {worst:.3g} (bound {bound.max():.3g})"
        )


def assert_layout_independent(
    function: Callable[..., Any], *inputs: Tensor, seeds: Sequence[int] = range(4), tolerance: float | None = None
) -> None:
    """Hold a function of tensors against itself on dense inputs: strides must decide nothing.

    Inputs, and the gradients that its outputs receive, are laid out anew for each seed (`random_layout`); outputs and
    gradients are compared with those of dense copies.

    Args:
        function: of the inputs; returns a tensor or nested tuples of tensors, of which the floating-point ones count.
            It must give the same numbers each time.
        *inputs: dense tensors; those of floating point get gradients.
        seeds: one layout for each.
        tolerance: relative to the largest number of each result; by default 64 roundings of its dtype.

    Raises:
        AssertionError: two results differ, naming the seed and the result.

    >>> assert_layout_independent(torch.mm, torch.randn(3, 4), torch.randn(4, 2))
    """
    for seed in seeds:
        strided = [random_layout(x, seed=1000 * seed + i) for i, x in enumerate(inputs)]
        found = [_outputs_and_gradients(function, own, seed, dense) for own, dense in
                 ((strided, False), ([x.contiguous() for x in strided], True))]  # fmt: skip
        for i, (got, expected) in enumerate(zip(*found, strict=True)):
            size = expected[expected.isfinite()].abs().max().item() if expected.isfinite().any() else 1.0
            limit = (64 * torch.finfo(got.dtype).eps if tolerance is None else tolerance) * max(size, 1.0)
            where = f"seed {seed}, result {i}: "
            torch.testing.assert_close(got, expected, rtol=0, atol=limit, equal_nan=True, msg=where.__add__)


def _outputs_and_gradients(
    function: Callable[..., Any], inputs: Sequence[Tensor], seed: int, dense: bool
) -> list[Tensor]:
    leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
    out = [t for t in _flat(function(*leaves)) if t.is_floating_point()]
    # -inf of empty rows would make every gradient NaN; elsewhere the gradient's strides must arrive as they are.
    finite = [t if t.isfinite().all() else torch.where(t.isfinite(), t, 0.0) for t in out if t.requires_grad]
    grads = [torch.randn(t.shape, generator=torch.Generator().manual_seed(9)).to(t) for t in finite]
    grads = [random_layout(g, seed=1000 * seed + 500 + i) for i, g in enumerate(grads)]
    grads = [g.contiguous() for g in grads] if dense else grads
    wanted = [x for x in leaves if x.requires_grad]
    return [*(t.detach() for t in out), *torch.autograd.grad(finite, wanted, grads, materialize_grads=True)]


def _flat(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, (tuple, list)) else ()
    return [t for part in parts for t in _flat(part)]
