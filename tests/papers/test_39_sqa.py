"""Sparse query attention (Filipek, 2025): one class for MHA, GQA, MQA and SQA; counts and costs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hgraph import patterns
from hgraph.errors import ArgumentError
from hgraph.nn import SparseQueryAttention
from hgraph.nn.attention import KVState, apply_rotary_emb


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loops(layer, x, causal):
    """The paper's equations, head by head."""
    d = layer.head_dim
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    heads = max(q.shape[-1], k.shape[-1]) // d
    outs = []
    for a in range(heads):
        asks, other = a * (q.shape[-1] // d) // heads, a * (k.shape[-1] // d) // heads
        own, other = slice(asks * d, asks * d + d), slice(other * d, other * d + d)
        score = q[:, own] @ k[:, other].T / math.sqrt(layer.dim // 4)
        if causal:
            score = score.masked_fill(torch.ones_like(score).triu(1).bool(), -float("inf"))
        outs.append(score.softmax(-1) @ v[:, other])
    return layer.out(torch.cat(outs, -1))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("query", "key"), [(4, 4), (4, 1), (4, 2), (2, 2), (2, 1), (1, 1)])
def test_sparsequeryattention_parity(query, key, causal):
    layer = SparseQueryAttention(16, 4, num_query_heads=query, num_kv_heads=key, causal=causal).double()
    x = numbers(11, 16)
    torch.testing.assert_close(layer(x), loops(layer, x, causal), rtol=1e-12, atol=1e-12)
    q, k, v = (f(x).unflatten(-1, (-1, 4)).transpose(0, 1).unsqueeze(0) for f in (layer.query, layer.key, layer.value))
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    expected = layer.out(theirs.squeeze(0).transpose(0, 1).flatten(1))
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("query", "key"), [(2, 4), (1, 4), (1, 2), (4, 8)])
def test_the_reverse_case_shares_queries(query, key, causal):
    """rSQA: fewer query heads than heads of keys and values, whose number determines cost, cache and output width."""
    layer = SparseQueryAttention(16, 4, num_query_heads=query, num_kv_heads=key, causal=causal).double()
    x = numbers(11, 16)
    torch.testing.assert_close(layer(x), loops(layer, x, causal), rtol=1e-12, atol=1e-12)
    assert sum(p.numel() for p in layer.parameters()) == 16 * 4 * (query + 3 * key) + 16
    assert layer.score_flops(7) == 4 * key * 4 * layer.graph_of(7).num_edges
    assert torch.autograd.gradcheck(layer, (numbers(1, 3, 16).requires_grad_(),), fast_mode=True)
    if causal:
        state = KVState(11)
        steps = torch.cat([layer(x[t : t + 1], state=state) for t in range(11)])
        torch.testing.assert_close(steps, layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("query", "key"), [(4, 3), (2, 3), (2, 0)])
def test_heads_must_divide_one_way(query, key):
    with pytest.raises(ArgumentError, match=f"num_kv_heads: expected a divisor or a multiple of the {query} query"):
        SparseQueryAttention(16, 4, num_query_heads=query, num_kv_heads=key)


def test_heads_without_output_can_be_left_out():
    """An MHA whose heads outside a set have zero output rows is the SQA of that set's slices."""
    full = SparseQueryAttention.variant("mha", 16, 4).double()
    few = SparseQueryAttention(16, 4, num_query_heads=2, num_kv_heads=2).double()
    chosen = torch.cat([torch.arange(4, 8), torch.arange(12, 16)])  # heads 1 and 3
    with torch.no_grad():
        rest = torch.ones(16, dtype=torch.bool).index_fill(0, chosen, False)
        full.out.weight[:, rest] = 0
        for name in ("query", "key", "value"):
            getattr(few, name).weight.copy_(getattr(full, name).weight[chosen])
        few.out.weight.copy_(full.out.weight[:, chosen])
        few.out.bias.copy_(full.out.bias)
    x = numbers(9, 16)
    torch.testing.assert_close(few(x), full(x), rtol=1e-12, atol=1e-12)


class SwiGLU(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)


