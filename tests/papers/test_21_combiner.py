"""Combiner (card 21): loops over the paper's sums, exact supports, rank and edge counts, limits, causality."""

from __future__ import annotations

import math

import pytest
import torch

from hgraph import patterns
from hgraph.nn import CombinerAttention, SelfAttention
from hgraph.structure import partitions

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
    """Direct tokens of i, and its regions, as card 21 lists them (its equations 7 and 8)."""
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
            share = torch.stack([query @ k[j] / math.sqrt(d) for j in span]).softmax(0)
            key = pooled(k[span], reduce) if plan != "row_major" else row_key(asks, span, share)
            weight.append(math.exp(float(q[i] @ key) / math.sqrt(d)) * (len(span) if size_bias else 1))
            inside.append(share)
        total = sum(weight)
        for j, w in zip(direct, weight, strict=False):
            a[i, j] += w / total
        for span, share, w in zip(spans, inside, weight[len(direct) :], strict=True):
            for j, p in zip(span, share, strict=True):
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
        shares = [[(k[rows[i], g] @ q[i, g] / math.sqrt(d)).softmax(0) for g in range(h)] for i in range(n)]
        heard = torch.stack([torch.cat([shares[i][g] @ v[rows[i], g] for g in range(h)]) for i in range(n)])
        if layer.row_key == "project":
            z = x + heard @ layer.row_out.weight.T
            z = (z - z.mean(-1, keepdim=True)) / (z.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            z = z * layer.row_norm.weight + layer.row_norm.bias
            row_keys = (z @ layer.row_project.weight.T).unflatten(-1, (h, d))
    matrices = []
    for g in range(h):
        keys = {
            "project": lambda i, span, share, g=g: row_keys[i, g],
            "key": lambda i, span, share, g=g: k[i, g],
            "mean": lambda i, span, share, g=g: share @ k[span, g],
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
    """Check 1: every plan, both modes, the lengths that divide and those that do not; and the matrix itself."""
    size = 4
    layer = double(CombinerAttention(4, 2, plan=plan, span=size, columns=size, causal=causal, bias=True))
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
    layer, x = double(CombinerAttention(4, 2, span=4, columns=4, **options)), numbers(11, 4)
    matrix, out = layer_by_loops(layer, x, 4)
    torch.testing.assert_close(layer.attention_matrix(x), matrix, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "deepset"])
def test_activations_by_loops(activation):
    layer, x = double(CombinerAttention(4, 1, span=3, activation=activation)), numbers(8, 4)
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
    """Check 2: with the published variants, too, whose supports are not partitions."""
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
    """Check 3; between the two it is not."""
    layer, full = double(CombinerAttention(4, 2, span=size, causal=causal)), double(SelfAttention(4, 2, causal=causal))
    for name in ("query", "key", "value", "out"):
        getattr(full, name).weight.data = getattr(layer, name).weight.data
        torch.nn.init.zeros_(getattr(full, name).bias)
    x = numbers(2, 16, 4)
    torch.testing.assert_close(layer(x), full(x), rtol=1e-12, atol=1e-12)
    other = double(CombinerAttention(4, 2, span=4, causal=causal))
    assert (other(x) - full(x)).abs().max() > 0.01


def test_logsparse_is_full_attention_for_two_tokens_alone():
    layer, x = double(CombinerAttention(4, 1, plan="logsparse")), numbers(16, 4)
    q, k = layer.query(x), layer.key(x)
    full = (q @ k.T / 2).masked_fill(~torch.ones(16, 16).tril().bool(), -math.inf).softmax(-1)
    apart = (layer.attention_matrix(x)[0] - full).abs().amax(1)
    assert (apart[:2] < 1e-12).all()
    assert (apart[2:] > 1e-6).all()


def test_blocks_of_far_tokens_have_rank_one():
    """Check 4: what a segment hears of an earlier one is a column times a row."""
    layer = double(CombinerAttention(4, 1, span=4))
    a = layer.attention_matrix(numbers(16, 4))[0].detach()
    for r in range(4):
        ranks = [
            int(torch.linalg.matrix_rank(a[4 * r : 4 * r + 4, 4 * s : 4 * s + 4], rtol=1e-9)) for s in range(r + 1)
        ]
        assert ranks == [1] * r + [4]


def test_edge_counts():
    """Check 5, and that few edges reach all pairs."""
    sizes = (1024, 2048, 4096, 8192)
    assert [partitions.logsparse(n).num_edges for n in sizes] == [6144, 13312, 28672, 61440]
    for n in sizes:
        regions = partitions.logsparse(n).regions[0]
        assert regions.num_regions < sum(n >> t for t in range(1, 14)) < n  # those of the tree that anybody hears
    fixed = partitions.fixed(4096, 64)
    assert fixed.num_edges == 262144
    assert fixed.num_pairs == 8390656
    assert partitions.fixed(4096, 32).num_edges > fixed.num_edges < partitions.fixed(4096, 128).num_edges
    for made in (partitions.vertical, partitions.horizontal, partitions.row_major):
        edges = [made(side * side, side).num_edges / side**3 for side in (16, 32, 64)]
        assert max(edges) < 2
        assert max(edges) / min(edges) < 1.1  # n to the 3/2


def test_a_region_of_equal_keys_has_the_mass_of_one_or_of_all():
    """Without a size bias a region counts as one key; with it constant keys are dense attention exactly."""
    x = numbers(1, 1, 4).expand(1, 16, 4)
    plain, biased = (double(CombinerAttention(4, 1, span=4, size_bias=b)) for b in (False, True))
    last = plain.attention_matrix(x)[0, 0, -1].detach()
    torch.testing.assert_close(last[:12].view(3, 4).sum(1), torch.full((3,), 1 / 7, dtype=torch.float64))
    torch.testing.assert_close(biased.attention_matrix(x)[0, 0, -1].detach(), torch.full((16,), 1 / 16).double())


# ---------------------------------------------------------------------- causality, padding


@pytest.mark.parametrize("variant", ["paper", "jax", "tf"])
@pytest.mark.parametrize("plan", PLANS)
def test_causality_bit_for_bit(plan, variant):
    """Check 7."""
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
def test_padding_is_as_if_it_were_not_there(plan, causal):
    layer = double(CombinerAttention(8, 2, plan=plan, span=4, columns=4, causal=causal, bias=True, pool="mean"))
    x, mask = numbers(3, 19, 8), torch.ones(3, 19, dtype=torch.bool)
    mask[0, 11:] = mask[1, 3:9] = mask[2] = False
    out, other = layer(x, mask=mask), layer(torch.where(mask.unsqueeze(-1), x, math.nan), mask=mask)
    assert torch.equal(out, other)  # nothing of the padding gets in, and it gets nothing
    torch.testing.assert_close(out[0, :11], layer(x[:1, :11])[0], rtol=1e-12, atol=1e-12)
    assert torch.equal(out[~mask], layer.out.bias.expand(int((~mask).sum()), -1))
    a = layer.attention_matrix(x, mask)
    support = (patterns.causal(19) if causal else patterns.full(19)).adjacency().dense().bool()
    support = support & mask.unsqueeze(1) & mask.unsqueeze(2)
    assert ((a > 0) == support.unsqueeze(1)).all()
    torch.testing.assert_close(a.sum(-1), mask.double().unsqueeze(1).expand(3, 2, 19), rtol=0, atol=1e-12)
