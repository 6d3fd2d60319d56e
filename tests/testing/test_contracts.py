"""Each clause of a contract can fail: a layer, decoder or structure that breaks it, and nothing else on purpose."""

from __future__ import annotations

import copy
import doctest
import importlib
import itertools
import unittest
import weakref

import pytest
import torch
from torch import nn

from hgraph import SoftAdjacency, propagate
from hgraph.errors import ArgumentError
from hgraph.nn import SelfAttention
from hgraph.nn.attention import KVState
from hgraph.testing import Case, check_layer, contracts, random_graph, structure_clauses
from hgraph.testing.case import clause_name


class Mean(nn.Module):
    """The mean of the in-neighbors, and a linear map: it fulfills the contract."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def reset_parameters(self):
        self.linear.reset_parameters()

    def forward(self, x, graph):
        return self.finish(self.linear(propagate(graph.adj, x, reduce="mean")), x, graph)

    def finish(self, y, x, graph):
        return y


def inputs(n, seed=0, dtype=torch.float64):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype), random_graph(n, 3 * n, seed=seed)


def finish(function):
    """A `Mean` whose output goes through a function of (module, y, x, graph)."""
    return type("Broken", (Mean,), {"finish": function})


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class WrongSecondGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x.detach()


class UnusedParameter(Mean):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(2))


class RoundsItsWeights(Mean):
    def finish(self, y, x, graph):
        if torch.is_autocast_enabled("cpu"):
            with torch.no_grad():
                self.linear.weight.copy_(self.linear.weight.bfloat16())
        return y


class CachesOneDtype(Mean):
    cache = weakref.WeakKeyDictionary()

    def finish(self, y, x, graph):
        if graph not in self.cache:
            self.cache[graph] = torch.ones((), dtype=x.dtype) / 3
        return y * self.cache[graph]


class UnregisteredState(Mean):
    def __init__(self):
        super().__init__()
        self.factor = torch.randn(()).item()

    def finish(self, y, x, graph):
        return y * self.factor


class SharesParameters(Mean):
    def __deepcopy__(self, memo):
        return copy.copy(self)


class ResetsHalf(Mean):
    def reset_parameters(self):
        nn.init.ones_(self.linear.weight)


class CachesInInferenceMode(Mean):
    factor = None

    def finish(self, y, x, graph):
        if self.factor is None:
            self.factor = torch.full((), 2.0, dtype=x.dtype)
        return y * self.factor


class KeepsTheFirstGraph(Mean):
    first = None

    def forward(self, x, graph):
        if self.first is None or self.first.num_nodes != graph.num_nodes:
            self.first = graph
        return super().forward(x, self.first)


class LosesGradients(Mean):
    def finish(self, y, x, graph):
        return y.detach() + 0 * y if torch.compiler.is_compiling() else y


COUNTER = itertools.count()
BROKEN = {
    "output": [
        (finish(lambda self, y, x, graph: y[:, 0]), "expected an output of shape"),
        (finish(lambda self, y, x, graph: y.float()), "expected torch.float64"),
        (finish(lambda self, y, x, graph: y / 0), "is not finite"),
    ],
    "empty": [(finish(lambda self, y, x, graph: y if len(y) else y.new_zeros(1, 2)), "expected an output of shape")],
    "single": [(finish(lambda self, y, x, graph: y / (y - y.mean(0)).abs().sum()), "is not finite")],
    "gradients": [(finish(lambda self, y, x, graph: WrongGradient.apply(y)), "differ from finite differences")],
    "second_gradients": [
        (finish(lambda self, y, x, graph: WrongSecondGradient.apply(y)), "differ from finite differences")
    ],
    "parameter_gradients": [
        (UnusedParameter, "parameter unused gets no gradient"),
        (finish(lambda self, y, x, graph: y + 0 * self.linear.bias - self.linear.bias), "linear.bias is 0"),
    ],
    "layouts": [(finish(lambda self, y, x, graph: y if x.is_contiguous() else 1.001 * y), "not close")],
    "half": [
        (finish(lambda self, y, x, graph: (y + 64) - 64), "differs by"),
        (finish(lambda self, y, x, graph: y.float()), "expected torch.bfloat16"),
    ],
    "autocast": [(RoundsItsWeights, "the float32 result after autocast")],
    "float64": [
        (CachesOneDtype, "float64 after float32"),
        (
            finish(lambda self, y, x, graph: y * torch.full((), 1 / 3, dtype=torch.float32)),
            "in lower precision: aten.full",
        ),
    ],
    "state_dict": [
        (UnregisteredState, "after loading the state dict"),
        (finish(lambda self, y, x, graph: torch.zeros_like(y)), "different parameters give the same output"),
    ],
    "deepcopy": [(SharesParameters, "after changing a deep copy")],
    "reset": [(ResetsHalf, "leaves linear.bias as it was")],
    "determinism": [(finish(lambda self, y, x, graph: y + 1e-3 * next(COUNTER)), "second result")],
    "inference_mode": [(CachesInInferenceMode, "Inference tensors cannot be saved")],
    "caches": [(KeepsTheFirstGraph, "give the same output")],
    "batch": [(finish(lambda self, y, x, graph: y - y.mean(0)), "a batch of shape")],
    "permutation": [(finish(lambda self, y, x, graph: y + torch.arange(len(y)).unsqueeze(1)), "permuted nodes")],
    "compile": [
        (finish(lambda self, y, x, graph: 2 * y if torch.compiler.is_compiling() else y), "the compiled module"),
        (finish(lambda self, y, x, graph: (torch._dynamo.graph_break(), y)[1]), "graph_break"),
    ],
    "recompile": [(finish(lambda self, y, x, graph: 2 * y if len(y) == 12 else y), "compiled for each size")],
    "compile_gradients": [(LosesGradients, "gradients of the compiled module")],
}
LAYER = {clause_name(check): check for check in contracts.LAYER}


def test_every_clause_has_a_broken_layer():
    assert BROKEN.keys() == LAYER.keys()
    assert BROKEN_DECODERS.keys() == DECODER.keys()
    assert BROKEN_STRUCTURES.keys() == {clause_name(check) for check in contracts.STRUCTURE}


@pytest.mark.parametrize(
    ("name", "module", "message"), [(name, *broken) for name, several in BROKEN.items() for broken in several]
)
def test_a_broken_layer_fails(name, module, message):
    with pytest.raises(Exception, match=message):
        LAYER[name](Case(module, inputs))


def test_a_whole_layer_passes():
    assert check_layer(Case(Mean, inputs)) == {}


def test_clauses_that_do_not_apply_are_skipped_with_their_reason():
    case = Case(finish(lambda self, y, x, graph: WrongGradient.apply(y)), inputs, without={"gradients": "on purpose"})
    with pytest.raises(unittest.SkipTest, match="gradients: on purpose"):
        LAYER["gradients"](case)
    reasons = check_layer(Case(Mean, inputs, without={"compile": "slow", "recompile": "slow"}))
    assert reasons == {"compile": "slow", "recompile": "slow"}
    with pytest.raises(ArgumentError, match="without: expected names of clauses"):
        Case(Mean, inputs, without={"gradient": "a typo"})
    with pytest.raises(ArgumentError, match="without: expected the reason"):
        Case(Mean, inputs, without={"gradients": ""})


# ---------------------------------------------------------------------- decoders


class Decoder(nn.Module):
    def __init__(self, causal=True):
        super().__init__()
        self.layer = SelfAttention(8, 2, causal=causal)

    def forward(self, x, *, state=None):
        return self.layer(x, state=state)


class SeesTheFuture(Decoder):
    def __init__(self):
        super().__init__(causal=False)


class ForgetsTheState(Decoder):
    def forward(self, x, *, state=None):
        if state is not None:
            super().forward(x, state=state)
        return super().forward(x)


class WrongInChunks(Decoder):
    def forward(self, x, *, state=None):
        out = super().forward(x, state=state)
        return out.flip(1) if state is not None and x.shape[1] > 1 else out


class WrongInInferenceMode(Decoder):
    def forward(self, x, *, state=None):
        return super().forward(x, state=state) * (2 if torch.is_inference_mode_enabled() else 1)


class WrongBeams(KVState):
    def reorder(self, index):
        super().reorder(index.flip(0))


class StaleState(KVState):
    def reset(self):
        self._examples = None


class TakesAnyBatch(Decoder):
    def forward(self, x, *, state=None):
        if state is not None and len(state) and len(x) != len(state._stored[0]):
            state = KVState(state.capacity)
        return super().forward(x, state=state)


def tokens(n, seed=0, dtype=torch.float64):
    return (torch.randn(2, n, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype),)


DECODER = {clause_name(check): check for check in contracts.DECODER}
BROKEN_DECODERS = {
    "causality": (SeesTheFuture, KVState, "changes earlier outputs"),
    "tokens": (ForgetsTheState, KVState, "decoding"),
    "chunks": (WrongInChunks, KVState, "decoding"),
    "prompt": (WrongInInferenceMode, KVState, "decoding"),
    "reorder": (Decoder, WrongBeams, "reorder"),
    "reset_state": (Decoder, StaleState, "reset"),
    "examples": (TakesAnyBatch, KVState, "accepts 1 example"),
}


@pytest.mark.parametrize("name", BROKEN_DECODERS)
def test_a_broken_decoder_fails(name):
    module, state, message = BROKEN_DECODERS[name]
    with pytest.raises(AssertionError, match=message):
        DECODER[name](Case(module, tokens, state=lambda _, n: state(n)))


@pytest.mark.parametrize("check", contracts.DECODER)
def test_a_whole_decoder_passes(check):
    check(Case(Decoder, tokens, state=lambda _, n: KVState(n)))


# ---------------------------------------------------------------------- structures


def broken(**methods):
    """A structure with other methods."""
    return type("Broken", (SoftAdjacency,), methods)(torch.rand(3, 4))


BROKEN_STRUCTURES = {
    "equality": (broken(equal=lambda self, other: True), "a structure equals None"),
    "copies": (broken(__deepcopy__=lambda self, memo: self), "shares memory"),
    "file": (SoftAdjacency(torch.rand(3, 4)), "from its file is not equal"),
    "damaged_file": (SoftAdjacency(torch.rand(3, 4)), "load reads a file cut to 0"),
    "device": (broken(to=lambda self, device: copy.deepcopy(self)), "is a copy"),
    "text": (broken(__repr__=lambda self: f"Broken({self.weight.tolist()}\n)"), "characters|lines"),
}


@pytest.mark.parametrize("name", BROKEN_STRUCTURES)
def test_a_broken_structure_fails(name, monkeypatch):
    structure, message = BROKEN_STRUCTURES[name]
    if name in ("file", "damaged_file"):
        monkeypatch.setattr(structure_clauses, "load", lambda path: SoftAdjacency(structure.weight + 1))
    check = next(check for check in contracts.STRUCTURE if clause_name(check) == name)
    with pytest.raises(AssertionError, match=message):
        check(structure)


# ---------------------------------------------------------------------- documentation


def test_the_examples_are_true():
    names = ("case", "combinations", "contracts", "inputs", "layouts", "relabel", "tolerances")
    for name in names:
        tests = doctest.DocTestFinder().find(importlib.import_module(f"hgraph.testing.{name}"))
        assert any(test.examples for test in tests)
        for test in tests:  # compiled code needs its globals for as long as it lives
            assert not doctest.DocTestRunner(verbose=False).run(test, clear_globs=False).failed
