"""Mixture-of-head attention (Jin et al., 2024): gates, limits, balance, counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hgraph import Relative
from hgraph.errors import ArgumentError
from hgraph.nn import MixtureOfHeadAttention, SelfAttention, aux_losses
from hgraph.nn.attention import HeadRouter, KVState, QueryNormRouter

D, H, N = 8, 4, 7
CASES = {"no shared": (0, 2), "one shared": (1, 2), "two shared": (2, 1), "all shared": (4, 0), "all chosen": (1, 3)}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(values):
    top = max(values)
    each = [math.exp(v - top) for v in values]
    return [e / sum(each) for e in each]


def gates_of(router, x, shared, top_k, variant):
    """The gates of one token by the paper's equations, or as its code scales them."""
    official = variant == "official"
    a = (1.0, 1.0)
    if router.mixing is not None:
        a = tuple(s * (2 if official else 1) for s in softmax((router.mixing.weight @ x).tolist()))
    gates = []
    if shared:
        gates += [a[0] * g * (shared if official else 1) for g in softmax((router.by_shared.weight @ x).tolist())]
    if top_k:
        p = softmax((router.by_choice.weight @ x).tolist())
        best = sorted(range(len(p)), key=lambda i: -p[i])[:top_k]
        total = sum(p[i] for i in best) / top_k if official else 1.0
        gates += [a[1] * p[i] / total if i in best else 0.0 for i in range(len(p))]
    return gates + [0.0] * (H - len(gates))


def loops(layer, x, gates):
    """The weighted sum over the heads of each token."""
    d = layer.head_dim
    q, k, v = (f(x).detach() for f in (layer.query, layer.key, layer.value))
    out = []
    for t in range(len(x)):
        total = layer.out.bias.clone()
        for h in range(H):
            own = slice(h * d, h * d + d)
            prob = softmax([float(q[t, own] @ k[s, own]) / math.sqrt(d) for s in range(len(x))])
            attended = sum(a * v[s, own] for s, a in enumerate(prob))
            total = total + gates[t][h] * layer.out.weight[:, own] @ attended
        out.append(total)
    return torch.stack(out)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("name", CASES)
