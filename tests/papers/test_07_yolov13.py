"""YOLOv13 (Lei et al., 2025): exact sizes and costs, parity with plain functions, wiring, limits, a learning task."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hgraph import attend
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models import YOLOv13
from hgraph.models.vision import yolov13
from hgraph.nn import SoftHGNN
from hgraph.nn.vision import (
    C3AH,
    A2C2f,
    AreaAttention,
    ConvBlock,
    Detect,
    DSBottleneck,
    DSC3k,
    DSC3k2,
    DSConv,
    FullPAD,
    HyperACE,
    area_adjacency,
)

_SPEC = importlib.util.spec_from_file_location("naive_yolov13", Path(__file__).with_name("naive_yolov13.py"))
naive = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(naive)

# Parameters of layers 0 to 32 with 80 classes (the published table).
PARAMETERS = {
    "n": (464, 2368, 5792, 9344, 20800, 17792, 174720, 34432, 677120, 273536, 0, 33280, 1, 1, 1, 0, 0, 115328, 1, 0, 0,
          35136, 8320, 1, 36992, 0, 90752, 1, 147712, 0, 345344, 1, 464912),
    "s": (928, 9344, 20800, 37120, 78464, 68352, 677120, 134400, 2664960, 1343744, 0, 132096, 1, 1, 1, 0, 0, 443648, 1,
          0, 0, 131712, 33024, 1, 147712, 0, 345344, 1, 590336, 0, 1346048, 1, 850368),
    "l": (1856, 37120, 164864, 147968, 624640, 267776, 4540416, 267776, 4540416, 5424128, 0, 0, 1, 1, 1, 0, 0, 2165760,
          1, 0, 0, 689664, 131584, 1, 590336, 0, 2034688, 1, 2360320, 0, 2165760, 1, 1472704),
    "x": (2784, 83328, 357888, 332544, 1379328, 598272, 10152960, 598272, 10152960, 14532096, 0, 0, 1, 1, 1, 0, 0,
          4821504, 1, 0, 0, 1526016, 295680, 1, 1327872, 0, 4526592, 1, 5309952, 0, 4821504, 1, 3237952),
}  # fmt: skip
TOTALS = {"n": 2_494_151, "s": 9_055_527, "l": 27_627_783, "x": 64_057_511}
CHANNELS = {
    "n": (16, 32, 64, 64, 128, 128, 128, 256, 256, 128, 128, 256, 128, 128, 256, 256, 384, 128, 128, 128, 256, 64, 64,
          64, 64, 192, 128, 128, 128, 384, 256, 256),
    "x": (96, 192, 384, 384, 768, 768, 768, 768, 768, 768, 768, 768, 768, 768, 768, 768, 1536, 768, 768, 768, 1536, 384,
          384, 384, 384, 1152, 768, 768, 768, 1536, 768, 768),
}  # fmt: skip
# SHA-256 of the sorted lines "key<tab>shape" of the published state dicts; S has N's keys, X has L's.
STATE = {
    "n": (898, "9f1e3962e676a4c091526363f0b30168d79ff266e338870f3036a2220c00c09a"),
    "l": (1568, "a6c92ba5819f514c75002ce9ca0c5382c1f371974d70d26db09c28789ca8ff45"),
}
GFLOPS = {"n": (6.206, 7.247), "s": (19.922, 22.119), "l": (84.768, 92.206), "x": (188.388, 200.215)}
# The inputs of each layer.
READS = {i: (i - 1,) for i in range(33)} | {
    9: (4, 6, 8), 10: (9,), 11: (9,), 12: (6, 9), 13: (4, 10), 14: (8, 11), 16: (15, 12), 18: (17, 9), 19: (17,),
    20: (19, 13), 22: (10,), 23: (21, 22), 25: (24, 18), 27: (26, 9), 28: (26,), 29: (28, 14), 31: (30, 11),
    32: (23, 27, 31),
}  # fmt: skip


@pytest.fixture(scope="module")
def empty_nets():
    with torch.device("meta"):
        return {scale: YOLOv13(scale) for scale in "nslx"}


def seeded(module, seed=0):
    """A random state dict with nonzero gates and bounded activations."""
    generator, state = torch.Generator().manual_seed(seed), module.state_dict()
    for name, value in state.items():
        if not value.is_floating_point() or "dfl" in name:
            continue
        noise = torch.randn(value.shape, generator=generator)
        fan = math.sqrt(max(value[0].numel() if value.dim() > 1 else 1, 1))
        if name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(value.shape, generator=generator)
        elif name.endswith(("bn.weight", "gate", "gamma")):
            state[name] = (0.4 if ".attn." in name or ".mlp." in name else 1) * (1 + 0.2 * noise)  # residuals add up
        else:
            state[name] = (1.0 if value.dim() > 1 else 0.2) * noise / fan
    module.load_state_dict(state)
    return module.eval()


def image(*shape, seed=1, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture(scope="module")
def net():
    return seeded(YOLOv13("n"))


# ---------------------------------------------------------------------- check 1: sizes


@pytest.mark.parametrize("scale", "nslx")
def test_parameters_of_every_layer(empty_nets, scale):
    counts = tuple(sum(p.numel() for p in layer.parameters()) for layer in empty_nets[scale].model)
    assert counts == PARAMETERS[scale]
    assert sum(counts) == TOTALS[scale]


@pytest.mark.parametrize("scale", "nslx")
def test_state_dict_is_the_published_one(empty_nets, scale):
    state = empty_nets[scale].state_dict()
    shapes = {k: "x".join(map(str, v.shape)) if v.dim() else "scalar" for k, v in state.items()}
    if scale in STATE:
        text = "\n".join(sorted(f"{k}\t{shape}" for k, shape in shapes.items()))
        assert (len(shapes), hashlib.sha256(text.encode()).hexdigest()) == STATE[scale]
    assert set(state) == set(empty_nets["l" if scale in "lx" else "n"].state_dict())


@pytest.mark.parametrize("scale", "nx")
def test_channels_of_every_layer(empty_nets, scale):
    net, seen = empty_nets[scale].eval(), {}
    hooks = [layer.register_forward_hook(lambda m, i, out, at=at: seen.update({at: out}))
             for at, layer in enumerate(net.model)]  # fmt: skip
    with torch.no_grad():
        net(torch.empty(1, 3, 64, 96, device="meta"))
    for hook in hooks:
        hook.remove()
    assert tuple(seen[i].shape[1] for i in range(32)) == CHANNELS[scale]
    assert [tuple(seen[i].shape[-2:]) for i in (4, 6, 8, 9, 23, 27, 31)] == [
        (8, 12), (4, 6), (2, 3), (4, 6), (8, 12), (4, 6), (2, 3)
    ]  # fmt: skip


def test_size_of_one_hypergraph_convolution():
    for d, m, count in ((64, 4, 45_760), (128, 8, 313_728), (256, 8, 1_250_048), (384, 12, 3_991_680)):
        assert sum(p.numel() for p in SoftHGNN(d, m, d // 16, gate=False).parameters()) == count


# ---------------------------------------------------------------------- check 2: cost


@pytest.mark.parametrize("scale", "nslx")
def test_flops(empty_nets, scale):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        empty_nets[scale].eval()(torch.empty(1, 3, 640, 640, device="meta"))
    convolution = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert round(convolution / 1e9, 3) == GFLOPS[scale][0]
    assert counter.get_total_flops() / 1e9 == pytest.approx(GFLOPS[scale][1], rel=1e-3)


def test_cost_is_proportional_to_the_number_of_pixels():
    d, m, layer = 64, 4, SoftHGNN(64, 4, 4, gate=False).to("meta")

    def cost(n):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(torch.empty(1, n, d, device="meta"))
        return counter.get_total_flops()

    once = 2 * (2 * d * m * d) + 2 * m * d * d
    assert cost(4 * 1600) - once == 4 * (cost(1600) - once)


# ---------------------------------------------------------------------- parity with plain functions


def parity(module, formula, *maps, tolerance=1e-10):
    module = seeded(module.double())
    sd = {f"m.{k}": v for k, v in module.state_dict().items()}
    torch.testing.assert_close(module(*maps), formula(sd, "m", *maps), rtol=tolerance, atol=tolerance)


def maps(*shape, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 2, 1), (3, 1, 2), (5, 1, 4), (3, 2, 4)])
def test_convblock_parity(kernel, stride, groups):
    for act in (True, False):
        layer = ConvBlock(4, 8, kernel, stride=stride, groups=groups, activation=act)
        parity(layer, lambda sd, p, x, a=act: naive.conv(sd, p, x, stride, a), maps(2, 4, 7, 6))


@pytest.mark.parametrize("stride", [1, 2])
def test_dsconv_parity(stride):
    parity(DSConv(4, 6, 3, stride=stride), lambda sd, p, x: naive.dsconv(sd, p, x, stride), maps(2, 4, 7, 6))


def test_dsbottleneck_parity():
    parity(DSBottleneck(4), naive.bottleneck, maps(2, 4, 7, 6))


@pytest.mark.parametrize("expansion", [0.5, 1.0])
def test_dsc3k_parity(expansion):
    parity(DSC3k(8, expansion=expansion), naive.dsc3k, maps(2, 8, 7, 6))


@pytest.mark.parametrize("dsc3k", [False, True])
@pytest.mark.parametrize("num_blocks", [1, 2])
def test_dsc3k2_parity(dsc3k, num_blocks):
    parity(DSC3k2(6, 16, num_blocks, dsc3k=dsc3k, expansion=0.25), naive.dsc3k2, maps(2, 6, 7, 6))


@pytest.mark.parametrize("area", [1, 2, 4])
def test_areaattention_parity(area):
    layer = AreaAttention(8, 2, area=area)
    parity(layer, lambda sd, p, x: naive.area_attention(sd, p, x, area, head=4), maps(2, 8, 4, 6))


@pytest.mark.parametrize("residual", [False, True])
def test_a2c2f_parity(residual):
    layer = A2C2f(128, 128, 2, area=4, residual=residual, mlp_ratio=1.5 if residual else 2.0)
    parity(layer, lambda sd, p, x: naive.a2c2f(sd, p, x, 4), maps(2, 128, 4, 6), tolerance=1e-9)


def test_c3ah_parity():
    parity(C3AH(8, 32, 3), naive.c3ah, maps(2, 8, 4, 6))


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_hyperace_parity(num_blocks):
    inputs = maps(2, 6, 8, 12), maps(2, 8, 4, 6), maps(2, 10, 2, 3)
    parity(HyperACE((6, 8, 10), 32, num_blocks, num_hyperedges=3), naive.hyperace, *inputs)


def test_fullpad_parity():
    parity(FullPAD(), naive.tunnel, maps(2, 4, 3, 3), maps(2, 4, 3, 3, seed=4))


def test_detect_parity():
    layer = seeded(Detect((8, 16, 16), 5).double())
    inputs = [maps(2, c, *size) for c, size in ((8, (4, 8)), (16, (2, 4)), (16, (1, 2)))]
    boxes, scores = naive.detect({f"m.{k}": v for k, v in layer.state_dict().items()}, "m", inputs)
    found = layer(*inputs)
    torch.testing.assert_close(found.boxes, boxes, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.scores, scores, rtol=1e-10, atol=1e-10)


def compare_with_plain_functions(scale, height, width):
    net, x = seeded(YOLOv13(scale)), image(2, 3, height, width)
    with torch.no_grad():
        (boxes, scores), _ = naive.network(net.state_dict(), x)
        found = net(x)
        torch.testing.assert_close(found.boxes, boxes, rtol=1e-4, atol=1e-4 * 8)  # distances, in cells of 8 pixels
        torch.testing.assert_close(found.scores, scores, rtol=0, atol=1e-4)
        assert scores.std() > 0.01
        assert boxes.std() > 1
    net, x = net.double(), x.double()
    with torch.no_grad():
        (boxes, scores), _ = naive.network(net.state_dict(), x)
        torch.testing.assert_close(net(x).boxes, boxes, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(net(x).scores, scores, rtol=1e-8, atol=1e-8)


def test_yolov13_parity():
    compare_with_plain_functions("n", 64, 96)


@pytest.mark.slow
@pytest.mark.parametrize("scale", "slx")
def test_yolov13_parity_of_the_larger(scale):
    compare_with_plain_functions(scale, 64, 96)


# ---------------------------------------------------------------------- wiring


def changed_layers(net):
    """Which layers' outputs change when one layer's output does."""
    x, seen, shift = image(1, 3, 64, 64), {}, {}

    def record(at):
        def hook(module, inputs, out):
            kept = out.logits if at == 32 else out
            if shift.get("at") == at:
                out = kept = kept + shift["by"][: kept.shape[1], None, None]
            seen[at] = kept
            return out

        return hook

    hooks = [layer.register_forward_hook(record(at)) for at, layer in enumerate(net.model)]
    try:
        with torch.no_grad():
            net(x)
            before, found = dict(seen), {}
            for at in range(32):
                shift.update(at=at, by=torch.randn(1024, generator=torch.Generator().manual_seed(at)))
                net(x)
                found[at] = {i for i in range(33) if not torch.equal(seen[i], before[i])} - {at}
    finally:
        for hook in hooks:
            hook.remove()
    return found


def downstream():
    """By the published table."""
    found = {}
    for at in range(32):
        reached = {at}
        for layer in range(at + 1, 33):
            if reached & set(READS[layer]):
                reached.add(layer)
        found[at] = reached - {at}
    return found


def reads(net):
    """The layers whose outputs each layer reads, in order."""
    outputs, given = {}, {}

    def record(at):
        def hook(module, inputs, out):
            given[at] = tuple(next((i for i, kept in outputs.items() if kept is x), -1) for x in inputs)
            outputs[at] = out

        return hook

    hooks = [layer.register_forward_hook(record(at)) for at, layer in enumerate(net.model)]
    with torch.no_grad():
        net(image(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return given


def test_a_change_reaches_exactly_the_layers_downstream(net):
    assert changed_layers(net) == downstream()


def test_the_inputs_of_every_layer(net):
    assert reads(net) == READS


@pytest.mark.parametrize(
    ("layer", "wrong", "by_changes"),
    [(28, (27,), True), (24, (21,), True), (19, (18,), True), (31, (30, 14), False), (18, (17, 12), False)],
)
def test_wrong_wiring_is_detected(net, monkeypatch, layer, wrong, by_changes):
    """Each of these preserves all shapes and counts; the last two also the layers that a change reaches."""
    faulty = tuple(wrong if i == layer else inputs for i, inputs in enumerate(yolov13._INPUTS))
    monkeypatch.setattr(yolov13, "_INPUTS", faulty)
    monkeypatch.setattr(yolov13, "_LAST_USE", {i: n for n, inputs in enumerate(faulty) for i in inputs})
    assert reads(net) != READS
    if by_changes:
        assert changed_layers(net) != downstream()


# ---------------------------------------------------------------------- check 3 and 4: the hypergraph convolution


def test_one_hyperedge_without_prototype_gets_the_mean():
    layer, n = seeded(SoftHGNN(32, 1, 2, gate=False).double()), 6
    with torch.no_grad():
        for parameter in (layer.edge_generator.prototype_base, *layer.edge_generator.context_net.parameters()):
            parameter.zero_()
    x = maps(2, n, 32)
    y = F.gelu(layer.edge_proj[0](x.mean(1, keepdim=True)))
    torch.testing.assert_close(layer(x), x + F.gelu(layer.node_proj[0](y / n)), rtol=0, atol=1e-13)


def test_pixels_may_be_in_any_order():
    layer, x = seeded(SoftHGNN(32, 3, 2, gate=False)), torch.randn(2, 20, 32)
    order = torch.randperm(20)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], rtol=1e-6, atol=1e-6)


def test_gradcheck_of_the_hypergraph_convolution():
    layer = SoftHGNN(16, 2, 1, gate=False, dropout=0.0).double()
    assert torch.autograd.gradcheck(layer, (maps(1, 4, 16).requires_grad_(),))


# ---------------------------------------------------------------------- check 5: facts at initialization


def test_gates_are_initially_zero():
    torch.manual_seed(0)
    net, x = YOLOv13("n", num_classes=3), image(2, 3, 64, 64)
    with torch.no_grad():
        before = net.eval()(x)
        removed = net.model[9].register_forward_hook(lambda module, inputs, out: torch.zeros_like(out))
        after = net(x)
        removed.remove()
    assert torch.equal(before.boxes, after.boxes)
    assert torch.equal(before.scores, after.scores)

    found = net.train()(x)
    (found.boxes.square().mean() + found.logits.square().mean()).backward()
    gates = [m.gate.grad for m in net.modules() if isinstance(m, FullPAD)]
    assert len(gates) == 7
    assert all(float(g.abs()) > 0 for g in gates)
    for number in (9, 11, 22):  # only used through gates, which are zero
        assert all(not p.grad.any() for p in net.model[number].parameters())
    others = [p for i, layer in enumerate(net.model) if i not in (9, 11, 22) for p in layer.parameters()]
    assert all(p.grad.abs().sum() > 0 for p in others if p.requires_grad)


def test_initial_biases_are_for_small_and_rare_objects():
    head = YOLOv13("n").model[32]
    for level, stride in enumerate((8, 16, 32)):
        assert head.cv2[level][2].bias.tolist() == [1.0] * 64
        expected = torch.full((80,), math.log(5 / 80 / (640 / stride) ** 2))
        torch.testing.assert_close(head.cv3[level][2].bias.detach(), expected)
    weights = [m.weight for m in YOLOv13("n").model[6].m.modules() if isinstance(m, nn.Conv2d)]
    assert all(abs(float(w.detach().std()) - 0.02) < 0.004 for w in weights)


# ---------------------------------------------------------------------- check 6: area attention is attention on a graph


@pytest.mark.parametrize("area", [1, 4])
def test_area_attention_is_attend_on_a_block_diagonal_token_graph(area):
    layer, x = seeded(AreaAttention(8, 2, area=area).double()), maps(2, 8, 4, 6)

    def tokens(y):
        return y.flatten(2).mT.unflatten(-1, (2, 4))  # [B, N, H, D]

    q, k = layer.qk(x).chunk(2, 1)
    v = layer.v(x)
    graph = area_adjacency(4, 6, area)
    assert graph.num_edges == 24 * 24 // area
    out = attend(graph, tokens(q), tokens(k), tokens(v)).out.flatten(-2).mT.unflatten(-1, (4, 6))
    torch.testing.assert_close(layer(x), layer.proj(out + layer.pe(v)), rtol=1e-12, atol=1e-12)
    mask = graph.dense() > 0
    dense = F.scaled_dot_product_attention(*(tokens(t).transpose(1, 2) for t in (q, k, v)), attn_mask=mask)
    torch.testing.assert_close(dense.transpose(1, 2).flatten(-2).mT.unflatten(-1, (4, 6)), out, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- check 7: learning


def counting_scene(batch, generator):
    """64 x 64 pixels, one or eight objects of each of three colors, in cells of 8 pixels. An object's label: its
    color, and whether there are many of the next color, anywhere."""
    many = torch.rand(batch, 3, generator=generator) < 0.5
    order = torch.rand(batch, 64, generator=generator).argsort(-1)  # eight places for each color
    shown = torch.where(many, 8, 1)
    place = order[:, :24].view(batch, 3, 8)
    kind = torch.zeros(batch, 64, dtype=torch.long)
    for c in range(3):
        on = torch.arange(8) < shown[:, c : c + 1]
        kind.scatter_add_(1, place[:, c], on * (c + 1))
    images = F.one_hot(kind.view(batch, 8, 8), 4)[..., 1:].float().permute(0, 3, 1, 2)
    images = images.repeat_interleave(8, 2).repeat_interleave(8, 3)
    images = images + 0.1 * torch.randn(batch, 3, 64, 64, generator=generator)
    next_many = many.roll(-1, 1).long().gather(1, (kind - 1).clamp(min=0))
    return images, torch.where(kind > 0, 2 * (kind - 1) + next_many, -1).view(batch, 8, 8)


class Counter(nn.Module):
    """Stride 4, a block at 16 x 16, a label for each cell of the grid of 8."""

    def __init__(self, block):
        super().__init__()
        self.stem = nn.Sequential(ConvBlock(3, 32, 3, stride=2), ConvBlock(32, 32, 3, stride=2))
        self.block, self.head = block, nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(32, 6, 1))

    def forward(self, x):
        x = self.stem(x)
        if isinstance(self.block, SoftHGNN):
            return self.head(self.block(x.flatten(2).mT).mT.unflatten(-1, x.shape[-2:]))
        return self.head(x + self.block(x))


def accuracy_after_training(model, seed, steps=600):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(steps):
        x, y = counting_scene(16, generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y, ignore_index=-1).backward()
        optimizer.step()
        schedule.step()
    x, y = counting_scene(300, torch.Generator().manual_seed(999))
    with torch.no_grad():
        hit = (model.eval()(x).argmax(1) == y)[y >= 0]
    return hit.float().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_counting_elsewhere_is_learned(seed):
    torch.manual_seed(seed)
    soft = SoftHGNN(32, 4, 2, gate=False, dropout=0.0)
    with torch.no_grad():
        soft.node_proj[0].weight.mul_(
            256 / 4
        )  # a node receives a total weight of M / N, so training from the default scale takes too long
    local = nn.Sequential(DSConv(32, 180, 3), ConvBlock(180, 32))
    assert sum(p.numel() for p in local.parameters()) >= sum(p.numel() for p in soft.parameters())
    scores = accuracy_after_training(Counter(soft), seed), accuracy_after_training(Counter(local), seed)
    print(scores)
    assert scores[0] >= scores[1] + 0.10


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: YOLOv13(""), ArgumentError, "scale: expected one of n, s, l, x, got ''"),
        (lambda: YOLOv13("m"), ArgumentError, "scale: expected one of n, s, l, x, got 'm'"),
        (lambda: YOLOv13("n", 0), ArgumentError, "num_classes: expected a whole number, 1 or more"),
        (lambda: YOLOv13("n")(torch.zeros(1, 3, 48, 64)), ArgumentError, "multiples of 32, got shape"),
        (lambda: YOLOv13("n")([1]), ArgumentTypeError, "images: expected a tensor, got list"),
        (lambda: C3AH(8, 24), ArgumentError, "channels: expected a multiple of 16"),
        (lambda: A2C2f(8, 32), ArgumentError, "out_channels: expected a multiple of 64"),
        (lambda: A2C2f(8, 64, residual=True), ArgumentError, "residual: expected in_channels equal to out_channels"),
        (lambda: AreaAttention(8, 3), ArgumentError, "num_heads: expected a divisor of channels, 8, got 3"),
        (lambda: AreaAttention(8, 2, area=4)(torch.zeros(1, 8, 3, 3)), ArgumentError, "divide into 4 areas, got 3 x 3"),
        (lambda: HyperACE((8, 8), 32), ArgumentError, "in_channels: expected three numbers"),
        (
            lambda: HyperACE((8, 8, 8), 32)(*(torch.zeros(1, 8, n, n) for n in (8, 4, 4))),
            ArgumentError,
            "p3, p4, p5: expected maps of 8 x 8, 4 x 4 and 2 x 2, got 8 x 8, 4 x 4 and 4 x 4",
        ),
        (lambda: area_adjacency(3, 3, 2), ArgumentError, "area: expected a divisor of 3 x 3 pixels, got 2"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
