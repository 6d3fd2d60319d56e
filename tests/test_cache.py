"""Compiled code computes what a structure alone decides once, and anew when the structure was written to."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from hgraph import Graph, Hypergraph, cache
from hgraph.cache import CachedOperator, can_cache_compiled
from hgraph.nn import GATConv, GCNConv, HGNNConv, HGNNPConv
from hgraph.testing import random_adjacency

CALLS: list[int] = []


def _halves(fields, dtype: torch.dtype) -> list[Tensor]:
    CALLS.append(len(fields))
    return [fields[0].to(dtype) / 2, fields[0].to(dtype) * 3]


HALVES = CachedOperator("test halves", _halves)


def halves(x: Tensor, other: Tensor | None) -> list[Tensor]:
    return HALVES([x, other], torch.float32)


def structures() -> tuple[Graph, Hypergraph]:
    square, wide = random_adjacency(7, 7, 20, seed=1), random_adjacency(4, 7, 12, seed=2)
    positive = [adj.with_weight(torch.rand(adj.num_edges) + 0.5) for adj in (square, wide)]
    return Graph(positive[0]), Hypergraph(positive[1], torch.rand(4) + 0.5)


LAYERS = {"GCN": (GCNConv, 0), "GAT": (GATConv, 0), "HGNN": (HGNNConv, 1), "HGNN+": (HGNNPConv, 1)}


def test_computes_once() -> None:
    x = torch.arange(4.0)
    CALLS.clear()
    for _ in range(3):
        torch.testing.assert_close(halves(x, None), [x / 2, x * 3])
    assert len(CALLS) == 1


def test_computes_anew_after_a_write_and_for_other_tensors() -> None:
    x, other = torch.arange(4.0), torch.ones(2)
    CALLS.clear()
    halves(x, other)
    x.add_(1)
    torch.testing.assert_close(halves(x, other), [x / 2, x * 3])
    other.mul_(2)
    halves(x, other)
    halves(x, other.clone())
    halves(x, None)
    assert len(CALLS) == 5


def test_results_belong_to_the_caller() -> None:
    x = torch.arange(4.0)
    halves(x, None)[0].zero_()
    torch.testing.assert_close(halves(x, None)[0], x / 2)


def test_forgets_with_the_structure() -> None:
    x = torch.arange(4.0)
    before = len(cache._BY_FIELD)
    halves(x, None)
    assert len(cache._BY_FIELD) == before + 1
    del x
    assert len(cache._BY_FIELD) == before


def test_a_structure_and_its_transpose_do_not_hold_each_other() -> None:
    before = len(cache._BY_FIELD)
    adj = random_adjacency(5, 5, 9, seed=3)
    turned = adj.transpose()
    for one in (adj, turned):
        HALVES(one.fields(), torch.float32)
    assert len(cache._BY_FIELD) == before + 2
    del adj, turned, one
    gc.collect()
    assert len(cache._BY_FIELD) == before


def test_in_inference_mode() -> None:
    with torch.inference_mode():
        x = torch.arange(4.0)
        torch.testing.assert_close(halves(x, None), [x / 2, x * 3])
    y = torch.arange(4.0)
    with torch.inference_mode():
        halves(y, None)
    w = torch.ones(4, requires_grad=True)
    torch.autograd.grad((halves(y, None)[0] * w).sum(), w)  # what was first asked for there serves training


def test_eager_code_does_not_use_it() -> None:
    assert not can_cache_compiled([torch.ones(2)])


def test_weights_are_brought_into_an_order_once_for_their_numbers() -> None:
    weight, perm = torch.rand(6), torch.randperm(6)
    for change in (lambda: None, lambda: weight.mul_(2), lambda: perm.copy_(perm.flip(0))):
        change()
        for given in (weight, weight.clone(), weight.double()):
            found = cache.permuted(given, perm)
            torch.testing.assert_close(found, given[perm], rtol=0, atol=0)
            found.zero_()  # belongs to the caller
    assert cache._PERMUTED.get(perm)[0].equal(weight.double())
    for one in (weight, torch.rand(3, len(perm)).t()):
        torch.library.opcheck(torch.ops.hgraph.permuted.default, (one, perm))


def test_operator() -> None:
    torch.library.opcheck(torch.ops.hgraph.cached.default, ([torch.ones(3), None], "test halves", torch.float32))


@pytest.mark.parametrize("name", LAYERS)
def test_compiled_layers_see_writes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, which = LAYERS[name]
    torch._dynamo.reset()
    structure, layer, x = structures()[which], make(3, 2), torch.randn(7, 3)
    recipes = {key: _counted(recipe) for key, recipe in cache._RECIPES.items()}
    monkeypatch.setattr(cache, "_RECIPES", recipes)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, structure), layer(x, structure))
    CALLS.clear()
    torch.testing.assert_close(compiled(x, structure), layer(x, structure))
    assert not CALLS  # remembered
    for tensor in structure.tensors():
        if tensor.is_floating_point():
            tensor.mul_(torch.rand_like(tensor) + 0.5)
    torch.testing.assert_close(compiled(x, structure), layer(x, structure))
    assert CALLS  # forgotten


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_through_a_compiled_structure(name: str) -> None:
    make, which = LAYERS[name]
    torch._dynamo.reset()
    structure, layer, x = structures()[which], make(3, 2), torch.randn(7, 3)
    adj = structure.adj if which == 0 else structure.v2e
    weight = adj.weight.clone().requires_grad_()
    structure = dataclasses.replace(structure, **{"v2e" if which else "adj": adj.with_weight(weight)})
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad(f(x, structure).square().sum(), weight, allow_unused=True) for f in (compiled, layer)]
    torch.testing.assert_close(*grads)


def _counted(recipe):
    def call(fields, dtype: torch.dtype) -> list[Tensor]:
        CALLS.append(len(fields))
        return recipe(fields, dtype)

    return call


def test_loops_for_every_node_take_64_bits_where_edges_and_loops_do_not_fit_32() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from hgraph.nn.graph._steps import _every_loop

    for edges, kind in ((2**31 - 101, torch.int32), (2**31 - 100, torch.int64)):
        with FakeTensorMode():
            each, ends = (torch.empty(n, dtype=torch.int32) for n in (edges, 101))
            made = _every_loop([ends, each, each, ends, each, each, each, each, None, None], torch.float32)
        assert [t.dtype for t in made[:-1]] == [kind] * 8
        assert len(made[1]) == edges + 100


def test_nothing_fake_is_cached() -> None:
    adj = random_adjacency(4, 4, 6)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(cache.cached(adj, "degree", lambda: adj.indptr + 0), FakeTensor)
    assert not isinstance(cache.cached(adj, "degree", lambda: adj.indptr + 0), FakeTensor)