def test_mixtureofheadattention_parity(name, variant):
    shared, top_k = CASES[name]
    torch.manual_seed(0)
    layer = MixtureOfHeadAttention(D, H, shared_heads=shared, top_k=top_k, variant=variant).double()
    x = numbers(N, D)
    gates = [gates_of(layer.router, x[t], shared, top_k, variant) for t in range(N)]
    ours, mask, _ = layer.router(x)
    torch.testing.assert_close(ours, torch.tensor(gates, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert mask.sum(-1).tolist() == [shared + top_k] * N
    torch.testing.assert_close(layer(x), loops(layer, x, gates), rtol=1e-10, atol=1e-10)


def gates_by_norm(query, shared, top_k):
    """Eq. 5 for one token: the longest queries, norms over their unbiased standard deviation."""
    norms = [math.sqrt(sum(float(v) ** 2 for v in query[i])) for i in range(shared, len(query))]
    mean = sum(norms) / len(norms)
    spread = math.sqrt(sum((n - mean) ** 2 for n in norms) / (len(norms) - 1))
    p = softmax([n / spread for n in norms])
    best = sorted(range(len(p)), key=lambda i: -p[i])[:top_k]
    return [1.0] * shared + [1.0 if i in best else 0.0 for i in range(len(p))], p


@pytest.mark.parametrize("kv", [4, 2])
@pytest.mark.parametrize("rotary", [None, 10.0])
def test_queries_route_themselves(kv, rotary):
    """The gates are of query heads, key heads may be fewer; the norm is taken before the rotary embedding."""
    torch.manual_seed(0)
    options = {"num_kv_heads": kv, "rotary": rotary, "causal": True}
    layer = MixtureOfHeadAttention(D, H, shared_heads=2, top_k=1, router="query_norm", **options).double()
    assert not list(layer.router.parameters())
    x = numbers(N, D)
    found = [gates_by_norm(query, 2, 1) for query in layer.queries(x).detach()]
    gates, probs = (torch.tensor(part, dtype=torch.float64) for part in zip(*found, strict=True))
    routed = layer.router(layer.queries(x))
    torch.testing.assert_close(routed.gates, gates, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(routed.probabilities, probs, rtol=1e-12, atol=1e-12)
    plain = SelfAttention(D, H, **options).double()
    plain.load_state_dict(layer.state_dict())
    attended = plain.compute_heads(plain.prepare(x)) * gates.unsqueeze(-1)
    torch.testing.assert_close(layer(x), plain.out(attended.flatten(1)), rtol=1e-12, atol=1e-12)
    # Straight through: the gradient of a chosen gate is that of its probability.
    weight = numbers(N, H, seed=1)
    query = layer.queries(x).detach().requires_grad_()
    routed = layer.router(query)
    own = torch.autograd.grad((routed.gates * weight).sum(), query, retain_graph=True)[0]
    like = torch.autograd.grad((routed.probabilities * (weight * routed.mask)[:, 2:]).sum(), query)[0]
    torch.testing.assert_close(own, like)


def test_one_routed_head_has_no_spread():
    router = QueryNormRouter(3, shared=2, top_k=1)
    routed = router(numbers(5, 3, 4).requires_grad_())
    assert routed.gates.tolist() == [[1.0, 1.0, 1.0]] * 5
    assert torch.autograd.grad(routed.gates.sum(), routed.probabilities)[0].isfinite().all()
    assert router(torch.ones(5, 3, 4)).gates.isfinite().all()
    with pytest.raises(ArgumentError, match="router: expected 'linear' or 'query_norm', got 'norm'"):
        MixtureOfHeadAttention(D, H, shared_heads=2, top_k=1, router="norm")


@pytest.mark.parametrize(("shared", "top_k"), [(2, 2), (4, 0), (0, 4)])
def test_a_uniform_router_is_multi_head_attention(shared, top_k):
    layer = MixtureOfHeadAttention(D, H, shared_heads=shared, top_k=top_k, variant="official").double()
    plain = SelfAttention(D, H).double()
    missing, unexpected = layer.load_state_dict(plain.state_dict(), strict=False)
    assert all(name.startswith("router.") for name in missing)
    assert not unexpected
    with torch.no_grad():
        for parameter in layer.router.parameters():
            parameter.zero_()
    x = numbers(2, N, D)
    assert (layer.router(x)[0] == 1).all()
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)


def test_chosen_gates_sum_to_k_before_mixing():
    router = HeadRouter(D, H, shared=0, top_k=2, variant="official").double()
    torch.testing.assert_close(router(numbers(50, D))[0].sum(-1), torch.full((50,), 2.0, dtype=torch.float64))


def test_balance_is_k_if_uniform_and_has_gradients_by_probabilities():
    layer = MixtureOfHeadAttention(D, 6, shared_heads=1, top_k=2, head_dim=2, balance=1.0).double()
    with torch.no_grad():
        layer.router.by_choice.weight.zero_()
    x = numbers(3, N, D)
    layer(x)
    assert abs(float(layer.aux["balance"].detach()) - 2) < 1e-12
    torch.manual_seed(0)
    layer.router.reset_parameters()
    weight = layer.router.by_choice.weight

    def balance(w):
        torch.func.functional_call(layer, {"router.by_choice.weight": w}, (x,))
        return layer.aux["balance"]

    assert torch.autograd.gradcheck(balance, (weight.detach().clone().requires_grad_(),))
    layer(x)
    assert aux_losses(layer) == layer.aux["balance"]


def test_padding_does_not_count():
    layer = MixtureOfHeadAttention(D, H, shared_heads=1, top_k=1).double()
    x, present = numbers(1, N, D), torch.arange(N).unsqueeze(0) < 4
    layer(x, mask=present)
    some = float(layer.aux["balance"].detach())
    layer(x[:, :4])
    assert abs(some - float(layer.aux["balance"].detach())) < 1e-15


def test_unselected_heads_still_use_the_token_as_source():
    """Without a head, a token is no longer a target, but still a source."""
    layer = MixtureOfHeadAttention(D, H, shared_heads=0, top_k=1).double()
    x = numbers(N, D).requires_grad_()
    mask = layer.router(x)[1]
    head = int(mask[0].nonzero())
    other = next(t for t in range(N) if not mask[t, head])
    own = slice(head * 2, head * 2 + 2)
    attended = (layer.query(x)[0, own] * layer.key(x)[other, own]).sum()
    assert attended != 0
    grad = torch.autograd.grad(layer(x)[0].sum(), x)[0]
    assert grad[other].abs().sum() > 0


class Work(TorchDispatchMode):
    """Multiplications and additions of matrix products, and of torch's attention kernel by pairs."""

    def __init__(self):
        super().__init__()
        self.linear, self.attention = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, out = func.overloadpacket, func(*args, **(kwargs or {}))
        if name in (torch.ops.aten.mm, torch.ops.aten.addmm):
            a, b = args[-2:]
            self.linear[tuple(b.shape)] = self.linear.get(tuple(b.shape), 0) + 2 * a.shape.numel() * b.shape[1]
        elif name == torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            q, k = args[:2]
            self.attention += 4 * q.shape.numel() * k.shape[2]
        return out


@pytest.mark.parametrize(("shared", "top_k"), [(2, 2), (0, 4), (4, 0)])
def test_unselected_heads_cost_nothing(shared, top_k):
    """Queries, scores, mixing and output are proportional to the active heads, keys and values are not."""
    n, dim, heads = 2048, 32, 8
    torch.manual_seed(0)
    layer = MixtureOfHeadAttention(dim, heads, shared_heads=shared, top_k=top_k, variant="official")
    x = torch.randn(n, dim)
    with torch.no_grad(), Work() as work:
        sparse = layer(x)
    prob = (shared + top_k) / heads
    assert work.attention == prob * 4 * n * n * dim
    product = 2 * n * dim * dim
    router = layer.router
    gates = sum(2 * n * dim * f.out_features for f in (router.by_shared, router.by_choice, router.mixing) if f)
    assert sum(work.linear.values()) == 2 * product + prob * 2 * product + gates
    routed = router(x)
    dense = SelfAttention(dim, heads)
    dense.load_state_dict(layer.state_dict(), strict=False)
    expected = dense.out((dense.compute_heads(dense.prepare(x)) * routed.gates.unsqueeze(-1)).flatten(-2))
    torch.testing.assert_close(sparse, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-6)  # with gradients too


def test_decoding_and_causality():
    """The router uses only the token itself: neither values nor selection depend on later tokens."""
    torch.manual_seed(0)
    for router in ("linear", "query_norm"):
        layer = MixtureOfHeadAttention(D, H, shared_heads=1, top_k=1, causal=True, router=router).double()
        x, state = numbers(1, 12, D), KVState(12)
        whole = layer(x)
        steps = torch.cat(
            [layer(x[:, :5], state=state), *(layer(x[:, t : t + 1], state=state) for t in range(5, 12))], 1
        )
        torch.testing.assert_close(steps, whole, rtol=1e-12, atol=1e-12)
        for t in (0, 6, 11):
            changed = x.clone()
            changed[:, t] = -changed[:, t] + 1
            assert torch.equal(layer(changed)[:, :t], whole[:, :t])
            assert not torch.equal(layer(changed)[:, t], whole[:, t])
            chosen = [layer.router(layer.queries(v) if router == "query_norm" else v).mask[:, :t] for v in (x, changed)]
            assert torch.equal(*chosen)


def test_the_gates_cost_their_rows():
    """(h + 2) D parameters per layer."""
    plain, layer = SelfAttention(64, 8), MixtureOfHeadAttention(64, 8, shared_heads=2, top_k=4)
    count = [sum(p.numel() for p in m.parameters()) for m in (plain, layer)]
    assert count[1] - count[0] == (8 + 2) * 64


def test_published_sizes_differ_by_their_gates():
    """Of MoH-ViT, S-80 and S-75 have 49,910,548 parameters both; B-50 has 90,023,512, B-75 90,020,632."""
    dims, heads, depths = (96, 192, 384, 768), (4, 8, 16, 32), (5, 5, 23, 5)

    def gates(dims, heads, depths, shared, chosen):
        stages = zip(dims, heads, depths, shared, chosen, strict=True)
        return sum(
            depth * sum(p.numel() for p in HeadRouter(dim, h, shared=s, top_k=k).parameters())
            for dim, h, depth, s, k in stages
        )

    b75, b50 = (
        gates(dims, heads, depths, s, k) for s, k in (((4, 8, 4, 5), (0, 0, 8, 16)), ((2, 2, 2, 4), (2, 4, 6, 8)))
    )
    assert b50 - b75 == 90_023_512 - 90_020_632
    small = (72, 144, 288, 576), (3, 6, 12, 24), (5, 5, 22, 5)
    assert gates(*small, (3, 6, 3, 8), (0, 0, 6, 12)) == gates(*small, (3, 6, 3, 4), (0, 0, 6, 12))


@pytest.mark.parametrize(
    ("heads", "depths", "shared", "chosen", "active", "total"),
    [
        ((3, 6, 12, 24), (5, 5, 22, 5), (3, 6, 3, 8), (0, 0, 6, 12), 343, 429),
        ((4, 8, 16, 32), (5, 5, 23, 5), (4, 8, 4, 5), (0, 0, 8, 16), 441, 588),
        ((4, 8, 16, 32), (5, 5, 23, 5), (2, 2, 2, 4), (2, 4, 6, 8), 294, 588),
    ],
    ids=["S-80", "B-75", "B-50"],
)
def test_active_heads_of_the_published_settings(heads, depths, shared, chosen, active, total):
    x = numbers(1, 4)
    found = 0
    for h, depth, s, k in zip(heads, depths, shared, chosen, strict=True):
        found += depth * int(HeadRouter(4, h, shared=s, top_k=k).double()(x)[1].sum())
    assert (found, sum(h * depth for h, depth in zip(heads, depths, strict=True))) == (active, total)


# ---------------------------------------------------------------------- learning

WORDS, TYPES, LENGTH, OFFSETS = 16, 4, 40, 8


def lookups(count, generator):
    """Tokens of type k need the words 2 k + 1 and 2 k + 2 before them: eight lookups, two per token."""
    word = torch.randint(WORDS, (count, LENGTH), generator=generator)
    kind = torch.randint(TYPES, (count, LENGTH), generator=generator)
    first = torch.arange(LENGTH) - 2 * kind - 1
    return word, kind, torch.stack([word.gather(1, (first - i).clamp(min=0)) for i in (0, 1)], -1)


class Reader(nn.Module):
    """One layer whose heads each have a table of distances and no other positions, so that a head is a lookup."""

    def __init__(self, layer, dim=64):
        super().__init__()
        self.word, self.kind = nn.Embedding(WORDS, dim), nn.Embedding(TYPES, dim)
        self.norm, self.attend = nn.LayerNorm(dim), layer
        self.table = nn.Parameter(torch.randn(layer.query_heads, 2 * OFFSETS + 3) * 0.5)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 256), nn.GELU(), nn.Linear(256, 2 * WORDS))

    def features(self, word, kind):
        return self.norm(self.word(word) + self.kind(kind))

    def forward(self, word, kind):
        x = self.word(word) + self.kind(kind)
        x = x + self.attend(self.features(word, kind), bias=Relative(self.table))
        return self.mlp(x).unflatten(-1, (2, WORDS))


