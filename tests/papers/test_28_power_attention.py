"""PowerAttention (Chen et al., 2025): the graph, the theorem (also by autograd), and a task that only it solves."""

from __future__ import annotations

import math

import pytest
import torch

from hgraph import attend, patterns
from hgraph.nn import PowerAttention, SelfAttention


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def visible(i, j, block, window, sink):
    """The pairs of the block form; the token form is block 1 without window and sink."""
    delta = i // block - j // block
    power = delta > 0 and delta & (delta - 1) == 0
    return j <= i and (delta == 0 or power or delta < window or j < sink)


def dense_attention(layer, x, mask):
    """Softmax over the whole row with a mask."""
    q, k, v = (f(x).unflatten(-1, (layer.query_heads, layer.head_dim)) for f in (layer.query, layer.key, layer.value))
    score = torch.einsum("thd,shd->hts", q, k) / math.sqrt(layer.head_dim)
    prob = score.masked_fill(~mask, -float("inf")).softmax(-1)
    return layer.out(torch.einsum("hts,shd->thd", prob, v).flatten(1))


@pytest.mark.parametrize(("n", "block", "window", "sink"), [(37, 1, 0, 0), (130, 4, 3, 4), (1000, 16, 5, 16)])
def test_powerattention_parity(n, block, window, sink):
    layer = PowerAttention(8, 2, block_size=block, window=window, num_sink=sink).double()
    mask = torch.tensor([[visible(i, j, block, window, sink) for j in range(n)] for i in range(n)])
    x = numbers(n, 8)
    torch.testing.assert_close(layer(x), dense_attention(layer, x, mask), rtol=1e-12, atol=1e-12)


def test_block_counts():
    """The exact counts of visited blocks with window 5 and one sink block."""
    counts = [patterns.power(16 * n, 16, window=5, num_sink=16).num_tiles(16) for n in (16, 32, 64, 128, 256, 512)]
    assert counts == [88, 215, 502, 1141, 2548, 5619]
    tiles = patterns.power(16 * 128, 16, window=5, num_sink=16).tiles(16)
    assert tiles.num_tiles == 1141
    assert int(tiles.count[0, 0, -1]) == 10


def test_degrees_and_growth():
    degree = patterns.power(1000).degree().flatten().tolist()
    assert degree == [1] + [2 + int(math.log2(i)) for i in range(1, 1000)]
    edges = [patterns.power(2**m).num_edges / (2**m * m) for m in (8, 10, 12, 14)]
    assert edges == sorted(edges, reverse=True)
    assert 1 < edges[-1] < edges[0] < 1.001  # n log2 n


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_theorem_through_autograd(layers):
    """The last output depends on exactly the inputs in its receptive field."""
    n = 32
    blocks = [PowerAttention(8, 2, block_size=1, window=0).double() for _ in range(layers)]
    x = numbers(n, 8).requires_grad_()
    h = x
    for block in blocks:
        h = h + block(h)
    grad = torch.autograd.grad(h[-1].sum(), x)[0].abs().sum(1)
    reached = patterns.power(n).reach(layers).adjacency().select(torch.tensor([n - 1])).indices
    assert (grad > 0).nonzero().flatten().tolist() == reached.tolist()
    assert len(reached) == sum(math.comb(5, t) for t in range(layers + 1))


def test_a_wide_window_is_causal_attention():
    x = numbers(60, 8)
    layer = PowerAttention(8, 2, block_size=4, window=15).double()
    assert layer.graph_of(60).equal(patterns.causal(60))
    plain = SelfAttention(8, 2, causal=True).double()
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)


def test_distances_are_within_documents():
    graph = patterns.power(20) & patterns.packed([8, 12])
    x = numbers(20, 1, 4)
    whole = attend(graph, x, x, x).out
    parts = [attend(patterns.power(len(p)), p, p, p).out for p in (x[:8], x[8:])]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- learning


class Reader(torch.nn.Module):
    """Predicts the first token at the last position."""

    def __init__(self, make, layers, n=32, vocabulary=8, dim=64):
        super().__init__()
        self.embed = torch.nn.Embedding(vocabulary, dim)
        self.place = torch.nn.Parameter(torch.randn(n, dim) * 0.02)
        self.attend = torch.nn.ModuleList(make(dim) for _ in range(layers))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(dim) for _ in range(2 * layers))
        self.mlps = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(dim, 2 * dim), torch.nn.GELU(), torch.nn.Linear(2 * dim, dim))
            for _ in range(layers)
        )
        self.read = torch.nn.Linear(dim, vocabulary)

    def forward(self, tokens):
        h = self.embed(tokens) + self.place
        for i, (layer, mlp) in enumerate(zip(self.attend, self.mlps, strict=True)):
            h = h + layer(self.norms[2 * i](h))
            h = h + mlp(self.norms[2 * i + 1](h))
        return self.read(h[:, -1])


def accuracy_of(make, layers, steps):
    torch.manual_seed(0)
    model = Reader(make, layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        tokens = torch.randint(8, (64, 32), generator=generator)
        loss = torch.nn.functional.cross_entropy(model(tokens), tokens[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens = torch.randint(8, (2000, 32), generator=generator)
    with torch.no_grad():
        return float((model(tokens).argmax(1) == tokens[:, 0]).float().mean())


def power(dim):
    return PowerAttention(dim, 4, block_size=1, window=0)


def window(dim):
    return SelfAttention(dim, 4, causal=True, pattern=lambda n: patterns.sliding_window(n, 6))


def dense(dim):
    return SelfAttention(dim, 4, causal=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "layers", "steps", "low", "high"),
    [
        (power, 5, 1200, 0.99, 1.0),
        (power, 4, 400, 0.095, 0.155),
        (window, 5, 400, 0.095, 0.155),
        (dense, 1, 400, 0.99, 1.0),
    ],
    ids=["power, 5 layers", "power, 4 layers", "window, 5 layers", "dense, 1 layer"],
)
def test_only_enough_hops_read_the_first_token(make, layers, steps, low, high):
    """Distance 31 has five binary ones: five layers read it, four cannot; windows of equal degree reach 25."""
    assert low <= accuracy_of(make, layers, steps) <= high
