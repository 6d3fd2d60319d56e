"""Positional attention (Back de Luca et al., ICML 2025): parity, sizes, independence of values, and learning."""

import copy
import math
import statistics

import pytest
import torch

from hgraph import propagate
from hgraph.datasets import ALGORITHMS, algorithmic_task
from hgraph.errors import ArgumentError
from hgraph.models import PositionalTransformer
from hgraph.nn import PositionalAttention
from hgraph.train import fit, seeded


def made(build):
    torch.manual_seed(0)
    return build().double()


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_biases(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(numbers(*parameter.shape, seed=parameter.numel()))
    return module


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize("given", [False, True])
def test_positionalattention_parity(given):
    layer, x = with_biases(made(lambda: PositionalAttention(6, 2, num_positions=7))), numbers(3, 5, 6)
    positions = numbers(5, 7, seed=1) if given else torch.eye(7, dtype=torch.float64)[:5]
    out = torch.zeros(3, 5, 6, dtype=torch.float64)
    value = x @ layer.value.weight.T + layer.value.bias
    for h in range(2):
        w_q, w_k = (m.weight[7 * h : 7 * h + 7] for m in (layer.query, layer.key))
        b_q, b_k = (m.bias[7 * h : 7 * h + 7] for m in (layer.query, layer.key))
        for i in range(5):
            score = [(w_q @ positions[i] + b_q) @ (w_k @ positions[j] + b_k) / math.sqrt(7) for j in range(5)]
            weight = torch.softmax(torch.stack(score), 0)
            for j in range(5):
                out[:, i, 3 * h : 3 * h + 3] += weight[j] * value[:, j, 3 * h : 3 * h + 3]
    expected = out @ layer.out.weight.T + layer.out.bias
    found = layer(x, positions=positions if given else None)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_exported_graphs_give_the_same_output():
    layer, x = with_biases(made(lambda: PositionalAttention(6, 2, num_positions=7))), numbers(5, 6)
    value = layer.value(x)
    heads = [propagate(layer.as_graph(5, head=h).adj, value[:, 3 * h : 3 * h + 3]) for h in range(2)]
    torch.testing.assert_close(layer.out(torch.cat(heads, 1)), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positional", [True, False])
def test_positionaltransformer_parity(positional):
    model = with_biases(made(lambda: PositionalTransformer(2, 8, 3, num_positions=6, positional=positional)))
    x = numbers(4, 5, 2)
    h = x if positional else torch.cat([x, torch.eye(5, 6).double().expand(4, 5, 6)], -1)
    h = h @ model.linear.weight.T + model.linear.bias
    for attention, mlp in zip(model.attentions, model.mlps, strict=True):
        if positional:
            received = attention(h)
        else:
            q, k, v = (m(h).unflatten(-1, (2, -1)) for m in (attention.query, attention.key, attention.value))
            weight = (torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(8)).softmax(-1)  # D channels in every head
            received = attention.out(torch.einsum("bhij,bjhd->bihd", weight, v).flatten(-2))
        h = mlp(torch.cat([h, received], -1))
    torch.testing.assert_close(model(x), model.out(h), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- published properties


@pytest.mark.parametrize(("positional", "count"), [(True, 84_577), (False, 150_273)])
def test_published_sizes(positional, count):
    with torch.device("meta"):
        model = PositionalTransformer(1, 64, 1, num_positions=9, positional=positional)
    assert sum(p.numel() for p in model.parameters()) == count


def test_values_do_not_decide():
    """The weights have no gradient with respect to the values: each output is linear in them."""
    layer = with_biases(made(lambda: PositionalAttention(6, 2, num_positions=7)))
    jacobian = [torch.autograd.functional.jacobian(layer, numbers(5, 6, seed=seed)) for seed in (1, 2)]
    torch.testing.assert_close(*jacobian, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positional", [True, False])
def test_scaling_of_the_input_scales_the_output_without_biases(positional):
    model, x = made(lambda: PositionalTransformer(1, 8, 1, num_positions=6, positional=positional)), numbers(3, 6, 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and "query" not in name and "key" not in name:
                parameter.zero_()
    once, scaled = model(x).detach(), model(50 * x).detach()
    difference = float((scaled - 50 * once).abs().max() / once.abs().max())
    assert (difference < 1e-10) == positional


def test_the_gradient_of_queries_is_the_sum_over_the_batch():
    layer, x = with_biases(made(lambda: PositionalAttention(6, 2, num_positions=7))), numbers(3, 5, 6)
    (whole,) = torch.autograd.grad(layer(x).square().sum(), layer.query.weight)
    each = sum(torch.autograd.grad(layer(one).square().sum(), layer.query.weight)[0] for one in x)
    torch.testing.assert_close(whole, each, rtol=1e-11, atol=1e-11)
    assert bool(whole.any())


# ---------------------------------------------------------------------- limits


def set_weights(layer, scores):
    """Choose the scores of one head: with one-hot positions any matrix [p, p] is possible."""
    with torch.no_grad():
        layer.query.weight.copy_(scores.T * math.sqrt(len(scores)))
        layer.key.weight.copy_(torch.eye(len(scores)))
        layer.query.bias.zero_()
        layer.key.bias.zero_()
        layer.value.weight.copy_(torch.eye(layer.dim))
        layer.out.weight.copy_(torch.eye(layer.dim))


def test_equal_scores_average_and_large_ones_gather():
    layer, x = made(lambda: PositionalAttention(2, 1, num_positions=4)), numbers(4, 2)
    set_weights(layer, torch.zeros(4, 4))
    torch.testing.assert_close(layer(x), x.mean(0).expand(4, 2))
    order = torch.tensor([2, 0, 3, 1])
    set_weights(layer, 1000 * torch.eye(4)[order])
    torch.testing.assert_close(layer(x), x[order])


def test_one_layer_computes_a_cumulative_sum():
    """Uniform weights over the tokens so far, times their number."""
    layer, x = made(lambda: PositionalAttention(1, 1, num_positions=5)), numbers(3, 5, 1)
    set_weights(layer, torch.where(torch.ones(5, 5).tril() > 0, 0.0, -1000.0))
    torch.testing.assert_close(layer(x) * torch.arange(1, 6)[:, None], x.cumsum(1))


def test_a_sequence_of_padding_alone_is_zero():
    layer = PositionalAttention(4, 2, num_positions=5)
    assert not layer(torch.full((1, 3, 4), float("nan")), torch.zeros(1, 3, dtype=torch.bool)).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PositionalAttention(5, 2, num_positions=4), "num_heads"),
        (lambda: PositionalAttention(4, 2, num_positions=4)(torch.ones(5, 4)), "at most 4 tokens"),
        (lambda: PositionalAttention(4, 2, num_positions=4)(torch.ones(3, 4), positions=torch.ones(2, 4)), "positions"),
        (lambda: PositionalAttention(4, 2, num_positions=4).as_graph(3, head=2), "head"),
        (lambda: PositionalTransformer(1, 4, 1, num_positions=4)(torch.ones(2, 5, 1)), "at most 4 tokens"),
        (lambda: algorithmic_task("product", 2, 3), "name"),
        (lambda: algorithmic_task("sum", 2, 3, scale=0.5), "scale"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


# ---------------------------------------------------------------------- the tasks


def by_hand(name, x):
    if name == "sort":
        return sorted(x)
    out = []
    for i in range(1, len(x) + 1):
        part = x[:i]
        middle = sorted(part)
        runs = [sum(part[a:b]) for a in range(i) for b in range(a + 1, i + 1)]
        out.append({"sum": sum(part), "min": min(part), "median": (middle[(i - 1) // 2] + middle[i // 2]) / 2,
                    "max_subarray": max(runs)}[name])  # fmt: skip
    return out


@pytest.mark.parametrize("name", ALGORITHMS)
def test_tasks_by_hand(name):
    x, y = algorithmic_task(name, 5, 7, generator=torch.Generator().manual_seed(0))
    assert not x[:, -1].any()
    assert not y[:, -1].any()
    for given, found in zip(x[:, :-1, 0].tolist(), y[:, :-1, 0].tolist(), strict=True):
        assert found == pytest.approx(by_hand(name, given), abs=1e-5)


def test_ranges_outside_the_training_leave_it():
    x, _ = algorithmic_task("sum", 4000, 64, scale=3.0, generator=torch.Generator().manual_seed(0))
    assert float(x.abs().max()) <= 6.0
    assert float((x[:, :-1, 0].abs().amax(1) > 2.0).double().mean()) > 0.95  # bounds leave it, numbers may miss it
    inside, _ = algorithmic_task("sum", 4000, 64, generator=torch.Generator().manual_seed(0))
    assert float(inside.abs().max()) <= 2.0


def errors(name, positional, seed, scales, epochs):
    """Mean squared errors of a trained network by scale, without the scratch token."""
    draw = torch.Generator().manual_seed(seed)
    with seeded(seed):
        model = PositionalTransformer(1, 64, 1, num_positions=9, positional=positional)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = algorithmic_task(name, 30_000, 8, generator=draw)
    for step in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.5e-3 * (1 + math.cos(math.pi * step / epochs))
        some = torch.randint(len(x), (256,), generator=draw)
        loss = (model(x[some]) - y[some])[:, :-1].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = {}
    with torch.no_grad():
        for scale in scales:
            x_test, y_test = algorithmic_task(name, 1000, 8, scale=scale, generator=draw)
            found[scale] = float((model(x_test) - y_test)[:, :-1].square().mean())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seeds"), [("sum", (0, 1, 2)), ("min", (0,))])
def test_values_outside_the_training_range(name, seeds):
    """The positional network errs 20 times less at three and ten times the range; medians, as in the paper."""
    positional, standard = (
        {scale: statistics.median(run[scale] for run in runs) for scale in (1.0, 3.0, 10.0)}
        for runs in ([errors(name, kind, seed, (1.0, 3.0, 10.0), 4000) for seed in seeds] for kind in (True, False))
    )
    assert max(positional[1.0], standard[1.0]) < 1e-3
    assert positional[3.0] < standard[3.0] / 20
    assert positional[10.0] < standard[10.0] / 20


@pytest.mark.slow
def test_positions_cannot_look_for_a_value():
    """Each token names a position by its value; one layer must fetch the number there. Only content can."""

    def final_loss(positional):
        draw = torch.Generator().manual_seed(0)
        with seeded(0):
            model = PositionalTransformer(24, 32, 8, num_positions=16, num_layers=1, positional=positional)
        x = torch.zeros(2000, 16, 24)
        names = torch.randint(16, (2000, 16), generator=draw)
        stored = torch.randint(8, (2000, 16), generator=draw)
        x.scatter_(2, names.unsqueeze(2), 1.0)
        x.scatter_(2, 16 + stored.unsqueeze(2), 1.0)
        y = stored.gather(1, names)
        loss = lambda out: torch.nn.functional.cross_entropy(out.flatten(0, 1), y.flatten())  # noqa: E731
        return fit(model, (x,), loss, epochs=400, lr=1e-2, weight_decay=0.0, progress=False).history[-1]["loss"]

    positional, content = final_loss(True), final_loss(False)
    assert content < 0.2
    assert positional > 1.0  # 2.08 by chance


def test_weights_are_shared_by_copies():
    layer = PositionalAttention(4, 2, num_positions=5)
    assert torch.equal(copy.deepcopy(layer).weights(4), layer.weights(4))
