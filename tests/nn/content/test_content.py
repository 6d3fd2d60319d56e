"""What every layer owes that makes its own structure of the features."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from hgraph.structure import SoftHypergraph
from hgraph.testing import assert_layout_independent


def values(result):
    """The tensor that a layer gives, the participation of its hyperedges, or what a detector found."""
    if isinstance(result, tuple):
        return torch.cat([result.boxes, result.scores, result.logits, result.bins.flatten(2)], -1)
    return result.participation if isinstance(result, SoftHypergraph) else result


def test_gradients(case, make):
    layer, (x, *rest) = make(case).double().eval(), case.inputs(4, seed=1)
    names, parameters = zip(*((n, p) for n, p in layer.named_parameters() if p.requires_grad), strict=True)

    def call(x, *parameters):
        return values(torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, *rest)))

    assert torch.autograd.gradcheck(call, (x.requires_grad_(), *parameters), fast_mode=True)
    assert not case.twice or torch.autograd.gradgradcheck(call, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("examples", [1, 2])
def test_layouts_decide_nothing(case, make, examples, training):
    layer = make(case).double().train(training)
    inputs = [t[:examples] for t in case.inputs(4, seed=1)]
    # torch's batch norm reads its weight as if it were dense; no parameter is made otherwise
    named = [(n, p) for n, p in layer.named_parameters() if p.requires_grad and ".bn." not in f".{n}"]
    names, parameters = zip(*named, strict=True) if named else ((), ())
    x, mask = [t for t in inputs if t.is_floating_point()], [t for t in inputs if not t.is_floating_point()]

    def call(*tensors):
        own = dict(zip(names, tensors[len(x) :], strict=True))
        return values(torch.func.functional_call(layer, own, (*tensors[: len(x)], *mask)))

    assert_layout_independent(call, *x, *parameters, seeds=range(3), tolerance=1e-11)


class ChannelsLastGradient(torch.autograd.Function):
    """The identity; the gradient of a single map arrives at strides (C, 1, W * C, C)."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        _, channels, height, width = grad.shape
        dense = grad.permute(0, 2, 3, 1).contiguous()
        return dense.as_strided((1, channels, height, width), (channels, 1, width * channels, channels))


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_one_map_that_arrive_channels_last(case, make, training):
    layer, inputs = make(case).double().train(training), [t[:1] for t in case.inputs(4, seed=1)]
    if not isinstance(out := layer(*inputs), Tensor) or out.dim() != 4:
        pytest.skip("does not return maps")
    names, parameters = zip(*((n, p) for n, p in layer.named_parameters() if p.requires_grad), strict=True)

    def call(*parameters):
        own = dict(zip(names, parameters, strict=True))
        return ChannelsLastGradient.apply(torch.func.functional_call(layer, own, tuple(inputs)))

    assert torch.autograd.gradcheck(call, parameters, fast_mode=True)


def test_every_parameter_gets_a_gradient(case, make):
    layer = make(case).eval()
    values(layer(*case.inputs(8, dtype=torch.float32))).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name


def test_state_dict_round_trip(case, make, tmp_path):
    one, other, inputs = make(case, 0).eval(), make(case, 1).eval(), case.inputs(6, dtype=torch.float32)
    assert not torch.equal(values(one(*inputs)), values(other(*inputs)))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(values(one(*inputs)), values(other(*inputs)))
    assert torch.equal(values(one(*inputs)), values(copy.deepcopy(one)(*inputs)))


def test_reset_parameters_draws_anew(case):
    layer = case.build()
    trained = [p for p in layer.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.fill_(7.0)
    layer.reset_parameters()
    assert trained
    assert not any((p == 7).any() for p in trained)


def test_samples_do_not_hear_each_other(case, make):
    layer, inputs = make(case).double().eval(), case.inputs(6)
    both = values(layer(*inputs))
    for b in range(2):
        alone = values(layer(*(t[b : b + 1] for t in inputs)))
        torch.testing.assert_close(both[b : b + 1], alone, rtol=1e-12, atol=1e-12)


def test_same_inputs_same_bits(case, make):
    runs = []
    for _ in range(2):
        layer, (x, *rest) = make(case), case.inputs(8, dtype=torch.float32)
        out = values(layer(x.requires_grad_(), *rest))
        trained = [p for p in layer.parameters() if p.requires_grad]
        runs.append((out, *torch.autograd.grad(out.square().sum(), [x, *trained])))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(case, make, dtype):
    layer, inputs = make(case).eval(), case.inputs(8, seed=2, dtype=dtype)
    layer = layer.to(dtype)
    out = values(layer(*inputs))
    exact = copy.deepcopy(layer).double()(*(t.double() if t.is_floating_point() else t for t in inputs))
    assert out.dtype == (torch.float32 if isinstance(exact, SoftHypergraph) else dtype)  # participation stays float32
    assert (out.double() - values(exact)).abs().max() <= 32 * torch.finfo(dtype).eps * values(exact).abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(case, make, dtype):
    layer, (x, *rest) = make(case).eval(), case.inputs(8, dtype=torch.float32)
    x.requires_grad_()
    exact = values(layer(x, *rest))
    with torch.autocast("cpu", dtype):
        out = values(layer(x, *rest))
    assert (out - exact).abs().max() <= 32 * torch.finfo(dtype).eps * exact.abs().max()
    out.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters() if p.requires_grad)


def test_compiles_once_for_all_sizes(case, make):
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter, layer = CompileCounterWithBackend("aot_eager"), make(case).eval()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    frames = []
    for n in (6, 8, 12):
        inputs: tuple[Tensor, ...] = case.inputs(n, seed=n, dtype=torch.float32)
        torch.testing.assert_close(values(compiled(*inputs)), values(layer(*inputs)))
        frames.append(counter.frame_count)
    assert frames == frames[:1] * 3
