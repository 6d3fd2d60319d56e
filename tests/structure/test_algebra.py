"""Normalization, loops, rows, set algebra, composition, reach: against matrices, sets and searches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Adjacency
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import algebra, coo
from hgraph.testing import adjacencies, degenerate_adjacencies, random_adjacency

DEGENERATE = degenerate_adjacencies()
SOME = settings(max_examples=40, deadline=None, derandomize=True)


def pairs(adj):
    return set(zip(adj.target.tolist(), adj.indices.tolist(), strict=True))


def edge_lists(t, s, most):
    """Lists of (target, source); empty if there are no nodes."""
    return st.lists(st.tuples(st.integers(0, t - 1), st.integers(0, s - 1)), max_size=most) if t * s else st.just([])


@st.composite
def several(draw, count=2, weighted=False, square=False):
    """Structures of the same shape."""
    t = draw(st.integers(0, 6))
    s = t if square else draw(st.integers(0, 6))
    found = []
    for _ in range(count):
        edges = draw(edge_lists(t, s, 16))
        found.append(chain(edges, t, s, draw(st.booleans()) if weighted else False))
    return found


def chain(edges, t, s, weighted=False):
    weight = torch.linspace(0.5, 2, len(edges), dtype=torch.float64) if weighted else None
    return Adjacency.from_coo(
        target=[e[0] for e in edges], source=[e[1] for e in edges], weight=weight,
        num_targets=t, num_sources=s, duplicates="keep",
    )  # fmt: skip


# ---------------------------------------------------------------------- normalization


def normalized_oracle(adj, how):
    """Loops over the edges in float64."""
    weight = [1.0] * adj.num_edges if adj.weight is None else adj.weight.tolist()
    edges = list(zip(adj.target.tolist(), adj.indices.tolist(), weight, strict=True))
    row = [sum(w for t, _, w in edges if t == i) for i in range(adj.num_targets)]
    column = [sum(w for _, s, w in edges if s == j) for j in range(adj.num_sources)]
    factor = {
        "row": lambda t, s: row[t],
        "col": lambda t, s: column[s],
        "sym": lambda t, s: (row[t] ** 0.5) * (column[s] ** 0.5),
    }[how]
    return torch.tensor([w / factor(t, s) if factor(t, s) else 0.0 for t, s, w in edges], dtype=torch.float64)


@pytest.mark.parametrize("how", ["row", "col", "sym"])
@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("weighted", [False, True])
def test_normalization(name, how, weighted):
    adj = DEGENERATE[name]
    if weighted:
        adj = adj.with_weight(torch.linspace(0.25, 3, adj.num_edges, dtype=torch.float64))
    found = adj.normalize(how)
    assert found.weight.dtype == (torch.float64 if weighted else torch.float32)
    torch.testing.assert_close(found.weight.double(), normalized_oracle(adj, how), rtol=1e-6, atol=0)
    assert pairs(found) == pairs(adj)


@pytest.mark.parametrize("how", ["row", "col", "sym"])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 4e-16), (torch.float32, 2e-7), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_normalization_in_the_dtype_asked_for(weighted, dtype, rounding, how):
    adj = Adjacency.from_coo(
        target=[*[0] * 300, 1, 2, 2], source=[*range(300), 0, 0, 7], num_targets=4, num_sources=301
    )
    if weighted:
        adj = adj.with_weight(torch.linspace(0.25, 3, adj.num_edges).to(torch.bfloat16).float())
    found = adj.normalize(how, dtype=dtype)
    assert found.weight.dtype == dtype
    torch.testing.assert_close(found.weight.double(), normalized_oracle(adj, how), rtol=rounding, atol=0)


@pytest.mark.parametrize("how", ["row", "col", "sym"])
def test_zero_degrees_invert_to_zero(how):
    adj = chain([(0, 0), (1, 1)], 2, 2).with_weight(torch.tensor([0.0, 4.0]))
    assert adj.normalize(how).weight.tolist() == [0, 1]


def test_gradient_of_normalized_weights_at_zero_degree_is_finite():
    weight = torch.tensor([0.0, 4.0], requires_grad=True)
    chain([(0, 0), (1, 1)], 2, 2).with_weight(weight).normalize("sym").weight.sum().backward()
    assert weight.grad.isfinite().all()


def test_normalization_rejects_unknown_names():
    with pytest.raises(ArgumentError, match="how: expected 'row', 'col' or 'sym', got 'both'"):
        Adjacency.eye(2).normalize("both")
    with pytest.raises(ArgumentTypeError, match="dtype: expected a floating-point torch.dtype, or None, got"):
        Adjacency.eye(2).normalize("row", dtype=torch.int64)


# ---------------------------------------------------------------------- loops and rows


@SOME
@given(several(1, weighted=True, square=True))
def test_self_loops_are_added_where_missing(found):
    adj = found[0]
    looped = adj.add_self_loops()
    expected = adj.dense().double()
    diagonal = torch.tensor([(v, v) in pairs(adj) for v in range(adj.num_targets)], dtype=torch.bool)
    expected += torch.diag((~diagonal).double())
    assert torch.equal(looped.dense().double(), expected)
    assert looped.num_edges == adj.num_edges + int((~diagonal).sum())
    assert looped.add_self_loops().equal(looped)


@SOME
@given(several(1, square=True))
def test_self_loops_are_put_where_sorting_would_put_them(found):
    adj = found[0]
    loops = [v for v in range(adj.num_targets) if (v, v) not in pairs(adj)]
    sizes = {"num_targets": adj.num_targets, "num_sources": adj.num_sources, "duplicates": "keep"}
    ends = {"target": adj.target.tolist() + loops, "source": adj.indices.tolist() + loops}
    weight = None if adj.weight is None else torch.cat([adj.weight, adj.weight.new_ones(len(loops))])
    expected = Adjacency.from_coo(**ends, weight=weight, **sizes)
    looped = adj.add_self_loops()
    for name, field in vars(expected).items():
        if name != "input_order" and field is not None:
            assert torch.equal(getattr(looped, name), field), name
    values = torch.arange(adj.num_edges + len(loops), dtype=torch.double)
    assert torch.equal(looped.sort_edges(values), expected.sort_edges(values))


def test_self_loops_need_a_square():
    with pytest.raises(ArgumentError, match=r"self-loops: expected a square .*got \(3, 5\)"):
        DEGENERATE["no_edges"].add_self_loops()


@SOME
@given(adjacencies(), st.data())
def test_select(adj, data):
    rows = data.draw(st.lists(st.integers(0, adj.num_targets - 1), max_size=6)) if adj.num_targets else []
    found = adj.select(torch.tensor(rows, dtype=torch.long))
    assert found.shape == (len(rows), adj.num_sources)
    assert torch.equal(found.dense(), adj.dense()[rows])
    assert (found.weight is None) == (adj.weight is None)
    degree = adj.indptr.diff()
    assert found.indptr.diff().tolist() == [int(degree[r]) for r in rows]


def test_select_rejects_masks_and_unknown_targets():
    adj = random_adjacency(3, 2, 4)
    with pytest.raises(ArgumentTypeError, match="rows: .*mask"):
        adj.select(torch.tensor([True, False, True]))
    with pytest.raises(ArgumentError, match="rows: expected targets in 0 .. 2, got 3 at position 1"):
        adj.select(torch.tensor([0, 3]))


# ---------------------------------------------------------------------- set algebra


@SOME
@given(several(3))
def test_set_algebra_against_sets(found):
    a, b, c = found
    assert pairs(a | b) == pairs(a) | pairs(b)
    assert pairs(a & b) == pairs(a) & pairs(b)
    assert pairs(a - b) == pairs(a) - pairs(b)
    for result in (a | b, a & b, a - b):
        assert result.num_edges == len(pairs(result))  # parallel edges are one element
        assert result.shape == a.shape
        assert result.weight is None
    assert ((a - b) | (a & b)).equal(a | a)
    assert ((a | b) | c).equal(a | (b | c))
    assert (a & (b | c)).equal((a & b) | (a & c))
    assert (a | b).transpose().equal(b.transpose() | a.transpose())


@pytest.mark.parametrize("symbol", ["__or__", "__and__", "__sub__"])
def test_set_algebra_refuses_weights_and_other_shapes(symbol):
    a = random_adjacency(3, 4, 5)
    for x, y in ((a.normalize("row"), a), (a, a.normalize("row"))):
        with pytest.raises(ArgumentError, match=r"a [|&-] b: expected unweighted .*with_weight\(None\)"):
            getattr(x, symbol)(y)
    with pytest.raises(ArgumentError, match=r"a [|&-] b: expected structures of the same shape \(3, 4\), got \(4, 3\)"):
        getattr(a, symbol)(a.transpose())


# ---------------------------------------------------------------------- composition


@st.composite
def composable(draw):
    t, m, s = (draw(st.integers(0, 5)) for _ in range(3))
    made = []
    for rows, columns in ((t, m), (m, s)):
        made.append(chain(draw(edge_lists(rows, columns, 14)), rows, columns, draw(st.booleans())))
    return made


@pytest.mark.parametrize("chunk", [1, 3, 4_000_000])
@SOME
@given(composable())
def test_composition_against_matrix_products(chunk, found):
    a, b = found
    before, algebra._PATHS_A_CHUNK = algebra._PATHS_A_CHUNK, chunk
    try:
        product = a @ b
    finally:
        algebra._PATHS_A_CHUNK = before
    expected = a.dense().double() @ b.dense().double()
    assert product.shape == expected.shape
    assert product.num_edges == len(pairs(product))
    weighted = a.weight is not None or b.weight is not None
    assert (product.weight is not None) == weighted
    if weighted:
        torch.testing.assert_close(product.dense().double(), expected, rtol=1e-12, atol=1e-12)
    assert pairs(product) == {tuple(p) for p in (expected != 0).nonzero().tolist()}  # weights here are positive


def test_composition_counts_parallel_edges_once_unless_weighted():
    two = chain([(0, 0), (0, 0)], 1, 1)
    three = chain([(0, 0)] * 3, 1, 1)
    assert (two @ three).dense().tolist() == [[1]]
    assert (two.with_weight(torch.ones(2)) @ three).dense().tolist() == [[6]]


def test_composition_passes_gradients():
    a, b = random_adjacency(4, 5, 9), random_adjacency(5, 3, 8)
    wa = torch.rand(9, dtype=torch.float64, requires_grad=True)
    wb = torch.rand(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: (a.with_weight(x) @ b.with_weight(y)).weight, (wa, wb))


def test_composition_rejects_other_shapes():
    with pytest.raises(ArgumentError, match="a @ b: expected b with 4 targets, the number of sources of a, got 3"):
        random_adjacency(3, 4, 5) @ random_adjacency(3, 4, 5)


# ---------------------------------------------------------------------- reach


@SOME
@given(several(1, square=True, weighted=True), st.integers(0, 7))
def test_reach_against_breadth_first_search(found, steps):
    adj = found[0]
    neighbors = {t: {s for i, s in pairs(adj) if i == t} for t in range(adj.num_targets)}
    expected = set()
    for start in neighbors:
        seen = front = {start}
        for _ in range(steps):
            front = {s for v in front for s in neighbors[v]} - seen
            seen = seen | front
        expected |= {(start, v) for v in seen}
    found = adj.reach(steps)
    assert pairs(found) == expected
    assert found.weight is None


def test_reach_goes_all_the_way_along_a_chain():
    line = chain([(v + 1, v) for v in range(9)], 10, 10)
    assert line.reach(9).num_edges == 55
    assert line.reach(4).target_degree().tolist() == [1, 2, 3, 4, 5, 5, 5, 5, 5, 5]


def test_reach_refuses():
    with pytest.raises(ArgumentError, match="num_hops: expected a whole number, 0 or more, got -1"):
        Adjacency.eye(2).reach(-1)
    with pytest.raises(ArgumentError, match="reach: expected a square"):
        DEGENERATE["no_edges"].reach(1)


def test_pairs_that_fit_no_number_are_refused():
    row, column = torch.tensor([1]), torch.tensor([2])
    assert coo.pair_codes(row, column, 2**31, 2**31).tolist() == [2**31 + 2]
    with pytest.raises(ArgumentError, match=r"fewer than 2\*\*63 possible pairs, got 4294967296 x 2147483648"):
        coo.pair_codes(row, column, 2**32, 2**31)
