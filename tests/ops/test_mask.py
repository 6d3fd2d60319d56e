"""`attend(mask=)`: masked sources have no effect, for every kind of structure."""

from __future__ import annotations

import itertools

import pytest
import torch

from hgraph import Additive, Relative, SoftAdjacency, attend, patterns
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops.tiles.padding import without_sources
from hgraph.testing import random_adjacency

N, H, D = 24, 4, 6
LISTS = torch.arange(2 * N).view(2, 1, N, 1) * torch.tensor([1, 3, 7]) % N
GRAPHS = {
    "causal": patterns.causal(N),
    "cross": patterns.full(11, N),
    "line": patterns.axial((4, 6), 0),
    "by example": patterns.top_k(LISTS, num_sources=N),
    "few": patterns.full(3, N),
}
MASK = torch.rand(2, N, generator=torch.Generator().manual_seed(0)) > 0.3
MASK[0, :4] = MASK[1, 18:] = False


def leaves(targets, key_heads=2, width=D):
    shapes = ((targets, H, width), (N, key_heads, width), (N, key_heads, width))
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(2, *shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]


def with_nan(q, k, v):
    there = MASK.view(2, N, *(1,) * (v.dim() - 2))
    return [q] + [torch.where(there.view(2, N, *(1,) * (x.dim() - 2)), x, float("nan")) for x in (k, v)]