def dense_model(attention):
    """The dense family: 8 layers of width 256, two norms per layer, untied embedding and head of 10,000 words."""
    layers = [
        nn.ModuleList([attention, SwiGLU(256, 768), nn.RMSNorm(256), nn.RMSNorm(256)]) for _ in range(8)
    ]  # parameters are counted, so the one layer object may stand for eight
    once = sum(p.numel() for p in layers[0].parameters())
    return 8 * once + 10_000 * 256 + nn.Linear(256, 10_000, device="meta").weight.numel() + 10_000


@pytest.mark.parametrize(
    ("query", "key", "published"),
    [
        (16, 16, 11_966_224),
        (16, 4, 11_179_792),
        (16, 1, 10_983_184),
        (8, 4, 10_655_504),
        (8, 8, 10_917_648),
        (4, 4, 10_393_360),
        (4, 1, 10_196_752),
    ],
)
def test_parameter_counts(query, key, published):
    assert dense_model(SparseQueryAttention(256, 16, num_query_heads=query, num_kv_heads=key)) == published


def test_variants_are_the_papers():
    heads = {
        name: (layer.query_heads, layer.kv_heads)
        for name in ("mha", "gqa", "mqa", "sqa", "ssqa", "xsqa", "xsmqa")
        for layer in [SparseQueryAttention.variant(name, 256, 16)]
    }
    expected = {"mha": (16, 16), "gqa": (16, 4), "mqa": (16, 1), "sqa": (8, 4), "ssqa": (8, 8)}
    assert heads == expected | {"xsqa": (4, 4), "xsmqa": (4, 1)}


@pytest.mark.parametrize("n", [7, 64, 300])
def test_scores_cost_is_proportional_to_query_heads(n):
    full = SparseQueryAttention.variant("mha", 64, 16).score_flops(n)
    assert full == 4 * 64 * n * n
    probs = {"gqa": 1, "mqa": 1, "sqa": 2, "ssqa": 2, "xsqa": 4, "xsmqa": 4}
    for name, prob in probs.items():
        assert SparseQueryAttention.variant(name, 64, 16).score_flops(n) * prob == full
        window = SparseQueryAttention.variant(
            name, 64, 16, pattern=lambda n: patterns.sliding_window(n, 3), causal=True
        )
        assert window.score_flops(n) * prob == 4 * 64 * (3 * n - 3)


def test_caches_store_only_key_heads():
    sizes = {}
    for name in ("gqa", "xsqa", "mqa"):
        layer, state = SparseQueryAttention.variant(name, 64, 16, causal=True), KVState(10)
        layer(torch.zeros(1, 10, 64), state=state)
        sizes[name] = sum(stored.numel() for stored in state._stored)
    assert sizes == {"gqa": 2 * 10 * 4 * 4, "xsqa": 2 * 10 * 4 * 4, "mqa": 2 * 10 * 4}


def test_gradients_of_the_smallest():
    layer = SparseQueryAttention(16, 4, num_query_heads=2, num_kv_heads=1, rotary=10_000.0, causal=True).double()
    assert torch.autograd.gradcheck(layer, (numbers(1, 5, 16).requires_grad_(),))


