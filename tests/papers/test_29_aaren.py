"""Aaren, attention as a recurrence (Feng et al., 2024): parity, sizes, extremes, bad input, and learning."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hgraph import AttendResult, SoftmaxState, merge, scan
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models import AarenEncoder
from hgraph.nn import Aaren, SelfAttention
from hgraph.nn.recurrent import ChainState, StackState
from hgraph.train import seeded

INF = math.inf


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(build=lambda: Aaren(6, 2)):
    torch.manual_seed(0)
    return build().double()


def steps(score, value):
    """The recurrence of (maximum, sum, weighted sum), beginning with the first token."""
    top, total, out = -INF, 0.0, []
    mixed = torch.zeros(value.shape[-1], dtype=torch.float64)
    for s, v in zip(score.tolist(), value, strict=True):
        new = max(top, s)
        before = 0.0 if top == -INF else math.exp(top - new)
        total, mixed, top = total * before + math.exp(s - new), mixed * before + v * math.exp(s - new), new
        out.append(mixed / total)
    return torch.stack(out)


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize("n", [1, 2, 13, 64, 300])
def test_scan_equals_steps_and_masked_softmax(n):
    score, value = 30 * draw(n), draw(n, 3, seed=1)
    found = scan(SoftmaxState(), (score, value)).states.out
    weight = torch.where(torch.ones(n, n).tril() > 0, score.expand(n, n), -INF).softmax(-1)
    for expected in (steps(score, value), weight @ value):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_aaren_parity(bias):
    layer, x, n = made(lambda: Aaren(6, 2, bias=bias)), draw(2, 9, 6), 9
    q = layer.query(layer.token)
    k, v = layer.key(x), layer.value(x)
    out = torch.zeros(2, n, 6, dtype=torch.float64)
    for b in range(2):
        for h in range(2):
            own = slice(3 * h, 3 * h + 3)
            score = torch.stack([q[own] @ k[b, i, own] / math.sqrt(3) for i in range(n)])
            for t in range(n):
                weight = score[: t + 1].exp() / score[: t + 1].exp().sum()
                out[b, t, own] = sum(weight[i] * v[b, i, own] for i in range(t + 1))
    torch.testing.assert_close(layer(x), layer.out(out), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", [1, 3, 16, 20, None])
def test_blocks_and_the_last_prefix_are_one(block):
    layer, x = made(), 5 * draw(2, 20, 6)
    torch.testing.assert_close(layer.pool(x, block_size=block), layer(x)[:, -1], rtol=1e-12, atol=1e-12)
    state, parts = ChainState(), []
    for at in range(0, 20, block or 20):
        parts.append(layer(x[:, at : at + (block or 20)], state=state))
    torch.testing.assert_close(torch.cat(parts, 1), layer(x), rtol=1e-12, atol=1e-12)


def test_latent_queries_are_cross_attention():
    layer, x, latent = made(), draw(2, 7, 6), draw(3, 6, seed=4)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    for b, count in enumerate((7, 4)):
        q, k, v = (f(y).view(-1, 2, 3) for f, y in ((layer.query, latent), (layer.key, x[b]), (layer.value, x[b])))
        weight = (torch.einsum("lhd,nhd->hln", q, k[:count]) / math.sqrt(3)).softmax(-1)
        expected = layer.out(torch.einsum("hln,nhd->lhd", weight, v[:count]).flatten(1))
        for block in (None, 2):
            found = layer.pool(x, mask, queries=latent, block_size=block)[b]
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
def test_aarenencoder_parity(norm_first):
    model = made(lambda: AarenEncoder(6, 2, num_layers=2, hidden_channels=5, norm_first=norm_first))
    x = h = draw(2, 7, 6)
    for layer in model.layers:
        attend = layer.attention
        mlp = lambda y, layer=layer: layer.linear2(layer.linear1(y).relu())  # noqa: E731
        if norm_first:
            h = h + attend(layer.norm1(h))
            h = h + mlp(layer.norm2(h))
        else:
            h = layer.norm1(h + attend(h))
            h = layer.norm2(h + mlp(h))
    torch.testing.assert_close(model(x), h, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- the operation


def test_merging_is_associative_and_commutative():
    a, b, c = (AttendResult(draw(50, 2, 3, seed=i), 5 * draw(50, 2, seed=i + 3)) for i in range(3))
    none = AttendResult(torch.zeros(50, 2, 3).double(), torch.full((50, 2), -INF).double())
    pairs = [(merge(merge(a, b), c), merge(a, merge(b, c))), (merge(a, b), merge(b, a)), (merge(a, none), a)]
    pairs += [(merge(none, a), a), (merge(none, none), none)]
    for found, expected in pairs:
        torch.testing.assert_close(found.out, expected.out, rtol=0, atol=1e-14)
        torch.testing.assert_close(found.lse, expected.lse, rtol=0, atol=1e-13)


def test_gradients_equal_those_of_masked_softmax():
    layer, x = made(), draw(2, 8, 6).requires_grad_()

    def dense():
        q = layer.query(layer.token).view(2, 3)
        k, v = (f(x).view(2, 8, 2, 3) for f in (layer.key, layer.value))
        score = torch.einsum("hd,bnhd->bhn", q, k).unsqueeze(2) / math.sqrt(3)
        weight = torch.where(torch.ones(8, 8).tril() > 0, score, -INF).softmax(-1)
        return layer.out(torch.einsum("bhts,bshd->bthd", weight, v).flatten(2))

    flow = draw(2, 8, 6, seed=7)
    leaves = [x, *layer.parameters()]
    ours, wanted = (torch.autograd.grad(f, leaves, flow) for f in (layer(x), dense()))
    torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "scores", [[-1e4] * 4, [1e4] * 4, [-1e4, -1e4, 1e4, -1e4], [-200.0] * 4, [-INF, -INF, 1.0, -INF]]
)
def test_extreme_scores(scores):
    value = torch.arange(1.0, 5.0).unsqueeze(1)
    score = torch.tensor(scores)
    found = scan(SoftmaxState(), (score, value)).states.out.flatten()
    expected = [value[: t + 1][score[: t + 1] == score[: t + 1].max()].mean() for t in range(4)]
    expected = [e if score[: t + 1].max() > -INF else torch.tensor(0.0) for t, e in enumerate(expected)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_limits():
    """Equal scores: the running mean. Very large ones: the value of the largest score so far."""
    layer, x = made(), draw(1, 9, 6)
    with torch.no_grad():
        layer.key.weight.zero_()
    mean = layer.value(x).cumsum(1) / torch.arange(1, 10).view(1, 9, 1)
    torch.testing.assert_close(layer(x), layer.out(mean), rtol=1e-12, atol=1e-12)
    score, value = 1000 * draw(40), draw(40, 2, seed=1)
    torch.testing.assert_close(scan(SoftmaxState(), (score, value)).states.out, value[score.cummax(0).indices])


# ---------------------------------------------------------------------- published sizes, and cost


def test_published_sizes():
    with torch.device("meta"):
        ours, theirs = AarenEncoder(512, 8), torch.nn.TransformerEncoderLayer(512, 8, 2048)
    assert sum(p.numel() for p in ours.parameters()) == 3_152_896
    assert sum(p.numel() for p in theirs.parameters()) == 3_152_384


def test_the_state_has_one_size():
    layer, state, sizes = Aaren(8, 2), ChainState(), []
    with torch.no_grad():
        for count in (10, 20_000):
            layer(torch.zeros(1, count, 8), state=state)
            sizes.append(state.num_bytes)
    assert sizes == [4 * 2 * (1 + 4)] * 2  # the log-sum-exp and a vector per head


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize("kept", [slice(0, 4), slice(3, 8)])
def test_padding_may_contain_anything(kept):
    for layer in (made(), made(lambda: AarenEncoder(6, 2, hidden_channels=5))):
        x = torch.full((1, 8, 6), math.nan, dtype=torch.float64)
        mask = torch.zeros(1, 8, dtype=torch.bool)
        x[:, kept], mask[:, kept] = draw(1, 8, 6)[:, kept], True
        out = layer(x.requires_grad_(), mask)
        torch.testing.assert_close(out[:, kept], layer(x[:, kept].detach()), rtol=1e-12, atol=1e-12)
        assert not out[~mask].any()
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert bool(grad.isfinite().all())


def test_sequences_without_tokens():
    layer = made()
    assert layer(draw(2, 0, 6)).shape == (2, 0, 6)
    for x, mask in ((draw(2, 0, 6), None), (draw(2, 3, 6), torch.zeros(2, 3, dtype=torch.bool))):
        torch.testing.assert_close(layer.pool(x, mask), layer.out.bias.expand(2, 6))
    assert layer.pool(draw(2, 0, 6), queries=draw(3, 6)).shape == (2, 3, 6)


def test_scores_beyond_the_range_of_float16():
    layer = Aaren(4, 1, bias=False).half()
    with torch.no_grad():
        for linear in (layer.query, layer.key, layer.value, layer.out):
            linear.weight.copy_(torch.eye(4))
        layer.token.fill_(256.0)
    x = torch.full((1, 3, 4), 256.0, dtype=torch.float16)  # scores of 131,072
    torch.testing.assert_close(layer(x), x)


def test_two_generations_do_not_disturb_each_other():
    model, x = made(lambda: AarenEncoder(6, 2, num_layers=2, hidden_channels=5)), draw(2, 6, 6)
    states, found = [StackState(2), StackState(2)], [[], []]
    for t in range(6):
        for i in range(2):
            found[i].append(model(x[i : i + 1, t : t + 1], state=states[i]))
    torch.testing.assert_close(torch.cat([torch.cat(f, 1) for f in found]), model(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Aaren(5, 2), "num_heads: expected a divisor of dim, 5"),
        (lambda: Aaren(4, 2)(torch.ones(3, 5)), r"x: expected shape \[..., N, 4\]"),
        (lambda: Aaren(4, 2).pool(torch.ones(3, 4), queries=torch.ones(2, 3)), "queries: expected shape"),
        (lambda: Aaren(4, 2).pool(torch.ones(3, 4), block_size=0), "block_size: expected a whole number"),
        (lambda: AarenEncoder(4, 2, dropout=2.0), "dropout: expected a probability"),
        (lambda: AarenEncoder(4, 2)(torch.ones(3, 4), state=ChainState()), "state: expected a StackState"),
        (lambda: AarenEncoder(4, 2)(torch.ones(3, 4), state=StackState(2)), "state: expected the states of 1 layers"),
    ],
)
def test_errors(call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        call()


# ---------------------------------------------------------------------- learning


class Mean(torch.nn.Module):
    """The running mean of the values."""

    def __init__(self, dim):
        super().__init__()
        self.value, self.out = torch.nn.Linear(dim, dim), torch.nn.Linear(dim, dim)

    def forward(self, x):
        return self.out(self.value(x).cumsum(1) / torch.arange(1, x.shape[1] + 1).view(1, -1, 1))


MIXERS = {"aaren": lambda: Aaren(32, 2), "causal": lambda: SelfAttention(32, 2, causal=True), "mean": lambda: Mean(32)}


def champions(generator):
    """Salience and class per token; the target is the class of the most salient token so far."""
    salience = torch.rand(64, 48, generator=generator)
    kind = torch.randint(8, (64, 48), generator=generator)
    x = torch.cat([(4 * salience - 2).unsqueeze(2), F.one_hot(kind, 8).float()], 2)
    return x, kind.gather(1, salience.cummax(1).indices)


def recalls(generator):
    """Eight pairs of a key and a class, then queries: the class of the key is to be named."""
    keys = torch.stack([torch.randperm(8, generator=generator) for _ in range(64)])
    kind = torch.randint(8, (64, 8), generator=generator)
    asked = torch.randint(8, (64, 8), generator=generator)
    first = torch.cat([F.one_hot(keys, 8), F.one_hot(kind, 8)], 2)
    then = torch.cat([F.one_hot(keys.gather(1, asked), 8), torch.zeros(64, 8, 8)], 2)
    target = torch.cat([torch.full((64, 8), -100), kind.gather(1, asked)], 1)
    return torch.cat([first, then], 1).float(), target


def accuracy(name, task, seed, steps=600):
    draw, found = torch.Generator().manual_seed(seed), []
    with seeded(seed):
        width = task(torch.Generator())[0].shape[2]
        lift, mixer = torch.nn.Linear(width, 32), MIXERS[name]()
        head = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
    model = torch.nn.ModuleList([lift, mixer, head])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        x, y = task(draw)
        h = lift(x)
        score = head(h + mixer(h))
        loss = F.cross_entropy(score.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        there = y >= 0
        found.append(float((score.argmax(2) == y)[there].double().mean()))
    return sum(found[-20:]) / 20


@pytest.mark.slow
def test_the_running_champion():
    """Measured, seeds 0 to 2: Aaren 0.971, 0.976, 0.978; causal 0.973, 0.980, 0.973; the mean 0.299, 0.284, 0.296."""
    ours, causal, mean = (accuracy(name, champions, 0) for name in ("aaren", "causal", "mean"))
    assert ours >= 0.93
    assert ours >= causal - 0.03
    assert ours >= mean + 0.5


@pytest.mark.slow
def test_one_layer_cannot_recall_what_a_token_asks_for():
    """Measured with three seeds: 0.393, 0.396, 0.411 (95 % of further seeds below 0.45); causal attention 1.000.

    Naming the most frequent class of a sequence would give 0.33; the rest is read from the mixture of all pairs.
    """
    ours, causal = accuracy("aaren", recalls, 0), accuracy("causal", recalls, 0)
    assert ours < 0.45
    assert causal > 0.9
