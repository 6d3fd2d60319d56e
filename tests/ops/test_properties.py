"""Properties of all structures, tested with hypothesis."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hgraph import Additive, Adjacency, AttendResult, Dot, attend, attention_weights, edge_softmax, merge, propagate
from hgraph.testing import adjacencies

H, D, V = 2, 3, 2
INF = float("inf")
SEEDS = st.integers(0, 2**31 - 1)
SCORES = st.sampled_from([Dot(), Additive(), Additive(torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.25, -0.75]]))])
REDUCTIONS = st.sampled_from(["sum", "mean", "max", "min"])
few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def qkv(adj: Adjacency, score: Dot | Additive, seed: int, *batch: int) -> tuple[Tensor, Tensor, Tensor]:
    own = () if isinstance(score, Additive) and score.a is None else (D,)
    sizes = (adj.num_targets, H, *own), (adj.num_sources, H, *own), (adj.num_sources, H, V)
    return tuple(numbers(seed + i, *batch, *size) for i, size in enumerate(sizes))


def moved(adj: Adjacency, seed: int) -> tuple[Adjacency, Tensor, Tensor, Tensor]:
    """The structure with targets, sources and the order of its edges permuted; and the three permutations."""
    generator = torch.Generator().manual_seed(seed)
    targets, sources, edges = (torch.randperm(n, generator=generator) for n in (*adj.shape, adj.num_edges))
    new = Adjacency.from_coo(
        target=targets[adj.target][edges],
        source=sources[adj.indices][edges],
        weight=None if adj.weight is None else adj.weight[edges],
        num_targets=adj.num_targets,
        num_sources=adj.num_sources,
        duplicates="keep",
    )
    return new, targets, sources, edges


@few
@given(adjacencies(), REDUCTIONS, SEEDS)
def test_propagate_is_equivariant_to_permutations(adj: Adjacency, reduce: str, seed: int) -> None:
    new, targets, sources, edges = moved(adj, seed)
    x = numbers(seed, adj.num_sources, 4)
    moved_x = torch.empty_like(x).index_copy(0, sources, x)
    close(propagate(new, moved_x, reduce=reduce)[targets], propagate(adj, x, reduce=reduce))
    weight = numbers(seed, adj.num_edges, 2)
    out = propagate(new, moved_x, weight=new.sort_edges(weight[edges]), reduce=reduce)
    close(out[targets], propagate(adj, x, weight=weight, reduce=reduce))


@few
@given(adjacencies(weighted=False), SCORES, SEEDS)
def test_attention_is_equivariant_to_permutations(adj: Adjacency, score: Dot | Additive, seed: int) -> None:
    new, targets, sources, edges = moved(adj, seed)
    q, k, v = qkv(adj, score, seed)
    bias = numbers(seed + 5, adj.num_edges, H)
    renamed = [torch.empty_like(t).index_copy(0, p, t) for t, p in ((q, targets), (k, sources), (v, sources))]
    new_bias = new.sort_edges(bias[edges])
    result, wanted = attend(new, *renamed, score=score, bias=new_bias), attend(adj, q, k, v, score=score, bias=bias)
    close(result.out[targets], wanted.out)
    close(result.lse[targets], wanted.lse)
    close(new.unsort_edges(edge_softmax(new, new_bias)), edge_softmax(adj, bias)[edges])
    probabilities = attention_weights(new, *renamed[:2], result.lse, score=score, bias=new_bias)
    close(new.unsort_edges(probabilities), attention_weights(adj, q, k, wanted.lse, score=score, bias=bias)[edges])


@few
@given(adjacencies(), st.sampled_from(["sum", "mean"]), SEEDS)
def test_sums_are_linear_and_the_transpose_is_the_adjoint(adj: Adjacency, reduce: str, seed: int) -> None:
    x, z, y = (
        numbers(seed, adj.num_sources, 3),
        numbers(seed + 1, adj.num_sources, 3),
        numbers(seed + 2, adj.num_targets, 3),
    )
    run = lambda t: propagate(adj, t, reduce=reduce)  # noqa: E731
    close(run(2.5 * x - z), 2.5 * run(x) - run(z))
    close((propagate(adj, x) * y).sum(), (x * propagate(adj.transpose(), y)).sum())
    (grad,) = torch.autograd.grad((propagate(adj, x.requires_grad_()) * y).sum(), x)
    close(grad, propagate(adj.transpose(), y))
    close(
        propagate(adj, x.detach()),
        adj.with_weight(None if adj.weight is None else adj.weight).dense().double() @ x.detach(),
    )


@few
@given(adjacencies(), REDUCTIONS, SCORES, SEEDS)
def test_a_batch_is_its_examples_stacked(adj: Adjacency, reduce: str, score: Dot | Additive, seed: int) -> None:
    x = numbers(seed, 2, adj.num_sources, 4)
    assert torch.equal(propagate(adj, x, reduce=reduce), torch.stack([propagate(adj, one, reduce=reduce) for one in x]))
    batch = qkv(adj, score, seed, 2)
    result = attend(adj, *batch, score=score)
    singles = [attend(adj, *one, score=score) for one in zip(*batch, strict=True)]
    close(result.out, torch.stack([s.out for s in singles]))
    close(result.lse, torch.stack([s.lse for s in singles]))


@few
@given(adjacencies(), REDUCTIONS, SCORES, SEEDS)
def test_isolated_nodes_change_nothing(adj: Adjacency, reduce: str, score: Dot | Additive, seed: int) -> None:
    bigger = Adjacency.from_coo(
        target=adj.target,
        source=adj.indices,
        weight=adj.weight,
        num_targets=adj.num_targets + 2,
        num_sources=adj.num_sources + 3,
        duplicates="keep",
    )

    def grown(t: Tensor, extra: int) -> Tensor:
        return torch.cat([t, numbers(seed + 9, extra, *t.shape[1:])])

    x = numbers(seed, adj.num_sources, 4)
    out = propagate(bigger, grown(x, 3), reduce=reduce)
    assert torch.equal(out[: adj.num_targets], propagate(adj, x, reduce=reduce))
    assert bool((out[adj.num_targets :] == 0).all())
    q, k, v = qkv(adj, score, seed)
    result, wanted = (
        attend(bigger, grown(q, 2), grown(k, 3), grown(v, 3), score=score),
        attend(adj, q, k, v, score=score),
    )
    close(result.out[: adj.num_targets], wanted.out)
    assert bool((result.out[adj.num_targets :] == 0).all())
    assert bool((result.lse[adj.num_targets :] == -INF).all())


@few
@given(adjacencies(), st.booleans(), SEEDS)
def test_probabilities_sum_to_one_or_zero(adj: Adjacency, masks: bool, seed: int) -> None:
    score = 5 * numbers(seed, adj.num_edges, H)
    if masks:
        score[numbers(seed + 1, adj.num_edges, H) > 0] = -INF
    probability = edge_softmax(adj, score)
    assert bool(((probability >= 0) & (probability <= 1)).all())
    assert bool((probability[score == -INF] == 0).all())
    total = torch.zeros(adj.num_targets, H, dtype=torch.float64).index_add(0, adj.target, probability)
    nonempty = (
        torch.zeros(adj.num_targets, H, dtype=torch.float64).index_add(0, adj.target, (score > -INF).double()) > 0
    )
    close(total, nonempty.double())
    shifted = edge_softmax(adj, score + numbers(seed + 2, adj.num_targets, 1)[adj.target])
    close(shifted, probability)


@few
@given(adjacencies(), SCORES, SEEDS)
def test_attention_is_propagation_by_its_weights(adj: Adjacency, score: Dot | Additive, seed: int) -> None:
    q, k, v = qkv(adj, score, seed)
    result = attend(adj, q, k, v, score=score)
    probability = attention_weights(adj, q, k, result.lse, score=score)
    close(propagate(adj, v.flatten(1), weight=probability).unflatten(1, (H, V)), result.out)


@few
@given(adjacencies(max_edges=12), adjacencies(max_edges=12), SEEDS)
def test_merging_commutes_associates_and_is_the_union(one: Adjacency, other: Adjacency, seed: int) -> None:
    t, s = max(one.num_targets, other.num_targets), max(one.num_sources, other.num_sources)

    def over(*parts: Adjacency) -> AttendResult:
        adj = Adjacency.from_coo(
            target=torch.cat([p.target for p in parts]),
            source=torch.cat([p.indices for p in parts]),
            num_targets=t,
            num_sources=s,
            duplicates="keep",
        )
        return attend(adj, numbers(seed, t, H, D), numbers(seed + 1, s, H, D), numbers(seed + 2, s, H, V))

    a, b = over(one), over(other)
    for left, right in (
        (merge(a, b), over(one, other)),
        (merge(a, b), merge(b, a)),
        (merge(merge(a, b), a), merge(a, merge(b, a))),
    ):
        close(left.out, right.out)
        close(left.lse, right.lse)


@few
@given(adjacencies(), REDUCTIONS, SEEDS)
def test_larger_weights_scale_the_result(adj: Adjacency, reduce: str, seed: int) -> None:
    x, weight = numbers(seed, adj.num_sources, 4), numbers(seed + 1, adj.num_edges)
    out = propagate(adj, x, weight=weight, reduce=reduce)
    close(propagate(adj, x, weight=4 * weight, reduce=reduce), 4 * out)
    flipped = {"max": "min", "min": "max"}.get(reduce, reduce)
    close(propagate(adj, x, weight=-weight, reduce=flipped), -out)
