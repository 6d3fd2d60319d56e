"""Combiner (Ren et al., NeurIPS 2021): loops, exact supports, rank and edge counts, limits, causality."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hgraph import analysis, patterns
from hgraph.errors import ArgumentError
from hgraph.nn import CombinerAttention, SelfAttention, record_attention
from hgraph.nn.attention import CombinerState
from hgraph.nn.attention.kmeans import on_sphere
from hgraph.patterns import partitions

PLANS = ("fixed", "logsparse", "vertical", "horizontal", "row_major", "mixture")
LENGTHS = {"whole": 16, "odd": 11, "one more": 17}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def double(layer, seed=0):
    torch.manual_seed(seed)
    layer = layer.double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


# ---------------------------------------------------------------------- the paper's sums, by loops


def sets_of(plan, i, n, size, causal):
    """Direct tokens of i, and its regions (equations 7 and 8)."""
    if plan == "fixed":
        own = i // size
        direct = [j for j in range(n) if j // size == own and (j <= i or not causal)]
        last = own if causal else -(-n // size)
        spans = [range(r * size, min((r + 1) * size, n)) for r in range(last) if r != own]
        return direct, [list(s) for s in spans]
    if plan == "logsparse":
        before = [range(((i >> b) - 1) << b, (i >> b) << b) for b in range(20) if i >> b & 1]
        m = n - 1 - i
        after = [] if causal else [range(((m >> b) - 1) << b, (m >> b) << b) for b in range(20) if m >> b & 1]
        spans = [list(s) for s in before] + [[n - 1 - j for j in s] for s in after]
        return [i] + [s[0] for s in spans if len(s) == 1], [s for s in spans if len(s) > 1]
    r, c, rows = i // size, i % size, -(-n // size)
    cell = lambda a, b: a * size + b  # noqa: E731
    there = lambda cells: [j for j in cells if j < n]  # noqa: E731
    direct = there(cell(r, u) for u in range(size) if u <= c or not causal)
    others = [a for a in range(rows) if a != r and (a < r or not causal)]
    if plan == "row_major":
        return direct, [there(cell(a, u) for u in range(size)) for a in others]
    direct += there(cell(a, c) for a in others)
    if plan == "vertical":
        above = [there(cell(a, u) for a in others if a < r) for u in range(size) if u != c]
        below = [there(cell(a, u) for a in others if a > r) for u in range(size) if u != c]
        spans = above + below
    elif causal:
        spans = [there(cell(a, u) for u in range(size) if u != c) for a in others]
    else:
        spans = [there(cell(a, u) for u in range(c)) for a in others]
        spans += [there(cell(a, u) for u in range(c + 1, size)) for a in others]
    return direct, [s for s in spans if s]


def pooled(x, reduce):
    return x.amax(0) if reduce == "max" else x.mean(0) if reduce == "mean" else x.sum(0)


def matrix_by_loops(plan, q, k, size, causal, reduce="max", size_bias=False, row_key=None):
    """a(j|i) [N, N] of one head by the definition, q and k [N, d]."""
    n, d = q.shape
    a = torch.zeros(n, n, dtype=q.dtype)
    for i in range(n):
        direct, spans = sets_of(plan, i, n, size, causal)
        weight = [math.exp(float(q[i] @ k[j]) / math.sqrt(d)) for j in direct]
        inside = []
        for span in spans:
            if plan == "row_major":
                asks = min(span[0] + i % size, span[-1])  # the cell in the receiver's column
                query = q[asks]
            else:
                query = pooled(q[span], reduce)
            prob = torch.stack([query @ k[j] / math.sqrt(d) for j in span]).softmax(0)
            key = pooled(k[span], reduce) if plan != "row_major" else row_key(asks, span, prob)
            weight.append(math.exp(float(q[i] @ key) / math.sqrt(d)) * (len(span) if size_bias else 1))
            inside.append(prob)
        total = sum(weight)
        for j, w in zip(direct, weight, strict=False):
            a[i, j] += w / total
        for span, prob, w in zip(spans, inside, weight[len(direct) :], strict=True):
            for j, p in zip(span, prob, strict=True):
                a[i, j] += float(p) * w / total
    return a


@torch.no_grad()
def layer_by_loops(layer, x, size):
    """The layer's matrices [H, N, N] and its output, for one example."""
    h, d = layer.query_heads, layer.head_dim
    q, k, v = (f(x).unflatten(-1, (h, d)) for f in (layer.query, layer.key, layer.value))
    row_keys = None
    if layer.plan == "row_major":
        n = len(x)
        rows = [[j for j in range(n) if j // size == i // size] for i in range(n)]
        probs = [[(k[rows[i], g] @ q[i, g] / math.sqrt(d)).softmax(0) for g in range(h)] for i in range(n)]
        attended = torch.stack([torch.cat([probs[i][g] @ v[rows[i], g] for g in range(h)]) for i in range(n)])
        if layer.row_key == "project":
            z = x + attended @ layer.row_out.weight.T
            z = (z - z.mean(-1, keepdim=True)) / (z.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            z = z * layer.row_norm.weight + layer.row_norm.bias
            row_keys = (z @ layer.row_project.weight.T).unflatten(-1, (h, d))
    matrices = []
    for g in range(h):
        keys = {
            "project": lambda i, span, prob, g=g: row_keys[i, g],
            "key": lambda i, span, prob, g=g: k[i, g],
            "mean": lambda i, span, prob, g=g: prob @ k[span, g],
        }[layer.row_key]
        plans = ("vertical", "horizontal") if layer.plan == "mixture" else (layer.plan,)
        options = {"causal": layer.causal, "reduce": layer.pool, "size_bias": layer.size_bias, "row_key": keys}
        matrices.append(sum(matrix_by_loops(p, q[:, g], k[:, g], size, **options) for p in plans) / len(plans))
    a = torch.stack(matrices)
    return a, layer.out(torch.einsum("hij,jhd->ihd", a, v).flatten(1))


@pytest.mark.parametrize("n", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("plan", PLANS)
def test_combinerattention_parity(plan, causal, n):
    """every plan, both modes, the lengths that divide and those that do not; and the matrix itself."""
    size = 4
    layer = double(CombinerAttention(4, 2, plan=plan, block_size=size, columns=size, causal=causal, bias=True))
    x = numbers(2, n, 4)
    a = layer.attention_matrix(x)
    for b in range(2):
        matrix, out = layer_by_loops(layer, x[b], size)
        torch.testing.assert_close(a[b], matrix, rtol=0, atol=1e-12)
        torch.testing.assert_close(layer(x)[b], out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"plan": "vertical", "pool": "mean"},
        {"plan": "horizontal", "pool": "mean"},
        {"plan": "logsparse", "pool": "sum", "causal": False},
        {"plan": "fixed", "pool": "mean", "size_bias": True},
        {"plan": "horizontal", "causal": False, "size_bias": True},
        {"plan": "logsparse", "size_bias": True},
        {"plan": "row_major", "row_key": "key"},
        {"plan": "row_major", "row_key": "mean", "causal": False, "size_bias": True},
    ],
    ids=str,
)
def test_options_by_loops(options):
    layer, x = double(CombinerAttention(4, 2, block_size=4, columns=4, **options)), numbers(11, 4)
    matrix, out = layer_by_loops(layer, x, 4)
    torch.testing.assert_close(layer.attention_matrix(x), matrix, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "deepset"])
def test_activations_by_loops(activation):
    layer, x = double(CombinerAttention(4, 1, block_size=3, activation=activation)), numbers(8, 4)
    q, k = layer.query(x), layer.key(x)
    mapped_q, mapped_k = q, k
    if activation == "deepset":
        mapped_q, mapped_k = q @ layer.pool_query.weight.T, k @ layer.pool_key.weight.T
    a = torch.zeros(8, 8, dtype=torch.float64)
    for i in range(8):
        direct, spans = sets_of("fixed", i, 8, 3, True)
        weight = [(q[i] @ k[j] / 2).exp() for j in direct]
        weight += [(q[i] @ mapped_k[s].clamp(min=0).amax(0) / 2).exp() for s in spans]
        for j, w in zip(direct, weight, strict=False):
            a[i, j] = w / sum(weight)
        for s, w in zip(spans, weight[len(direct) :], strict=True):
            a[i, s] = (k[s] @ mapped_q[s].clamp(min=0).amax(0) / 2).softmax(0) * w / sum(weight)
    torch.testing.assert_close(layer.attention_matrix(x)[0], a, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------- supports, sums, rank, counts


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("plan", PLANS)
def test_rows_add_up_to_one_over_the_whole_support(plan, causal):
    """with the published variants, too, whose supports are not partitions."""
    n = 23
    support = (patterns.causal(n) if causal else patterns.full(n)).adjacency().dense().bool()
    for variant in ("paper", "jax", "tf"):
        if (plan, causal, variant) == ("mixture", False, "tf"):
            continue
        layer = double(CombinerAttention(4, 2, plan=plan, causal=causal, variant=variant))
        a = layer.attention_matrix(numbers(n, 4))
        assert ((a > 0) == support).all()
        torch.testing.assert_close(a.sum(-1), torch.ones(2, n, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("size", [1, 16])
def test_segments_of_one_or_of_all_are_full_attention(size, causal):
    """Segment sizes in between are not full attention."""
    layer, full = (
        double(CombinerAttention(4, 2, block_size=size, causal=causal)),
        double(SelfAttention(4, 2, causal=causal)),
    )
    for name in ("query", "key", "value", "out"):
        getattr(full, name).weight.data = getattr(layer, name).weight.data
        torch.nn.init.zeros_(getattr(full, name).bias)
    x = numbers(2, 16, 4)
    torch.testing.assert_close(layer(x), full(x), rtol=1e-12, atol=1e-12)
    other = double(CombinerAttention(4, 2, block_size=4, causal=causal))
    assert (other(x) - full(x)).abs().max() > 0.01


def test_logsparse_is_full_attention_for_two_tokens_alone():
    layer, x = double(CombinerAttention(4, 1, plan="logsparse")), numbers(16, 4)
    q, k = layer.query(x), layer.key(x)
    full = (q @ k.T / 2).masked_fill(~torch.ones(16, 16).tril().bool(), -math.inf).softmax(-1)
    apart = (layer.attention_matrix(x)[0] - full).abs().amax(1)
    assert (apart[:2] < 1e-12).all()
    assert (apart[2:] > 1e-6).all()


def test_blocks_of_far_tokens_have_rank_one():
    """the attention of a segment to an earlier one is a column times a row."""
    layer = double(CombinerAttention(4, 1, block_size=4))
    a = layer.attention_matrix(numbers(16, 4))[0].detach()
    for r in range(4):
        ranks = [
            int(torch.linalg.matrix_rank(a[4 * r : 4 * r + 4, 4 * s : 4 * s + 4], rtol=1e-9)) for s in range(r + 1)
        ]
        assert ranks == [1] * r + [4]


def test_edge_counts():
    """Few edges reach all pairs."""
    sizes = (1024, 2048, 4096, 8192)
    assert [partitions.logsparse(n).num_edges for n in sizes] == [6144, 13312, 28672, 61440]
    for n in sizes:
        regions = partitions.logsparse(n).regions[0]
        assert regions.num_regions < sum(n >> t for t in range(1, 14)) < n  # those of the tree with targets
    fixed = partitions.fixed(4096, 64)
    assert fixed.num_edges == 262144
    assert fixed.num_pairs == 8390656
    assert partitions.fixed(4096, 32).num_edges > fixed.num_edges < partitions.fixed(4096, 128).num_edges
    for made in (partitions.vertical, partitions.horizontal, partitions.row_major):
        edges = [made(side * side, side).num_edges / side**3 for side in (16, 32, 64)]
        assert max(edges) < 2
        assert max(edges) / min(edges) < 1.1  # n to the 3/2


def test_weight_of_a_region_of_equal_keys():
    """Without a size bias a region counts as one key; with it, constant keys give exactly dense attention."""
    x = numbers(1, 1, 4).expand(1, 16, 4)
    plain, biased = (double(CombinerAttention(4, 1, block_size=4, size_bias=b)) for b in (False, True))
    last = plain.attention_matrix(x)[0, 0, -1].detach()
    torch.testing.assert_close(last[:12].view(3, 4).sum(1), torch.full((3,), 1 / 7, dtype=torch.float64))
    torch.testing.assert_close(biased.attention_matrix(x)[0, 0, -1].detach(), torch.full((16,), 1 / 16).double())


# ---------------------------------------------------------------------- causality, padding


@pytest.mark.parametrize("variant", ["paper", "jax", "tf"])
@pytest.mark.parametrize("plan", PLANS)
def test_causality_bit_for_bit(plan, variant):
    """Later tokens do not change earlier outputs."""
    layer, x = double(CombinerAttention(8, 2, plan=plan, variant=variant)), numbers(1, 23, 8) / 4
    before = layer(x)
    for t in (0, 9, 22):
        changed = x.clone()
        changed[:, t] += 1
        after = layer(changed)
        assert torch.equal(before[:, :t], after[:, :t])
        assert (before[:, t:] != after[:, t:]).any(-1).all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("plan", PLANS)
def test_padding_has_no_effect(plan, causal):
    layer = double(CombinerAttention(8, 2, plan=plan, block_size=4, columns=4, causal=causal, bias=True, pool="mean"))
    x, mask = numbers(3, 19, 8), torch.ones(3, 19, dtype=torch.bool)
    mask[0, 11:] = mask[1, 3:9] = mask[2] = False
    out, other = layer(x, mask=mask), layer(torch.where(mask.unsqueeze(-1), x, math.nan), mask=mask)
    assert torch.equal(out, other)  # nothing of the padding gets in, and it gets nothing
    torch.testing.assert_close(out[0, :11], layer(x[:1, :11])[0], rtol=1e-12, atol=1e-12)
    assert not out[~mask].any()
    a = layer.attention_matrix(x, mask=mask)
    support = (patterns.causal(19) if causal else patterns.full(19)).adjacency().dense().bool()
    support = support & mask.unsqueeze(1) & mask.unsqueeze(2)
    assert ((a > 0) == support.unsqueeze(1)).all()
    torch.testing.assert_close(a.sum(-1), mask.double().unsqueeze(1).expand(3, 2, 19), rtol=0, atol=1e-12)


# ---------------------------------------------------------------------- clusters


def clusters_by_loops(group, q, k, reduce, causal):
    """a(j|i) of one head over clusters."""
    n, d = q.shape
    a = torch.zeros(n, n, dtype=q.dtype)
    for i in range(n):
        support = [j for j in range(i + 1 if causal else n) if group[j] >= 0 and group[i] >= 0]
        direct = [j for j in support if group[j] == group[i]]
        spans = [[j for j in support if group[j] == g] for g in range(9) if g != group[i]]
        spans = [s for s in spans if s]
        weight = [(q[i] @ k[j] / math.sqrt(d)).exp() for j in direct]
        weight += [(q[i] @ pooled(k[s], reduce) / math.sqrt(d)).exp() for s in spans]
        for j, w in zip(direct, weight, strict=False):
            a[i, j] = w / sum(weight)
        for s, w in zip(spans, weight[len(direct) :], strict=True):
            a[i, s] = (k[s] @ pooled(q[s], reduce) / math.sqrt(d)).softmax(0) * w / sum(weight)
    return a


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("causal", [True, False])
def test_clusters_by_loops(causal, pool):
    """A learned plan: unequal clusters that differ by example and head, one of them empty, and padding."""
    layer = double(CombinerAttention(4, 2, plan="clusters", num_clusters=5, causal=causal, pool=pool))
    generator = torch.Generator().manual_seed(0)
    clusters, x = torch.randint(4, (2, 2, 13), generator=generator), numbers(2, 13, 4)
    mask = torch.ones(2, 13, dtype=torch.bool)
    mask[1, 10:] = False
    a = layer.attention_matrix(x, mask=mask, clusters=clusters)
    out = layer(x, mask=mask, clusters=clusters)
    clusters = clusters.masked_fill(~mask.unsqueeze(1), -1)
    for b in range(2):
        q, k, v = (f(x[b]).detach().unflatten(-1, (2, 2)) for f in (layer.query, layer.key, layer.value))
        expected = torch.stack([clusters_by_loops(clusters[b, h], q[:, h], k[:, h], pool, causal) for h in range(2)])
        torch.testing.assert_close(a[b], expected, rtol=0, atol=1e-12)
        attended = torch.einsum("hij,jhd->ihd", expected, v).flatten(1)
        torch.testing.assert_close(out[b], layer.out(attended), rtol=1e-12, atol=1e-12)
    before = layer(x, clusters=clusters.clamp(min=0))
    moved = clusters.clamp(min=0).clone()
    moved[..., 7:] = 3
    changed = torch.cat([x[:, :7], x[:, 7:] + 1], 1)
    if causal:  # later tokens, and where they go, change nothing
        assert torch.equal(layer(changed, clusters=moved)[:, :7], before[:, :7])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "count"), [(300, 4), (65, 9), (200, 1)])
def test_clusters_are_causal_bit_for_bit(n, count, dtype):
    """Clusters of several tiles, and of less than one; changed later tokens change clusters too."""
    layer, x = (
        double(CombinerAttention(8, 2, plan="clusters", num_clusters=count, pool="sum")).to(dtype),
        numbers(2, n, 8),
    )
    clusters = torch.randint(count, (2, 2, n), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = layer(x.to(dtype), clusters=clusters)
        for t in (1, n // 2, n - 1):
            changed = torch.cat([x[:, :t], x[:, t:] + 1], 1).to(dtype)
            moved = torch.cat([clusters[..., :t], clusters[..., t:].flip(-1) * (t % 2)], -1)
            assert torch.equal(layer(changed, clusters=moved)[:, :t], before[:, :t])


def test_clusters_are_learned_from_keys():
    """Combiner over routing: the nearest centroid of a token's key, so later tokens do not leak."""
    layer, x = double(CombinerAttention(8, 2, plan="clusters", num_clusters=3)), numbers(2, 20, 8)
    layer.router.start_from(on_sphere(layer.key(x).unflatten(-1, (2, 4))))
    near = layer.router.nearest(on_sphere(layer.key(x).unflatten(-1, (2, 4))))
    assert near.unique().tolist() == [0, 1, 2]
    assert torch.equal(layer(x), layer(x, clusters=near))
    changed = torch.cat([x[:, :11], x[:, 11:] + 1], 1)
    assert torch.equal(layer(changed)[:, :11], layer(x)[:, :11])
    before = layer.router.centroids.clone()
    layer(x)
    assert torch.equal(layer.router.centroids, before)
    out = layer.train()(x)
    assert torch.equal(out, layer(x, clusters=near))  # they move after they were asked
    assert not torch.equal(layer.router.centroids, before)


@pytest.mark.parametrize(("batch", "n"), [(0, 5), (2, 0), (0, 0), (2, 1)])
def test_clusters_without_tokens(batch, n):
    layer = CombinerAttention(8, 2, plan="clusters", num_clusters=3)
    assert layer(torch.zeros(batch, n, 8)).shape == (batch, n, 8)


def test_one_cluster_is_full_attention():
    layer, x = double(CombinerAttention(4, 2, plan="clusters", num_clusters=1)), numbers(2, 9, 4)
    full = double(CombinerAttention(4, 2, block_size=9))
    torch.testing.assert_close(layer(x, clusters=torch.zeros(9, dtype=torch.long)), full(x), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- gradients, decoding


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("plan", [*PLANS, "clusters"])
def test_gradients_of_every_plan(plan, causal):
    """Check 6, with means and with maxima (random numbers have no ties)."""
    more = {"num_clusters": 3} if plan == "clusters" else {}
    call = {"clusters": torch.tensor([0, 2, 1, 0, 0, 1, 2])} if more else {}
    for pool in ("mean", "max"):
        layer = double(CombinerAttention(4, 2, plan=plan, block_size=3, columns=3, causal=causal, pool=pool, **more))
        x = numbers(1, 7, 4).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, f=layer: f(x, **call), (x,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x, f=layer: f(x, **call), (x,), fast_mode=True)


@pytest.mark.parametrize(
    "options",
    [*({"plan": plan} for plan in PLANS), {"plan": "mixture", "variant": "jax", "size_bias": True},
     {"plan": "row_major", "row_key": "mean"}, {"plan": "fixed", "pool": "mean", "activation": "deepset"},
     {"plan": "vertical", "variant": "tf"},
     *({"plan": "clusters", "num_clusters": 4, "pool": pool, "size_bias": pool == "mean"} for pool in ("max", "mean"))],
    ids=str,
)  # fmt: skip
def test_decoding_equals_the_full_forward(options):
    layer, x, state = double(CombinerAttention(8, 2, **options)), numbers(2, 23, 8), CombinerState(23)
    parts = [layer(x[:, a:b], state=state) for a, b in ((0, 9), (9, 10), (10, 11), (11, 20), (20, 23))]
    assert len(state) == 23
    torch.testing.assert_close(torch.cat(parts, 1), layer(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ArgumentError, match="state: expected a capacity of at least 24 tokens, got a capacity of 23"):
        layer(x[:, :1], state=state)


def test_custom_clusters_decode():
    """Token by token; a prompt in inference mode, the rest without gradients."""
    layer = double(CombinerAttention(8, 2, plan="clusters", num_clusters=4, pool="sum", activation="deepset"))
    x, state = numbers(2, 9, 8), CombinerState(9)
    clusters = torch.tensor([0, 2, 2, 0, 1, 1, 1, 0, 2]).expand(2, 2, 9)
    with torch.inference_mode():
        parts = [layer(x[:, :3], state=state, clusters=clusters[..., :3])]
    with torch.no_grad():
        parts += [layer(x[:, t : t + 1], state=state, clusters=clusters[..., t : t + 1]) for t in range(3, 9)]
    torch.testing.assert_close(torch.cat(parts, 1), layer(x, clusters=clusters), rtol=1e-12, atol=1e-12)
    assert state.num_cached == (9, 9)
    with pytest.raises(ArgumentError, match="clusters: expected no padding in decoding, got -1"):
        layer(x[:, :1], state=CombinerState(9), clusters=torch.tensor([-1]))


def test_a_mask_may_be_written_to():
    layer, x, mask = double(CombinerAttention(8, 2, block_size=4)), numbers(2, 13, 8), torch.ones(2, 13).bool()
    layer(x, mask=mask)
    mask[0, 5:] = False
    assert torch.equal(layer(x, mask=mask), layer(x, mask=mask.clone()))
    torch.testing.assert_close(layer(x, mask=mask)[0, :5], layer(x[:1, :5])[0], rtol=1e-12, atol=1e-12)


def test_a_state_of_segments_is_bounded():
    """After each step, less than a segment of tokens, and one region for each earlier segment."""
    layer, x, state = CombinerAttention(8, 1, block_size=8).eval(), numbers(1, 96, 8).float(), CombinerState(96)
    most = 0
    with torch.no_grad():
        for t in range(96):
            layer(x[:, t : t + 1], state=state)
            tokens, regions = state.num_cached
            most = max(most, tokens)
            assert regions <= (t + 1) // 8
    assert most == 7


# ---------------------------------------------------------------------- published variants


def test_the_joint_mixture_counts_tokens_off_the_axes_twice():
    """The mixture of the published code is one softmax over direct tokens and three regions per line."""
    layer = double(CombinerAttention(4, 1, plan="mixture", variant="jax", columns=4))
    (partition,) = layer.partitions_of(16)
    assert len(partition.regions) == 3
    times = sum(g.adjacency().dense() for g in partition.direct)
    for regions in partition.regions:
        times = times + regions.attended.adjacency().dense() @ regions.members.adjacency().dense()
    row, column = torch.arange(16) // 4, torch.arange(16) % 4
    axes = (row.unsqueeze(1) == row) | (column.unsqueeze(1) == column)
    assert torch.equal(
        times, torch.where(axes, 1.0, 2.0) * torch.ones(16, 16).tril() * (axes | (row.unsqueeze(1) > row))
    )


def test_running_sums_instead_of_running_maxima():
    jax, tf, sums = (
        double(CombinerAttention(4, 1, plan="vertical", **o))
        for o in ({"variant": "jax"}, {"variant": "tf"}, {"pool": "sum"})
    )
    x = numbers(16, 4)
    torch.testing.assert_close(tf(x), sums(x), rtol=0, atol=0)
    assert (jax(x) - tf(x)).abs().max() > 1e-3
    assert torch.equal(jax(x), double(CombinerAttention(4, 1, plan="vertical"))(x))


def test_the_own_segment_counted_twice():
    """If not causal, the published TensorFlow code also summarizes a token's own segment."""
    layer = double(CombinerAttention(4, 1, block_size=4, variant="tf", causal=False))
    (partition,) = layer.partitions_of(12)
    assert partition.num_pairs == 144 + 12 * 4
    with pytest.raises(ArgumentError, match="variant"):
        CombinerAttention(4, 1, plan="mixture", variant="tf", causal=False)


# ---------------------------------------------------------------------- what the layer owes


def test_partial_records_are_marked():
    layer = CombinerAttention(8, 2, block_size=3)
    with record_attention(layer) as records:
        layer(torch.zeros(1, 9, 8))
    assert len(records[""]) > 1
    for record in records[""]:
        for ask in (analysis.column_mass, lambda r: analysis.mass_by_type(r, {"all": patterns.causal(9)})):
            with pytest.raises(ArgumentError, match="record: expected a complete record of a call.*attention_matrix"):
                ask(record)


def test_records_have_the_joint_weights():
    """The weights of direct tokens and regions add up to 1, also within regions."""
    layer, x = double(CombinerAttention(8, 2, plan="vertical", columns=4)), numbers(2, 14, 8)
    with record_attention(layer) as records:
        layer(x)
    local, *joint = records[""]
    total = torch.zeros(14, dtype=torch.float64)
    for record in joint:
        adj, prob = record.weights(example=1, head=1)
        total += adj.with_weight(prob).dense().sum(1)
    torch.testing.assert_close(total, torch.ones(14, dtype=torch.float64))
    adj, prob = local.weights(example=1, head=1)
    torch.testing.assert_close(adj.with_weight(prob).dense().sum(1), torch.ones(14, dtype=torch.float64))


@pytest.mark.parametrize("causal", [True, False])
def test_records_of_clusters_have_the_joint_weights(causal):
    """For tokens they are the matrix itself, for regions the sums over their tokens."""
    options = {"num_clusters": 4, "causal": causal, "size_bias": True}
    layer, x = double(CombinerAttention(8, 2, plan="clusters", **options)), numbers(2, 14, 8)
    clusters = torch.randint(3, (2, 2, 14), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(14) < torch.tensor([[14], [11]])
    with record_attention(layer) as records:
        layer(x, clusters=clusters, mask=mask)
    matrix = layer.attention_matrix(x, clusters=clusters, mask=mask)
    for b, h in itertools.product(range(2), range(2)):
        direct, region = (r.weights(example=b, head=h) for r in records[""])
        near = direct[0].with_weight(direct[1]).dense()
        torch.testing.assert_close(near, torch.where(near > 0, matrix[b, h], 0.0), rtol=1e-12, atol=1e-12)
        far = region[0].with_weight(region[1]).dense()
        for g in range(3):
            own = (clusters[b, h] == g) & mask[b]
            some = far[:, own] if causal else far[:, g : g + 1]
            apart = (clusters[b, h] != g) & mask[b]
            expected = matrix[b, h][apart][:, own].sum(1)
            torch.testing.assert_close(some.sum(1)[apart], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"plan": "vertical", "columns": 4}, {"block_size": 3, "size_bias": True}], ids=str)
def test_records_of_decoding_are_rows_of_the_full_record(options):
    layer, x, state = double(CombinerAttention(8, 2, **options)), numbers(2, 14, 8), CombinerState(14)
    with record_attention(torch.nn.ModuleDict({"layer": layer})) as whole:
        layer(x)
    layer(x[:, :10], state=state)
    with record_attention(layer) as steps:
        for t in range(10, 14):
            layer(x[:, t : t + 1], state=state)
    _, *joint = whole["layer"]  # the first one runs within regions
    assert len(steps[""]) == 4 * len(joint)
    for i, record in enumerate(steps[""]):
        row, (adj, prob) = 10 + i // len(joint), record.weights(example=1, head=1)
        exact, probs = joint[i % len(joint)].weights(example=1, head=1)
        expected = exact.with_weight(probs).dense()[row, : adj.num_sources]
        torch.testing.assert_close(adj.with_weight(prob).dense()[0], expected, rtol=1e-12, atol=1e-12)


def test_head_mask_and_dropout():
    layer, x = double(CombinerAttention(8, 4)), numbers(2, 10, 8)
    mask = torch.tensor([[True, False, True, False]])
    half = copy.deepcopy(layer)
    with torch.no_grad():
        half.out.weight.unflatten(1, (4, 2))[:, [1, 3]] = 0
    torch.testing.assert_close(layer(x, head_mask=mask), half(x), rtol=1e-12, atol=1e-12)
    dropped = double(CombinerAttention(8, 4, dropout=0.5))
    assert torch.equal(dropped(x), layer(x))
    assert not torch.equal(dropped.train()(x), layer(x))


def test_compiles_in_one_graph():
    """With a permuted order; once the partition of a length has been cached."""
    torch._dynamo.reset()
    layer, x = CombinerAttention(8, 2, plan="vertical"), numbers(2, 21, 8).float()
    expected = layer(x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)


class Largest(TorchDispatchMode):
    """The largest number of bytes that one tensor takes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        found = [t.untyped_storage().nbytes() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.bytes = max([self.bytes, *found])
        return out


@pytest.mark.parametrize("plan", ["fixed", "logsparse", "vertical", "row_major"])
def test_no_tensor_of_all_pairs(plan):
    """Structure, forward and backward: 8192 tokens have 67 million pairs."""
    n = 8192
    with Largest() as largest:
        layer = CombinerAttention(8, 1, plan=plan)
        layer(numbers(1, n, 8).float().requires_grad_()).square().sum().backward()
    assert largest.bytes <= 400 * n * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CombinerAttention(8, 2, plan="sparse"), "plan: expected one of fixed, logsparse"),
        (lambda: CombinerAttention(8, 2, block_size=0), "block_size: expected a whole number, 1 or more, got 0"),
        (lambda: CombinerAttention(8, 2, plan="clusters"), "num_clusters: expected a number for the plan 'clusters'"),
        (lambda: CombinerAttention(8, 2)(numbers(2, 5, 8).float(), mask=torch.ones(2, 4).bool()), r"mask: expected"),
        (lambda: CombinerAttention(8, 2)(torch.zeros(5, 8), clusters=torch.zeros(5).long()), "clusters: expected None"),
        (
            lambda: CombinerAttention(8, 2, plan="clusters", num_clusters=2)(
                torch.zeros(5, 8), clusters=torch.arange(5)
            ),
            "clusters: expected numbers below 2, got 4",
        ),
        (
            lambda: CombinerAttention(8, 2, causal=False)(torch.zeros(1, 5, 8), state=CombinerState(5)),
            "state: expected None for a noncausal layer",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


# ---------------------------------------------------------------------- learning


class Detector(torch.nn.Module):
    """Predicts at the last position whether a marker was anywhere before."""

    def __init__(self, attend, words=8, dim=32):
        super().__init__()
        self.embed, self.attend, self.read = torch.nn.Embedding(words, dim), attend, torch.nn.Linear(dim, 2)

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.read((x + self.attend(x))[:, -1])


def marked(count, generator, n=64, size=8):
    """Noise of words 1 .. 7; in half of the sequences a 0 somewhere before the last segment."""
    tokens = torch.randint(1, 8, (count, n), generator=generator)
    label = torch.arange(count) % 2
    place = torch.randint(n - size, (count,), generator=generator)
    tokens[torch.arange(count), place] = torch.where(label == 1, 0, tokens[torch.arange(count), place])
    return tokens, label


def accuracy_of(attend, steps, seed):
    torch.manual_seed(seed)
    model, generator = Detector(attend()), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        tokens, label = marked(128, generator)
        loss = torch.nn.functional.cross_entropy(model(tokens), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens, label = marked(2000, generator)
    with torch.no_grad():
        return float((model(tokens).argmax(1) == label).float().mean())


def local(n):
    return patterns.block_local(n, 8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_layer_finds_a_marker_anywhere(seed):
    """full support in one layer. The same layer without the regions guesses."""
    assert accuracy_of(lambda: CombinerAttention(32, 2, block_size=8), 300, seed) > 0.95
    assert accuracy_of(lambda: SelfAttention(32, 2, pattern=local, causal=True, bias=False), 300, seed) < 0.6