def read(layer, seed, steps=900):
    """The accuracy after training, and the fraction of selections of the most selected routed head."""
    torch.manual_seed(seed)
    model = Reader(layer())
    rest = [p for name, p in model.named_parameters() if name != "table"]
    optimizer = torch.optim.Adam([{"params": [model.table]}, {"params": rest}])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.03, 0.003], total_steps=steps)
    generator = torch.Generator().manual_seed(100 + seed)
    for _ in range(steps):
        word, kind, target = lookups(32, generator)
        out = model(word, kind)[:, OFFSETS:]
        loss = nn.functional.cross_entropy(out.flatten(0, 2), target[:, OFFSETS:].flatten())
        loss = loss + sum(getattr(model.attend, "aux", {}).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    word, kind, target = lookups(256, generator)
    with torch.no_grad():
        accuracy = float((model(word, kind).argmax(-1) == target)[:, OFFSETS:].float().mean())
        if not hasattr(model.attend, "router"):
            return accuracy, None
        chosen = model.attend.router(model.features(word, kind)).mask[..., 2:].float().mean((0, 1))
    return accuracy, float(chosen.max() / chosen.sum())


def half_of_eight(balance):
    return MixtureOfHeadAttention(64, 8, shared_heads=2, top_k=2, causal=True, balance=balance, variant="official")


@pytest.mark.slow
def test_half_of_the_heads_are_as_accurate_as_all():
    """Four of eight heads, selected per token: at least 98% of all eight, 5 points over four fixed heads."""
    makers = {
        "eight": lambda: SelfAttention(64, 8, causal=True),
        "four": lambda: SelfAttention(64, 4, head_dim=8, causal=True),
        "chosen": lambda: half_of_eight(0.01),
        "unbalanced": lambda: half_of_eight(0.0),
    }
    found = {name: [read(make, seed) for seed in range(3)] for name, make in makers.items()}
    accuracy = {name: sum(a for a, _ in each) / 3 for name, each in found.items()}
    assert accuracy["chosen"] >= 0.98 * accuracy["eight"]
    assert accuracy["chosen"] >= accuracy["four"] + 0.05
    even, uneven = (sum(prob for _, prob in found[name]) / 3 for name in ("chosen", "unbalanced"))
    assert uneven > 1.25 * even