def test_rotary_embedding_before_grouping():
    layer = SparseQueryAttention(16, 4, num_query_heads=2, num_kv_heads=1, rotary=100.0).double()
    x = numbers(9, 16)
    q, k, v = (f(x).unflatten(-1, (-1, 4)) for f in (layer.query, layer.key, layer.value))
    q, k = (apply_rotary_emb(t, torch.arange(9), 100.0).transpose(0, 1) for t in (q, k))
    expected = F.scaled_dot_product_attention(q, k.expand(2, -1, -1), v.transpose(0, 1).expand(2, -1, -1))
    torch.testing.assert_close(layer(x), layer.out(expected.transpose(0, 1).flatten(1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sources", [3, 5, 8])
@pytest.mark.parametrize("rotary", [None, 10.0])
@pytest.mark.parametrize(("query", "key"), [(2, 1), (2, 4)])
def test_a_context_has_its_own_positions(query, key, rotary, sources):
    layer = SparseQueryAttention(16, 4, num_query_heads=query, num_kv_heads=key, rotary=rotary).double()
    x, context, d = numbers(5, 16), numbers(sources, 16, seed=1), 4

    def turned(row, place):
        pairs = torch.view_as_complex(row.reshape(-1, d // 2, 2))
        if rotary is not None:
            pairs = pairs * torch.polar(
                torch.ones(d // 2).double(), place * rotary ** (-torch.arange(0, d, 2).double() / d)
            )
        return torch.view_as_real(pairs).flatten(1)

    q, k = ([turned(row, i) for i, row in enumerate(rows)] for rows in (layer.query(x), layer.key(context)))
    v, heads, expected = layer.value(context).unflatten(-1, (-1, d)), max(query, key), []
    for t in range(5):
        for a in range(heads):
            scores = [q[t][a * query // heads] @ k[s][a * key // heads] / 2 for s in range(sources)]
            expected.append(torch.stack(scores).softmax(0) @ v[:, a * key // heads])
    expected = layer.out(torch.stack(expected).view(5, -1))
    torch.testing.assert_close(layer(x, context), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"causal": True}, {"pattern": patterns.full}])
def test_a_context_of_another_length_needs_a_graph_with_a_pattern(options):
    layer = SparseQueryAttention(16, 4, num_query_heads=2, num_kv_heads=1, rotary=10.0, **options)
    with pytest.raises(ArgumentError, match=r"context: expected 5 tokens, since the layer is .*, got 7. Pass graph="):
        layer(torch.ones(5, 16), torch.ones(7, 16))
    assert layer(torch.ones(5, 16), torch.ones(7, 16), patterns.full(5, 7)).shape == (5, 16)


# ---------------------------------------------------------------------- learning


WORDS, LENGTH = 12, 64


def sentences(count, generator):
    """A language of 12 words: the next one goes by the last two, or repeats the one five before."""
    rules = torch.Generator().manual_seed(7)
    table = (2.5 * torch.randn(WORDS, WORDS, WORDS, generator=rules)).softmax(-1)
    words = torch.randint(WORDS, (count, LENGTH + 1), generator=generator)
    for t in range(5, LENGTH + 1):
        drawn = torch.multinomial(table[words[:, t - 2], words[:, t - 1]], 1, generator=generator).squeeze(1)
        repeats = torch.rand(count, generator=generator) < 0.3
        words[:, t] = torch.where(repeats, words[:, t - 5], drawn)
    return words


class Language(nn.Module):
    def __init__(self, variant, dim=64):
        super().__init__()
        self.embed = nn.Embedding(WORDS, dim)
        make = SparseQueryAttention.variant
        self.attend = nn.ModuleList(make(variant, dim, 8, causal=True, rotary=10_000.0) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) for _ in range(2)
        )
        self.read = nn.Linear(dim, WORDS)

    def forward(self, words):
        h = self.embed(words)
        for i, (layer, mlp) in enumerate(zip(self.attend, self.mlps, strict=True)):
            h = h + layer(self.norms[2 * i](h))
            h = h + mlp(self.norms[2 * i + 1](h))
        return self.read(h)


def loss_of(variant, seed, steps=600):
    torch.manual_seed(seed)
    model, generator = Language(variant), torch.Generator().manual_seed(100 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    words = sentences(4096, generator)

    def loss(own):
        return F.cross_entropy(model(own[:, :-1])[:, 5:].flatten(0, 1), own[:, 6:].flatten())

    for _ in range(steps):
        step = loss(words[torch.randint(len(words), (32,), generator=generator)])
        optimizer.zero_grad()
        step.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(loss(sentences(512, generator)))


@pytest.mark.slow
def test_half_the_query_heads_learn_a_language_as_well():
    """sSQA within 5% of MHA's loss, and MHA <= sSQA <= xSMQA, up to what seeds differ by."""
    losses = {name: torch.tensor([loss_of(name, seed) for seed in range(3)]) for name in ("mha", "ssqa", "xsmqa")}
    mean = {name: float(each.mean()) for name, each in losses.items()}
    noise = max(float(each.std()) for each in losses.values())
    assert mean["ssqa"] <= 1.05 * mean["mha"]
    assert mean["mha"] <= mean["ssqa"] + noise
    assert mean["ssqa"] <= mean["xsmqa"] + noise
