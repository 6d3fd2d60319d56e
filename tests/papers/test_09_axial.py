"""Axial attention and the Axial Transformer (Ho et al., 2019): lines of a grid, images pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch

from hgraph import attend, patterns
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models import AxialTransformer
from hgraph.models.vision.axial_transformer import AxialBlock
from hgraph.nn import AxialAttention


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_line(shape, axis, causal):
    cells = torch.stack(torch.unravel_index(torch.arange(math.prod(shape)), shape), 1)
    other = [a for a in range(len(shape)) if a != axis]
    mask = (cells[:, None, other] == cells[None, :, other]).all(-1)
    return mask & (cells[None, :, axis] <= cells[:, None, axis]) if causal else mask


def dense(layer, x, mask):
    """Attention over all cells with a mask; rows without sources are 0."""
    q, k, v = (f(x).unflatten(-1, (layer.query_heads, layer.head_dim)) for f in (layer.query, layer.key, layer.value))
    score = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(layer.head_dim)
    prob = score.masked_fill(~mask, -float("inf")).softmax(-1).nan_to_num(0.0)
    return layer.out(torch.einsum("bhts,bshd->bthd", prob, v).flatten(2))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((5, 7), 0), ((5, 7), -1), ((3, 4, 5), 1), ((1, 9), 1)])
def test_axialattention_parity(shape, axis, causal):
    layer = AxialAttention(8, 2, ndim=len(shape), axis=axis, causal=causal).double()
    x = numbers(2, *shape, 8)
    mask = same_line(shape, axis % len(shape), causal)
    expected = dense(layer.layers[0], x.flatten(1, -2), mask).view_as(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduce", ["sequential", "sum"])
def test_all_axes(reduce):
    layer, x = AxialAttention(8, 2, reduce=reduce).double(), numbers(2, 5, 7, 8)
    cells = x.flatten(1, 2)
    rows, columns = (same_line((5, 7), axis, False) for axis in range(2))
    first = dense(layer.layers[0], cells, rows)
    second = dense(layer.layers[1], first if reduce == "sequential" else cells, columns)
    expected = second if reduce == "sequential" else first + second
    torch.testing.assert_close(layer(x), expected.view_as(x), rtol=1e-12, atol=1e-12)


def test_one_row_is_full_attention():
    x = numbers(1, 1, 9, 2, 4)[0, 0]
    ours, full = (attend(g, x, x, x).out for g in (patterns.axial((1, 9), 1), patterns.full(9)))
    torch.testing.assert_close(ours, full, rtol=1e-12, atol=1e-12)


def test_padding_is_neither_target_nor_source():
    layer, x = AxialAttention(8, 2, axis=0).double(), numbers(2, 5, 7, 8)
    mask = torch.ones(2, 5, 7, dtype=torch.bool)
    mask[0, 3:] = mask[1, :, 2] = False  # a cut, and a line that is all padding
    present = mask.flatten(1)
    allowed = same_line((5, 7), 0, False) & present[:, None, :] & present[:, :, None]
    expected = dense(layer.layers[0], x.flatten(1, 2), allowed.unsqueeze(1)).view_as(x)
    expected = torch.where(mask.unsqueeze(-1), expected, 0.0)
    torch.testing.assert_close(layer(x, mask), expected, rtol=1e-12, atol=1e-12)


def test_two_layers_reach_every_cell():
    rows, columns = patterns.axial((6, 9), 1), patterns.axial((6, 9), 0)
    assert (rows @ columns).density == 1
    assert (rows.degree() == 9).all()
    assert (columns.degree() == 6).all()


def test_edges_and_exponent():
    """One layer at 64 x 64 has 262,144 edges per head where full attention has 16,777,216; N to the 3/2 in general."""
    assert patterns.axial((64, 64), 0).num_edges == 262_144
    assert patterns.full(64 * 64).num_edges == 16_777_216
    edges = [patterns.axial((side, side), 0).num_edges for side in (16, 64)]
    assert math.log(edges[1] / edges[0]) / math.log((64 / 16) ** 2) == 1.5
    video = patterns.axial((8, 8, 8), 1)
    assert video.num_edges == 512 * 8


def test_axial_attention_is_one_run_per_cell():
    """A line is one run if its axis is the fastest: the number of tiles is that of a block-diagonal graph."""
    graph = patterns.axial((64, 64), 0)
    assert graph.num_runs == 64 * 64
    assert graph.num_tiles(64) == 64


# ---------------------------------------------------------------------- the autoregressive model


def small(channels=2, seed=0, **options):
    """A network with every parameter random: branches that start at zero would hide errors."""
    sizes = {"num_classes": 3, "dim": 8, "num_heads": 2, "exterior": 2, "outer": 2, "inner": 2} | options
    torch.manual_seed(seed)
    net = AxialTransformer(3, 4, channels, residual_scale=1.0, **sizes).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return net


def images(net, count=1, seed=0):
    shape = (count, net.height, net.width, net.channels)
    return torch.randint(net.num_classes, shape, generator=torch.Generator().manual_seed(seed))


def block_loops(block, cells, attends):
    """A layer over a dictionary of cells, by sums over the cells that each attends to."""
    layer, d = block.attention.layers[0], block.attention.layers[0].head_dim
    normed = {at: block.norm1(x) for at, x in cells.items()}
    out = {}
    for at in cells:
        query, attended = layer.query(normed[at]), []
        others = [normed[b] for b in cells if attends(at, b)]
        for h in range(layer.query_heads):
            own = slice(h * d, h * d + d)
            score = torch.stack([(query[own] @ layer.key(b)[own] / math.sqrt(d)).exp() for b in others])
            attended.append(sum(s / score.sum() * layer.value(b)[own] for s, b in zip(score, others, strict=True)))
        x = cells[at] + layer.out(torch.cat(attended))
        z = block.hidden(block.norm2(x))
        out[at] = x + block.out(z / (1 + torch.exp(-1.702 * z)))
    return out


def logits_loops(net, x, s):
    """Logits of slice s of one image, cell by cell."""
    height, width, channels = x.shape
    where = [(r, c) for r in range(height) for c in range(width)]
    same_row, same_column = (lambda a, b: a[0] == b[0]), (lambda a, b: a[1] == b[1])
    h = {(r, c): net.embedding.weight[x[r, c, s]] for r, c in where}
    place = {(r, c): net.position.rows[r] + net.position.columns[c] for r, c in where}
    condition = {at: torch.zeros(8, dtype=torch.float64) for at in where}
    if channels > 1:
        maps = torch.zeros(height + 2, width + 2, 2 * channels, dtype=torch.float64)
        maps[1:-1, 1:-1, :s] = x[..., :s].double() / (net.num_classes - 1)
        maps[1:-1, 1:-1, channels + s] = 1
        for r, c in where:
            window = maps[r : r + 3, c : c + 3]
            condition[r, c] = torch.einsum("oiyx,yxi->o", net.convolution.weight, window) + net.convolution.bias
            condition[r, c] = condition[r, c] + net.exterior_position.rows[r] + net.exterior_position.columns[c]
        for i, block in enumerate(net.exterior):
            condition = block_loops(block, condition, same_column if i % 2 else same_row)
    u = {at: h[at] + place[at] + condition[at] for at in where}
    for i, block in enumerate(net.outer):
        u = block_loops(block, u, (lambda a, b: a[1] == b[1] and b[0] <= a[0]) if i % 2 else same_row)
    nothing = torch.zeros(8, dtype=torch.float64)
    z = {}
    for r, c in where:
        z[r, c] = h.get((r, c - 1), nothing) + u.get((r - 1, c), nothing) + place[r, c] + condition[r, c]
    for block in net.inner:
        z = block_loops(block, z, lambda a, b: a[0] == b[0] and b[1] <= a[1])
    return torch.stack([torch.stack([net.head(net.norm(z[r, c])) for c in range(width)]) for r in range(height)])


@pytest.mark.parametrize("channels", [1, 2])
def test_axialtransformer_parity(channels):
    net = small(channels)
    x = images(net)
    with torch.no_grad():
        expected = torch.stack([logits_loops(net, x[0], s) for s in range(channels)], 2)
        torch.testing.assert_close(net(x)[0], expected, rtol=1e-12, atol=1e-12)


def test_loss_is_the_mean_of_bits_and_training_samples_one_slice_per_image():
    net = small(2)
    x = images(net, 4)
    bits = -net(x).log_softmax(-1).gather(4, x.unsqueeze(-1)).squeeze(-1) / math.log(2)
    torch.testing.assert_close(net.loss(x), bits.mean(), rtol=1e-12, atol=1e-12)
    net.train()
    drawn = torch.randint(2, (4,), generator=torch.Generator().manual_seed(5))
    assert drawn.unique().numel() == 2
    expected = torch.stack([bits[b, :, :, s] for b, s in enumerate(drawn)]).mean()
    loss = net.loss(x, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)


def test_a_cell_depends_on_exactly_all_earlier_cells():
    """The Jacobian by embedded pixels, after one outer pair and one inner layer, at random weights of scale one."""
    torch.manual_seed(0)
    options = {"num_classes": 2, "dim": 8, "num_heads": 2, "outer": 2, "inner": 1, "residual_scale": 1.0}
    net = AxialTransformer(4, 5, 1, **options).double().eval()
    torch.nn.init.normal_(net.head.weight)

    def logits(h):
        return net.within(h, net.position(net.above(h, None)), None).sum(-1)

    jacobian = torch.autograd.functional.jacobian(logits, numbers(1, 4, 5, 8))  # [1, 4, 5, 1, 4, 5, 8]
    attended = jacobian.view(20, 20, 8).abs().amax(-1)
    earlier = torch.ones(20, 20).tril(-1).bool()
    assert (attended[earlier] > 0).all()
    assert (attended[~earlier] == 0).all()


def test_causality_bit_for_bit():
    net = small(2)
    x = images(net)
    before = net(x)
    place = torch.arange(24).view(2, 3, 4).permute(1, 2, 0)  # slices, then rows, then columns
    for r, c, s in [(0, 0, 0), (1, 2, 0), (2, 3, 0), (0, 1, 1), (2, 3, 1)]:
        changed = x.clone()
        changed[0, r, c, s] = (changed[0, r, c, s] + 1) % 3
        same = (net(changed) == before)[0].all(-1)
        assert same[place <= place[r, c, s]].all()
        assert s == 1 or not same[place > place[r, c, s]].any()
        assert s == 0 or not same[:, :, 1][place[:, :, 1] > place[r, c, s]].any()


def test_published_sizes():
    """Computed from the published settings without allocating parameters."""
    with torch.device("meta"):
        nets = AxialTransformer.imagenet64(), AxialTransformer.imagenet32()
    assert [sum(p.numel() for p in net.parameters()) for net in nets] == [606_161_152, 341_178_112]
    blocks = [m for m in nets[0].modules() if isinstance(m, AxialBlock)]
    assert len(blocks) == 24
    assert {sum(p.numel() for p in block.parameters()) for block in blocks} == {6 * 2048**2 + 10 * 2048}
    assert nets[1].inner[0].dropout.p == 0.04


def test_starts_as_the_identity_with_uniform_logits():
    torch.manual_seed(0)
    net = AxialTransformer(8, 8, 3, num_classes=4, dim=64, num_heads=4, exterior=2, outer=2, inner=2).double()
    block, x = net.inner[0], numbers(1, 8, 8, 64)
    torch.testing.assert_close(block(x), x, rtol=0, atol=1e-3)
    torch.testing.assert_close(net.eval().loss(images(net)), torch.tensor(2.0, dtype=torch.float64), rtol=0, atol=1e-3)
    assert abs(float(block.hidden.weight.detach().var()) * 64 - 1) < 0.1
    assert abs(float(block.out.weight.detach().var()) * 64e10 - 1) < 0.1
    assert abs(float(net.position.rows.detach().var()) * 64 / 25 - 1) < 0.3
    assert abs(float(net.convolution.weight.detach().var()) * 6 * 9 - 1) < 0.1
    assert all((p == 0).all() for name, p in net.named_parameters() if name.endswith("bias"))


def gumbel(*shape, seed=0):
    return -torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log().neg().log()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sampling_matches_the_naive_loop(temperature):
    torch.manual_seed(0)
    net = AxialTransformer(
        4, 4, 2, num_classes=4, dim=8, num_heads=2, exterior=2, outer=2, inner=1, residual_scale=1.0
    ).double().eval()  # fmt: skip
    torch.nn.init.normal_(net.head.weight)
    noise, calls = gumbel(2, 4, 4, 2, 4), {"outer": 0, "exterior": 0, "inner": 0}

    def counted(name):
        return lambda *_: calls.update({name: calls[name] + 1})

    handles = [getattr(net, name).register_forward_hook(counted(name)) for name in calls]
    drawn = net.sample(noise, temperature=temperature)
    assert calls == {"outer": 4 * 2, "exterior": 2, "inner": 16 * 2}
    for handle in handles:
        handle.remove()
    naive = torch.zeros(2, 4, 4, 2, dtype=torch.long)
    with torch.no_grad():
        for s in range(2):
            for r in range(4):
                for c in range(4):
                    naive[:, r, c, s] = (net(naive)[:, r, c, s] / temperature + noise[:, r, c, s]).argmax(-1)
    assert torch.equal(drawn, naive)
    assert drawn.unique().numel() > 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: small(outer=3), ArgumentError, "outer: expected an even number, pairs of a row and a column"),
        (lambda: small(inner=-1), ArgumentError, "inner: expected a whole number"),
        (
            lambda: small()(torch.zeros(1, 3, 4, 1, dtype=torch.long)),
            ArgumentError,
            r"x: expected shape \[B, 3, 4, 2\]",
        ),
        (lambda: small()(torch.zeros(1, 3, 4, 2)), ArgumentTypeError, "x: expected integers 0 .. 2"),
        (
            lambda: small().sample(torch.zeros(1, 3, 4, 2, 3), temperature=0.0),
            ArgumentError,
            "temperature: expected a number above 0",
        ),
        (lambda: small().sample(torch.zeros(1, 3, 4, 2)), ArgumentError, r"noise: expected shape \[B, 3, 4, 2, 3\]"),
    ],
)
def test_wrong_arguments_are_answered(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------- learning


def shifted_rows(count, generator):
    """Binary 8 x 8: two random rows, then each the row two above it, three columns on. 0.25 bits per pixel."""
    x = torch.zeros(count, 8, 8, dtype=torch.long)
    x[:, :2] = torch.randint(2, (count, 2, 8), generator=generator)
    for r in range(2, 8):
        x[:, r] = x[:, r - 2].roll(-3, 1)
    return x.unsqueeze(-1)


def unknown_to_columns():
    """How many of the 64 pixels cannot be known from columns up to the own one, in all rows above."""
    count = 0
    for r in range(8):
        for c in range(8):
            same = [(r - 2 * i, (c + 3 * i) % 8) for i in range(1, r // 2 + 1)]  # the pixels that this one repeats
            count += not any(column <= c for _, column in same)
    return count


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "low", "high"), [("both", 0.24, 0.40), ("none", 0.95, 1.1), ("columns", 0.50, 0.60)])
def test_only_rows_and_columns_reach_a_pixel_off_the_axes(kind, low, high):
    """The inner layer attends to all columns up to the own one, so that 34 of 64 pixels are unknown to columns alone:
    0.53 bits at best."""
    assert unknown_to_columns() == 34
    torch.manual_seed(0)
    net = AxialTransformer(8, 8, 1, num_classes=2, dim=64, num_heads=4, outer=0 if kind == "none" else 2, inner=1)
    if kind == "columns":
        net.outer = torch.nn.Sequential(*(AxialBlock(64, 4, axis=0, causal=True) for _ in range(2)))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (1.0 if step < 210 else 0.2)
        optimizer.zero_grad()
        net.loss(shifted_rows(64, generator)).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        bits = float(net.eval().loss(shifted_rows(512, torch.Generator().manual_seed(9))))
    print(f"{kind}: {bits:.3f} bits a pixel")
    assert low <= bits <= high