def check(call, reference, own):
    """Outputs and gradients equal those over the remaining edges, with NaN in the padding; also when compiled."""
    results, flows = [], []
    for function, tensors in ((call, with_nan(*own)), (reference, own)):
        tensors = [t.detach().requires_grad_() for t in tensors]
        out, lse = function(*tensors)
        loss = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum()
        flows.append(torch.autograd.grad(loss + lse.masked_fill(lse.isinf(), 0.0).square().sum(), tensors))
        results.append((out, lse))
    torch.testing.assert_close(results[0], results[1], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(flows[0], flows[1], rtol=1e-11, atol=1e-11)


def form(graph, name):
    return graph.adjacency() if name == "edges" else graph if name == "graph" else graph.tiles(int(name))


@pytest.mark.parametrize(
    ("name", "kind"),
    [p for p in itertools.product(GRAPHS, ("graph", "edges", "1", "8", "64")) if p != ("by example", "edges")],
)
def test_padding_has_no_effect(name, kind):
    graph = GRAPHS[name]
    structure, left = form(graph, kind), graph & patterns.present(torch.ones(2, graph.num_targets).bool(), MASK)
    check(lambda *x: attend(structure, *x, mask=MASK), lambda *x: attend(left, *x), leaves(graph.num_targets))


@pytest.mark.parametrize("kind", ["graph", "edges", "8"])
def test_masks_compile_and_have_second_derivatives(kind):
    torch._dynamo.reset()
    structure, own = form(GRAPHS["causal"], kind), leaves(N)
    compiled = torch.compile(lambda m, *x: attend(structure, *x, mask=m), fullgraph=True, backend="aot_eager")
    padded = [t.detach().requires_grad_() for t in with_nan(*own)]
    torch.testing.assert_close(compiled(MASK, *padded), attend(structure, *own, mask=MASK))
    assert torch.autograd.gradgradcheck(lambda *x: attend(structure, *x, mask=MASK).out[:, ::9], own, fast_mode=True)


def test_one_mask_for_all_examples():
    own, graph = leaves(N), GRAPHS["causal"]
    for structure in (graph, graph.adjacency()):
        both = [attend(structure, *own, mask=m).out for m in (MASK[0], MASK[:1], MASK[:1].expand(2, N))]
        assert torch.equal(both[0], both[1])
        assert torch.equal(both[0], both[2])


def test_masks_with_biases():
    graph, own, table = GRAPHS["causal"], leaves(N), torch.linspace(0, 1, 5 * H, dtype=torch.float64).view(H, 5)
    left = graph & patterns.present(torch.ones(2, N).bool(), MASK)
    check(
        lambda *x: attend(graph.tiles(8), *x, bias=Relative(table), mask=MASK),
        lambda *x: attend(left, *x, bias=Relative(table)),
        own,
    )
    adj = graph.adjacency()
    bias = torch.linspace(0, 1, adj.num_edges * H, dtype=torch.float64).view(-1, H)
    infinite = torch.where(MASK[:, adj.indices.long()].unsqueeze(-1), bias, float("-inf"))
    check(
        lambda *x: attend(adj, *x, bias=bias, mask=MASK),
        lambda *x: [
            torch.stack(t)
            for t in zip(*(attend(adj, *(y[b] for y in x), bias=infinite[b]) for b in (0, 1)), strict=True)
        ],
        own,
    )


@pytest.mark.parametrize("score", [Additive(), Additive(torch.ones(H, D, dtype=torch.float64))])
def test_masks_of_additive_scores_and_soft_structures(score):
    adj, (q, k, v) = GRAPHS["causal"].adjacency(), leaves(N, H)
    q, k = (q, k) if score.a is not None else (q[..., 0], k[..., 0])
    some = [torch.tensor([[bool(m)] for m in MASK[b][adj.indices.long()]]) for b in (0, 1)]
    masks = [torch.where(s, 0.0, float("-inf")).double().expand(-1, H) for s in some]

    def reference(*x):
        each = (attend(adj, *(y[b] for y in x), score=score, bias=masks[b]) for b in (0, 1))
        return [torch.stack(t) for t in zip(*each, strict=True)]

    check(lambda *x: attend(adj, *x, score=score, mask=MASK), reference, (q, k, v))
    soft = SoftAdjacency(torch.ones(2, N, N, dtype=torch.float64))
    left = SoftAdjacency(soft.weight, MASK.unsqueeze(1).expand(2, N, N))
    check(lambda *x: attend(soft, *x, score=score, mask=MASK), lambda *x: attend(left, *x, score=score), (q, k, v))


@pytest.mark.parametrize("name", ["causal", "cross", "by example"])
@pytest.mark.parametrize("block", [8, 16])
def test_tiles_without_their_padding(name, block):
    """The inputs of kernels: bits of tiles, and the transpose with the same tiles."""
    for part in GRAPHS[name].tiles(block).parts():
        for tiles in (part, part.with_transpose()):
            found = without_sources(tiles, MASK)
            for b, h in itertools.product((0, 1), range(found.num_heads)):
                whole = part.adjacency(example=b if part.batch > 1 else 0, head=h).dense()
                assert torch.equal(found.adjacency(example=b, head=h).dense(), whole * MASK[b])
            if found.t_index is not None and found.t_rule is not None and found.t_count is not None:
                found.validate()
                for b, h, c in itertools.product((0, 1), range(found.num_heads), range(found.t_count.shape[2])):
                    for at in range(int(found.t_count[b, h, c])):
                        row, rule = found.t_index[b, h, c, at], found.t_rule[b, h, c, at]
                        r = int((found.row == row).nonzero())
                        own = found.index[b, h, r, : int(found.count[b, h, r])] == c
                        assert found.rule[b, h, r, : len(own)][own] == rule


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (MASK[:, :-1], ArgumentError, r"mask: expected shape \[..., 24\], got shape \[2, 23\]"),
        (MASK.expand(3, 2, N), ArgumentError, "mask: expected shape"),
        (MASK.double(), ArgumentTypeError, "mask: expected"),
    ],
)
def test_masks_of_the_wrong_shape(mask, error, message):
    with pytest.raises(error, match=message):
        attend(GRAPHS["causal"], *leaves(N), mask=mask)


def test_a_bias_by_example_is_that_of_each_example():
    """[..., E, H], alone and with padding: the same as one call per example."""
    adj = random_adjacency(5, 7, 20, seed=1)
    q, k, v = (torch.randn(2, 3, n, 2, 4, dtype=torch.float64) for n in (5, 7, 7))
    bias, mask = torch.randn(2, 3, 20, 2, dtype=torch.float64), torch.rand(2, 3, 7) < 0.7
    for given in (None, mask):
        found = attend(adj, q, k, v, bias=bias, mask=given)
        for i in range(2):
            for j in range(3):
                own = None if given is None else given[i, j]
                one = attend(adj, q[i, j], k[i, j], v[i, j], bias=bias[i, j], mask=own)
                torch.testing.assert_close(found.out[i, j], one.out)
                torch.testing.assert_close(found.lse[i, j], one.lse)
    with pytest.raises(ArgumentError, match="bias"):
        attend(adj, q, k, v, bias=bias[0])
