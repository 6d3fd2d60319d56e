"""Mixture-of-head attention (card 19): gates, limits, balance, counts."""

from __future__ import annotations

import math

import pytest
import torch

from hgraph.nn import MixtureOfHeadAttention, SelfAttention, aux_losses
from hgraph.nn.attention import HeadRouter

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
            share = softmax([float(q[t, own] @ k[s, own]) / math.sqrt(d) for s in range(len(x))])
            heard = sum(a * v[s, own] for s, a in enumerate(share))
            total = total + gates[t][h] * layer.out.weight[:, own] @ heard
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
    ours, mask = layer.router(x)
    torch.testing.assert_close(ours, torch.tensor(gates, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert mask.sum(-1).tolist() == [shared + top_k] * N
    torch.testing.assert_close(layer(x), loops(layer, x, gates), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("shared", "top_k"), [(2, 2), (4, 0), (0, 4)])
def test_an_undecided_router_is_multi_head_attention(shared, top_k):
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


def test_balance_is_k_when_even_and_flows_through_the_probabilities():
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


def test_padding_does_not_vote():
    layer = MixtureOfHeadAttention(D, H, shared_heads=1, top_k=1).double()
    x, present = numbers(1, N, D), torch.arange(N).unsqueeze(0) < 4
    layer(x, present=present)
    some = float(layer.aux["balance"].detach())
    layer(x[:, :4])
    assert abs(some - float(layer.aux["balance"].detach())) < 1e-15


def test_a_token_that_does_not_listen_is_heard():
    """Leaving a head out takes a token away as receiver only."""
    layer = MixtureOfHeadAttention(D, H, shared_heads=0, top_k=1).double()
    x = numbers(N, D).requires_grad_()
    mask = layer.router(x)[1]
    head = int(mask[0].nonzero())
    other = next(t for t in range(N) if not mask[t, head])
    own = slice(head * 2, head * 2 + 2)
    heard = (layer.query(x)[0, own] * layer.key(x)[other, own]).sum()
    assert heard != 0
    grad = torch.autograd.grad(layer(x)[0].sum(), x)[0]
    assert grad[other].abs().sum() > 0


def test_the_gates_cost_their_rows():
    """(h + 2) D parameters a layer."""
    plain, layer = SelfAttention(64, 8), MixtureOfHeadAttention(64, 8, shared_heads=2, top_k=4)
    count = [sum(p.numel() for p in m.parameters()) for m in (plain, layer)]
    assert count[1] - count[0] == (8 + 2) * 64


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
