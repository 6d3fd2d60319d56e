"""SoftHGNN (arXiv 2505.15325): parity with loops, counts and costs, limits, balance, and a learning task."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hgraph import propagate
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models import ViT
from hgraph.nn import SoftHGNN, SoftHGNNSeS, SoftHyperedges, aux_losses
from hgraph.nn.hypergraph.soft import soft_convolve


def tokens(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind, *args, seed=0, **options):
    """A layer in float64 with every parameter random, without dropout."""
    layer = kind(*args, dropout=0.0, **options).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return layer


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# ---------------------------------------------------------------------- loops over the sums of the paper


def gelu(v):
    return 0.5 * v * (1 + math.erf(v / math.sqrt(2)))


def linear(module, v):
    weight, bias = module.weight.tolist(), module.bias.tolist()
    return [sum(w * x for w, x in zip(row, v, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def loop_scores(gen, x):
    """Eq. 1 to 3 for one sample [N][D]: S[h][n][m] by head."""
    heads, d = gen.num_heads, gen.dim // gen.num_heads
    mean = [sum(row[i] for row in x) / len(x) for i in range(gen.dim)]
    most = [max(row[i] for row in x) for i in range(gen.dim)]
    offset = linear(gen.context_net, {"both": mean + most, "mean": mean, "max": most}[gen.context])
    base = gen.prototype_base.tolist()
    p = [[base[m][i] + offset[m * gen.dim + i] for i in range(gen.dim)] for m in range(gen.num_hyperedges)]
    z = [linear(gen.pre_head_proj, row) for row in x]
    part = [range(i * d, (i + 1) * d) for i in range(heads)]
    return [[[sum(zn[i] * pm[i] for i in part[a]) / math.sqrt(d) for pm in p] for zn in z] for a in range(heads)]


def loop_softmax(values):
    each = [math.exp(v - max(values)) for v in values]
    return [e / sum(each) for e in each]


def loop_participation(gen, s):
    """Eq. 4: weights of messages to hyperedges and to nodes, [n][m] each; heads are averaged before the softmax."""
    n, m = range(len(s[0])), range(len(s[0][0]))
    mean = [[sum(head[i][j] for head in s) / len(s) for j in m] for i in n]
    if gen.normalize == "node":
        columns = [loop_softmax([mean[i][j] for i in n]) for j in m]
        prob = [[columns[j][i] for j in m] for i in n]
        return prob, prob
    prob = [loop_softmax(mean[i]) for i in n]
    return [[prob[i][j] / sum(prob[k][j] for k in n) for j in m] for i in n], prob


def loop_block(layer, x, on=None):
    """Eq. 5 for a batch; ``on`` [b] lists the hyperedges with messages (eq. 6)."""
    out = torch.empty_like(x)
    gate = 1.0 if getattr(layer, "gate", None) is None else float(layer.gate.detach())
    for b, sample in enumerate(x.tolist()):
        n, d, gen = range(len(sample)), range(len(sample[0])), layer.edge_generator
        receive, send = loop_participation(gen, loop_scores(gen, sample))
        carried = range(gen.num_hyperedges) if on is None else on[b]
        h = {}
        for m in carried:
            attended = [sum(receive[i][m] * sample[i][c] for i in n) for c in d]
            h[m] = [gelu(v) for v in linear(layer.edge_proj[0], attended)]
        for i in n:
            update = linear(layer.node_proj[0], [sum(send[i][m] * h[m][c] for m in carried) for c in d])
            for c in d:
                out[b, i, c] = sample[i][c] + gate * gelu(update[c])
    return out


# ---------------------------------------------------------------------- check 1: parity


@pytest.mark.parametrize("context", ["both", "mean", "max"])
@pytest.mark.parametrize("normalize", ["node", "edge"])
def test_softhgnn_parity(context, normalize):
    layer = made(SoftHGNN, 4, 3, 2, context=context, normalize=normalize)
    x = tokens(2, 5, 4)
    close(layer(x), loop_block(layer, x))


def test_softhyperedges_parity_and_sums_of_one():
    gen, x = made(SoftHyperedges, 4, 3, 2), tokens(2, 5, 4)
    a = gen(x).participation
    for b in range(2):
        prob, _ = loop_participation(gen, loop_scores(gen, x[b].tolist()))
        close(a[b], torch.tensor(prob, dtype=torch.float64))
    close(a.sum(1), torch.ones(2, 3, dtype=torch.float64), 1e-12)
    by_node = made(SoftHyperedges, 4, 3, 2, normalize="edge")(x)
    close(by_node.e2v.weight.sum(-1), torch.ones(2, 5, dtype=torch.float64), 1e-12)
    close(by_node.v2e.weight.sum(-1), torch.ones(2, 3, dtype=torch.float64), 1e-12)


def test_softhgnnses_parity():
    layer, x = made(SoftHGNNSeS, 4, 5, 2, 2, 2), tokens(3, 6, 4)
    on = []
    for sample in x.tolist():
        s = loop_scores(layer.edge_generator, sample)
        total = [sum(sum(head[n][m] for head in s) for n in range(6)) for m in range(2, 7)]
        on.append([0, 1, *sorted(sorted(range(5), key=lambda m: -total[m])[:2])])
        on[-1] = [*on[-1][:2], *(m + 2 for m in on[-1][2:])]
    close(layer(x), loop_block(layer, x, on))
    used = torch.tensor([sum(m + 2 in o for o in on) / 3 for m in range(5)], dtype=torch.float64)
    close(layer.usage, used, 1e-15)
    close(layer.aux["balance"], (used - 2 / 5).square().mean(), 1e-15)
    close(aux_losses(layer), layer.aux["balance"], 0)


# ---------------------------------------------------------------------- check 2: sizes


def size(layer):
    return sum(p.numel() for p in layer.parameters())


def test_parameter_counts():
    def formula(d, m):
        return m * d + (2 * d + 1) * m * d + 3 * (d * d + d)

    for d, m, count in ((512, 16, 9_192_960), (256, 8, 1_250_048), (64, 8, 79_040)):
        assert size(SoftHGNN(d, m, gate=False, num_heads=8)) == count == formula(d, m)
        assert size(SoftHGNN(d, m, num_heads=8)) == count + 1
    for d, count in ((512, 26_002_945), (256, 6_513_409)):
        assert size(SoftHGNNSeS(d)) == count - 1 == formula(d, 48)  # the published class has a gate it never uses
    assert size(SoftHyperedges(64, 8, context="mean")) == 8 * 64 + 65 * 8 * 64 + 64 * 65
    assert size(SoftHyperedges(64, 8, context_rank=4)) == 8 * 64 + 128 * 4 + 5 * 8 * 64 + 64 * 65


def test_sizes_of_the_whole_cifar_networks():
    """As coded: the plain trunk, and the trunk for small data with one block after the last layer."""

    def whole(**options):
        return size(ViT(32, 10, **options))

    with torch.device("meta"):
        assert whole() == 9_523_722
        assert whole(small_data=True, last=SoftHGNN(512, 16, 8)) == 18_815_473
        assert whole(small_data=True, last=SoftHGNNSeS(512, 32, 16, 16, 8)) == 35_625_457 - 1  # the gate never used


@pytest.mark.parametrize("small_data", [False, True])
def test_vit_parity(small_data):
    """The trunk and a block against explicit sums."""
    last = made(SoftHGNN, 4, 3, 2)
    net = made(
        partial(ViT, 6, 3),
        patch=2,
        dim=4,
        num_layers=1,
        num_heads=2,
        hidden_channels=5,
        small_data=small_data,
        last=last,
    )
    images, layer, tokens = tokens_of_images(net, small_data)
    x = tokens + net.place
    normal = layer.norm1(x)
    q, k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in layer.attention.qkv(normal).chunk(3, -1))
    scores = q @ k.mT * (layer.attention.temperature.exp() if small_data else 2**-0.5)
    if small_data:
        scores = scores.masked_fill(torch.eye(10, dtype=torch.bool), -math.inf)
    x = x + layer.attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    x = x + layer.mlp(layer.norm2(x))
    close(net(images), net.out(net.norm(last(x)[:, 0])))


def tokens_of_images(net, small_data):
    """Images, the only layer, and its tokens cut out of the images one by one."""
    images = tokens(2, 3, 6, 6, seed=7)
    padded = F.pad(images, (1, 1, 1, 1))
    moves = [(1, 1), (0, 0), (2, 0), (0, 2), (2, 2)] if small_data else [(1, 1)]  # down and right: seen from 0
    seen = torch.cat([padded[..., r : r + 6, c : c + 6] for r, c in moves], 1)
    cut = [seen[..., r : r + 2, c : c + 2].flatten(1) for r in (0, 2, 4) for c in (0, 2, 4)]
    embedded = net.embed(net.norm_patch(torch.stack(cut, 1)))
    return images, net.layers[0], torch.cat([net.token.expand(2, 1, 4), embedded], 1)


def test_defaults_of_the_paper():
    layer = SoftHGNN(8)
    gen = layer.edge_generator
    assert (gen.num_hyperedges, gen.num_heads, gen.dropout.p, layer.gate.item()) == (16, 4, 0.1, 1.0)
    bound = math.sqrt(6 / (16 + 8))  # Xavier uniform
    assert gen.prototype_base.abs().max() <= bound
    assert gen.prototype_base.abs().max() > 0.8 * bound


# ---------------------------------------------------------------------- check 3: cost


def flops(layer, x):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x)
    return counter.get_total_flops()


def test_cost_is_affine_in_the_number_of_tokens():
    layer = SoftHGNN(256, 16, 8).to("meta")
    cost = {n: flops(layer, torch.empty(1, n, 256, device="meta")) for n in (256, 1024, 4096)}
    assert cost == {256: 79_691_776, 1024: 299_892_736, 4096: 1_180_696_576}
    assert cost[1024] - cost[256] == 768 * (4 * 256**2 + 6 * 16 * 256) == 768 * 286_720


def test_unselected_hyperedges_only_cost_their_scores():
    small = SoftHGNNSeS(64, num_dynamic=32, num_fixed=4, top_k=4, num_heads=4).to("meta").eval()
    x = [torch.empty(1, n, 64, device="meta") for n in (100, 200)]
    slope = (flops(small, x[1]) - flops(small, x[0])) / 100
    assert slope == 4 * 64**2 + 2 * 36 * 64 + 4 * 8 * 64  # 36 in the scores, 8 in both directions


# ---------------------------------------------------------------------- check 4: limits


@pytest.mark.parametrize("normalize", ["node", "edge"])
@pytest.mark.parametrize("per_head", [False, True])
def test_selecting_all_is_the_dense_block(normalize, per_head):
    options = {"normalize": normalize, "per_head": per_head}
    sparse = made(SoftHGNNSeS, 4, 5, 2, 5, 2, **options)
    dense = made(SoftHGNN, 4, 7, 2, gate=False, **options)
    dense.load_state_dict(sparse.state_dict())
    x = tokens(3, 6, 4)
    assert torch.equal(sparse(x), dense(x))


@pytest.mark.parametrize("normalize", ["node", "edge"])
def test_gathered_columns_equal_masked_ones(normalize):
    layer, x = made(SoftHGNNSeS, 4, 5, 2, 2, 2, normalize=normalize), tokens(3, 6, 4)
    gen = layer.edge_generator
    score = gen.score(x)
    best = score[:, 2:].sum(-1).topk(2).indices + 2
    on = torch.zeros(3, 7, dtype=torch.bool).scatter(1, best, True)
    on[:, :2] = True
    soft = gen.hyperedges(score)
    masked = type(soft)(soft.v2e, soft.e2v.masked(on))
    close(layer(x), x + soft_convolve(x, masked, layer.edge_proj, layer.node_proj), 1e-12)


def test_without_context_prototypes_are_constant():
    gen, x = made(SoftHyperedges, 4, 3, 2), tokens(2, 5, 4)
    with torch.no_grad():
        gen.context_net.weight.zero_()
        gen.context_net.bias.zero_()
    assert torch.equal(gen.prototypes(x), gen.prototype_base.expand(2, 3, 4))
    logits = (gen.pre_head_proj(x) @ gen.prototype_base.T) / (2 * math.sqrt(2))
    close(gen.score(x).mT, logits)
    more = gen.score(torch.cat([x, 9 * x[:, :1]], 1))
    close(more[..., :5], gen.score(x), 1e-13)  # another node does not change the logits


def test_without_prototypes_every_hyperedge_is_the_mean():
    layer, x = made(SoftHGNN, 4, 3, 2), tokens(2, 5, 4)
    with torch.no_grad():
        for parameter in (layer.edge_generator.prototype_base, *layer.edge_generator.context_net.parameters()):
            parameter.zero_()
    soft = layer.edge_generator(x)
    assert torch.equal(soft.participation, torch.full((2, 5, 3), 0.2, dtype=torch.float64))
    close(propagate(soft.v2e, x), x.mean(1, keepdim=True).expand(2, 3, 4), 1e-15)


def test_one_hyperedge_and_one_node():
    layer = made(SoftHGNN, 4, 1, 2)
    for n in (1, 5):
        x = tokens(2, n, 4)
        close(layer(x), loop_block(layer, x))
    assert torch.equal(layer.edge_generator(tokens(2, 1, 4)).participation, torch.ones(2, 1, 1).double())


def test_heads_equal_one_head_at_another_temperature():
    x, heads = tokens(2, 5, 8), made(SoftHyperedges, 8, 3, 4)
    single = made(SoftHyperedges, 8, 3, 1)
    close(heads.score(x) * (4 * math.sqrt(2)), single.score(x) * math.sqrt(8), 1e-12)


def test_logits_per_head_average_to_the_paper():
    """The extension: logits, softmax and values per head."""
    x, mean, own = tokens(2, 5, 4), made(SoftHyperedges, 4, 3, 2), made(SoftHyperedges, 4, 3, 2, per_head=True)
    close(own.score(x).mean(1), mean.score(x), 1e-13)
    layer = made(SoftHGNN, 4, 3, 2, per_head=True)
    a = layer.edge_generator(x).participation  # [B, h, N, M]
    y = torch.cat([a[:, h].mT @ x[..., 2 * h : 2 * h + 2] for h in range(2)], -1)
    y = layer.edge_proj(y)
    out = torch.cat([a[:, h] @ y[..., 2 * h : 2 * h + 2] for h in range(2)], -1)
    close(layer(x), x + layer.gate * layer.node_proj(out), 1e-12)
    one = made(SoftHGNN, 4, 3, 1, per_head=True)
    plain = made(SoftHGNN, 4, 3, 1)
    close(one(x), plain(x), 1e-13)


# ---------------------------------------------------------------------- padding


@pytest.mark.parametrize("normalize", ["node", "edge"])
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("kind", [SoftHGNN, SoftHGNNSeS])
def test_padding_changes_nothing(kind, normalize, per_head):
    sizes = (3, 2) if kind is SoftHGNN else (3, 1, 2, 2)
    layer = made(kind, 4, *sizes, normalize=normalize, per_head=per_head)
    x = tokens(3, 7, 4)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0], [1] * 7, [0] * 7], dtype=torch.bool)
    garbage = torch.where(mask.unsqueeze(-1), x, torch.full_like(x, math.nan))
    out = layer(garbage, mask)
    close(out[0, :4], layer(x[:1, :4])[0], 1e-12)
    close(out[1], layer(x[1:2])[0], 1e-12)
    assert not out[~mask].any()  # also in a sample with only padding: no 0 / 0
    assert not layer.edge_generator(garbage, mask).participation[2].any()


@pytest.mark.parametrize("kind", [SoftHGNN, SoftHGNNSeS])
def test_padding_gets_no_gradient_and_gives_no_nan(kind):
    layer = made(kind, 4, 3, 2) if kind is SoftHGNN else made(kind, 4, 3, 1, 2, 2)
    x, mask = tokens(2, 5, 4).requires_grad_(), torch.tensor([[1, 1, 0, 0, 0], [0] * 5], dtype=torch.bool)
    (layer(x, mask) - x.detach()).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)
    assert x.grad[0, :2].abs().min() > 0
    update = torch.autograd.grad(layer(x, mask).square().sum(), x)[0]
    assert not update[0, 2:].any()
    assert not update[1].any()


def test_padded_samples_do_not_count():
    layer, x = made(SoftHGNNSeS, 4, 3, 1, 2, 2), tokens(3, 5, 4)
    mask = torch.tensor([[1] * 5, [0] * 5, [1, 1, 1, 0, 0]], dtype=torch.bool)
    layer(x, mask)
    both = layer.usage.clone()
    layer(x[[0, 2]], mask[[0, 2]])
    close(both, layer.usage, 1e-15)


# ---------------------------------------------------------------------- check 5: symmetry, gradients


@pytest.mark.parametrize("kind", [SoftHGNN, SoftHGNNSeS])
def test_permuted_tokens(kind):
    layer = made(kind, 4, 3, 2) if kind is SoftHGNN else made(kind, 4, 3, 1, 2, 2)
    x, order = tokens(2, 6, 4), torch.tensor([3, 1, 5, 0, 2, 4])
    close(layer(x[:, order]), layer(x)[:, order], 1e-12)
    one, other = (propagate(layer.edge_generator(v).v2e, v) for v in (x, x[:, order]))
    close(one, other, 1e-12)


def test_ties_are_won_by_the_lower_index():
    layer = made(SoftHGNNSeS, 4, 6, 1, 2, 2)
    with torch.no_grad():
        layer.edge_generator.prototype_base.copy_(torch.ones(7, 4))
        layer.edge_generator.context_net.weight.zero_()
        layer.edge_generator.context_net.bias.zero_()
    layer(tokens(3, 5, 4))
    assert layer.usage.tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("options", [{}, {"normalize": "edge"}, {"per_head": True}], ids=str)
def test_gradcheck_of_the_block_and_of_the_selection(options):
    for layer in (made(SoftHGNN, 4, 2, 2, **options), made(SoftHGNNSeS, 4, 3, 1, 2, 2, **options)):
        assert torch.autograd.gradcheck(layer, (tokens(2, 3, 4).requires_grad_(),))
        assert torch.autograd.gradgradcheck(layer, (tokens(1, 3, 4).requires_grad_(),))


def test_unselected_hyperedges_get_no_gradient():
    layer, x = made(SoftHGNNSeS, 4, 5, 1, 2, 2, balance=None), tokens(1, 5, 4)
    layer(x).square().sum().backward()
    touched = layer.edge_generator.prototype_base.grad.abs().sum(1) > 0
    assert touched[1:].tolist() == (layer.usage > 0).tolist()
    assert layer.aux == {}


# ---------------------------------------------------------------------- check 6: balance


def biased(balance, weight=1.0):
    """The first k dynamic prototypes five times as large."""
    torch.manual_seed(0)
    layer = SoftHGNNSeS(16, 8, 2, 2, 4, dropout=0.0, balance=balance, balance_weight=weight)
    with torch.no_grad():
        layer.edge_generator.prototype_base[2:4] *= 5
        layer.edge_generator.pre_head_proj.bias.copy_(layer.edge_generator.prototype_base[2:4].sum(0))
    return layer


def sets(count, seed):
    return torch.randn(count, 12, 16, generator=torch.Generator().manual_seed(seed))


def test_the_loss_detects_a_biased_pool():
    layer = biased(None)
    layer(sets(200, 1))
    assert layer.usage[:2].min() > 0.9
    official = biased("official")
    official(sets(200, 1))
    assert official.aux["balance"].item() == pytest.approx((layer.usage - 0.25).square().mean().item())


def test_the_official_loss_has_no_gradient():
    layer, x = biased("official"), sets(20, 1)
    layer(x)
    assert not layer.aux["balance"].requires_grad  # a constant: adding it to a loss moves nothing
    straight = biased("straight_through")
    straight(x)
    assert straight.aux["balance"].item() == pytest.approx(layer.aux["balance"].item(), rel=1e-6)
    straight.aux["balance"].backward()
    assert straight.edge_generator.prototype_base.grad[2:].abs().max() > 0
    layer.eval()(x)
    assert layer.aux == {}


@pytest.mark.slow
def test_the_straight_through_loss_balances_the_pool():
    def trained(balance):
        layer = biased(balance, weight=0.1)
        optimizer = torch.optim.Adam(layer.parameters(), lr=3e-3)
        for step in range(300):
            optimizer.zero_grad()
            x = sets(64, 100 + step)
            target = x.mean(1, keepdim=True).expand_as(x)
            loss = F.mse_loss(layer(x), target) + aux_losses(layer)
            loss.backward()
            optimizer.step()
        layer.eval()(sets(500, 1))
        return layer.usage

    assert trained("straight_through").max() < 2 * 2 / 8
    assert trained(None).max() > 0.9


# ---------------------------------------------------------------------- check 7: learning


def kinds_task(batch, generator):
    """Sets of 64 tokens of one of six hidden kinds, with noisy features and a value; target: sum over a kind."""
    kind = torch.randint(6, (batch, 64), generator=generator)
    value = torch.randn(batch, 64, generator=generator)
    onehot = F.one_hot(kind, 6).float()
    x = torch.cat([onehot + 0.1 * torch.randn(batch, 64, 6, generator=generator), value.unsqueeze(-1)], -1)
    return x, (onehot * (onehot * value.unsqueeze(-1)).sum(1, keepdim=True)).sum(-1)


class HardBlock(nn.Module):
    """The same block with the hypergraph of the five nearest neighbors instead of the soft one."""

    def __init__(self, dim):
        super().__init__()
        self.edge_proj = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        self.node_proj = nn.Sequential(nn.Linear(dim, dim), nn.GELU())

    def forward(self, x, seen):
        near = torch.cdist(seen, seen).topk(5, largest=False).indices
        h = torch.zeros(*seen.shape[:2], seen.shape[1]).scatter(2, near, 1.0)  # [B, M, N], a hyperedge a node
        y = self.edge_proj(h @ x / 5)
        return x + self.node_proj(h.mT @ y / h.sum(1).unsqueeze(-1).clamp(min=1))


class Regressor(nn.Module):
    def __init__(self, block, dim=32, depth=0):
        super().__init__()
        self.lift, self.block, self.out = nn.Linear(7, dim), block, nn.Linear(dim, 1)

    def forward(self, x):
        h = self.lift(x)
        h = self.block(h, x[..., :6]) if isinstance(self.block, HardBlock) else self.block(h)
        return self.out(h).squeeze(-1)


def error_after_training(model, seed, steps=1500):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        x, y = kinds_task(32, generator)
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        x, y = kinds_task(500, torch.Generator().manual_seed(10_000))
        return F.mse_loss(model(x), y).item()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sums_over_hidden_kinds_are_learned(seed):
    torch.manual_seed(seed)
    soft = Regressor(SoftHGNN(32, 8, 4, dropout=0.0))
    width = (size(soft.block) - 32) // 65
    mlp = Regressor(nn.Sequential(nn.Linear(32, width), nn.GELU(), nn.Linear(width, 32)))
    assert size(mlp) >= size(soft) - 100
    errors = {name: error_after_training(model, seed) for name, model in
              {"soft": soft, "mlp": mlp, "hard": Regressor(HardBlock(32))}.items()}  # fmt: skip
    print(errors)
    assert errors["soft"] <= 0.5 * errors["mlp"]
    assert errors["soft"] <= 0.5 * errors["hard"]


# ---------------------------------------------------------------------- precision, copies, errors


def test_half_participation_is_computed_in_float32():
    for dtype in (torch.bfloat16, torch.float16):
        layer = SoftHGNN(8, 3, 2, dropout=0.0).to(dtype)
        x = torch.randn(2, 500, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
        a = layer.edge_generator(x).participation
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.sum(1), torch.ones(2, 3), rtol=0, atol=1e-5)
    layer = SoftHGNN(8, 3, 2, dropout=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        soft = layer.edge_generator(x.float())
    assert soft.participation.dtype == torch.float32
    torch.testing.assert_close(soft.participation.sum(1), torch.ones(2, 3), rtol=0, atol=1e-5)


def test_dropout_acts_on_the_logits_only_in_training():
    gen, x = SoftHyperedges(8, 3, 2, dropout=0.5), torch.randn(2, 50, 8)
    assert torch.equal(gen.eval().score(x), gen.score(x))
    kept = gen.score(x)
    dropped = gen.train().score(x)
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    torch.testing.assert_close(dropped[dropped != 0], 2 * kept[dropped != 0])


def test_copies_after_a_forward():
    layer = SoftHGNNSeS(8, 6, 2, 3, 2)
    layer(torch.randn(2, 5, 8))
    assert copy.deepcopy(layer).aux == {}
    assert "usage" not in layer.state_dict()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SoftHGNN(10, 4, 4), ArgumentError, "num_heads: expected a divisor of dim, 10, got 4"),
        (lambda: SoftHGNN(8, 0), ArgumentError, "num_hyperedges: expected a whole number, 1 or more, got 0"),
        (lambda: SoftHGNN(8, context="min"), ArgumentError, "context: expected 'both' or 'mean' or 'max', got 'min'"),
        (lambda: SoftHGNN(8, normalize="row"), ArgumentError, "normalize: expected 'node' or 'edge', got 'row'"),
        (lambda: SoftHGNN(8)(torch.ones(2, 3, 7)), ArgumentError, r"x: expected shape \[..., N, 8\], got shape"),
        (lambda: SoftHGNN(8)([1]), ArgumentTypeError, "x: expected a tensor of features, got list"),
        (
            lambda: SoftHGNN(8)(torch.ones(2, 3, 8), torch.ones(2, 3)),
            ArgumentTypeError,
            "mask: expected booleans, False for padding, got torch.float32",
        ),
        (
            lambda: SoftHGNN(8)(torch.ones(2, 3, 8), torch.ones(3, dtype=torch.bool)),
            ArgumentError,
            r"mask: expected shape \[2, 3\], got shape \[3\]",
        ),
        (lambda: SoftHGNNSeS(8, 4, 2, 5), ArgumentError, "top_k: expected 1 .. 4, the dynamic hyperedges, got 5"),
        (lambda: SoftHGNNSeS(8, 4, -1, 2), ArgumentError, "num_fixed: expected a whole number, 0 or more, got -1"),
        (lambda: SoftHGNNSeS(8, balance="ste"), ArgumentError, "balance: expected 'straight_through', 'official' or"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
