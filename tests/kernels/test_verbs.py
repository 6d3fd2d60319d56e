"""Every verb runs only on kernels, compiles, supports autocast, and has the expected number of launches."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton")

from hgraph import (
    Additive,
    Adjacency,
    Hypergraph,
    attend,
    attend_groups,
    backend,
    edge_score,
    edge_softmax,
    errors,
    nn,
    patterns,
    propagate,
)
from hgraph.kernels import split
from hgraph.testing import random_adjacency

_SPEC = importlib.util.spec_from_file_location("verbs", Path(__file__).with_name("verbs.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
verbs = sys.modules["verbs"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(verbs)
ADJ, VERBS, ATTENTION, TILED, H, D = verbs.ADJ, verbs.VERBS, verbs.ATTENTION, verbs.TILED, verbs.H, verbs.D
leaf, numbers, run, structures = verbs.leaf, verbs.numbers, verbs.run, verbs.structures


@pytest.fixture
def torch_path_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the functions of the reference in plain torch raise an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the torch path was taken")

    for owner, name in (
        (F, "embedding_bag"), (torch, "segment_reduce"), (torch.sparse, "mm"), (Tensor, "index_add_"),
        (Tensor, "index_put_"), (Tensor, "scatter_add_"), (Tensor, "unflatten"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)


@pytest.mark.parametrize("verb", VERBS)
def test_runs_only_on_kernels(verb: str, device: str, request: pytest.FixtureRequest) -> None:
    edges = structures(verb, device)[0]
    given = numbers(verb, edges)
    with backend("torch"):
        want = run(verb, edges, given)
    if verb not in ATTENTION:
        request.getfixturevalue("torch_path_raises")
    out, *grads = run(verb, edges, given)
    torch.testing.assert_close(out, want[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grads, want[1:], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("verb", ATTENTION)
def test_attention_never_composes(verb: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the torch path was taken")

    for owner, name in (
        (F, "embedding_bag"), (torch, "segment_reduce"), (Tensor, "index_add_"), (Tensor, "index_put_"), (torch, "bmm"),
        (F, "scaled_dot_product_attention"), (torch, "softmax"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)
    edges = structures(verb, device)[0]
    run(verb, edges, numbers(verb, edges))


FIRST = ("sum", "attend", "softmax scan")


@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=() if v in FIRST else pytest.mark.slow) for v in VERBS if v not in TILED]
)
def test_compiles_once_for_all_sizes(verb: str, device: str, unpoisoned: None) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(VERBS[verb][0], fullgraph=True, dynamic=True, backend="aot_eager")
    for i, size in enumerate([(6, 12, 19), (9, 7, 33)]):
        adj = random_adjacency(*size, seed=i).to(device)
        given = numbers(verb, adj)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            out = compiled(adj, *given)
            torch.testing.assert_close(out, VERBS[verb][0](adj, *given))
        out.square().sum().backward()


@pytest.mark.parametrize("verb", VERBS)
def test_autocast(verb: str, device: str) -> None:
    """Inputs are outputs of a linear layer; no verb changes the precision or fails for mixed precisions."""
    edges = structures(verb, device)[0]
    given = numbers(verb, edges)
    with torch.autocast(device, dtype=torch.bfloat16):
        half = [t @ torch.eye(t.shape[-1], device=device) if t.shape[-1] == D else t for t in given]
        out = VERBS[verb][0](edges, *half)
        exact = VERBS[verb][0](edges, *(t.float() for t in half))
    assert any(t.dtype == torch.bfloat16 for t in half) == ("D" in VERBS[verb][1])
    assert out.dtype in (torch.bfloat16, torch.float32)
    torch.testing.assert_close(out.float(), exact.float(), rtol=0.05, atol=0.05)
    out.float().square().sum().backward()


def test_unsupported_calls_are_rejected(device: str) -> None:
    q = torch.zeros(6, 1, 2000, device=device)
    k = torch.zeros(5, 1, 2000, device=device)
    with pytest.raises(errors.BackendError, match="'triton' does not compute 'attend'"):
        attend(ADJ.to(device), q, k, k)
    with backend("auto"):
        assert attend(ADJ.to(device), q, k, k).out.shape == (6, 1, 2000)


def test_attention_to_groups_is_rejected(device: str) -> None:
    q, handle, k = (torch.zeros(shape, device=device) for shape in ((1, 1, 1, 1), (2, 1, 1), (2, 3, 1, 1)))
    groups = patterns.full(1, 2).to(device)
    with pytest.raises(errors.BackendError, match="'triton' does not compute 'group_attend'"):
        attend_groups(groups, q, handle, k, k)
    with backend("auto"):
        assert attend_groups(groups, q, handle, k, k).out.shape == (1, 1, 1, 1)


def test_second_order_goes_through_the_kernels(device: str) -> None:
    adj = random_adjacency(3, 3, 6, seed=1).to(device)
    x = torch.randn(3, 2, device=device, dtype=torch.float64, requires_grad=True)
    w = torch.randn(6, device=device, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, w: propagate(adj, x, weight=w), (x, w), nondet_tol=0, fast_mode=True)


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_compiled_again_for_another_number_of_edges(
    verb: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launches over two structures differ only in sizes, on which no kernel is specialized."""
    launcher, method = _launcher(device)
    keys: list[list[object]] = []
    before = getattr(launcher, method)

    def noted(self, *args, **kwargs):
        names = self.arg_names
        given = dict(zip(names, args, strict=False)) | kwargs
        numbers = {name for name, value in given.items() if isinstance(value, int) and name.islower()}
        assert numbers - {"grid", "warmup", "num_warps", "num_stages", "enable_fp_fusion"} <= set(split.SIZES)
        constants = {
            n: str(v) for n, v in given.items() if not isinstance(v, Tensor) and n not in (*split.SIZES, "grid")
        }
        keys[-1].append((getattr(self, "fn", self).__name__, constants))
        return before(self, *args, **kwargs)

    monkeypatch.setattr(launcher, method, noted)
    for edges in structures(verb, device):
        keys.append([])
        run(verb, edges, numbers(verb, edges))
    assert keys[0] == keys[1]


def _launcher(device: str) -> tuple[type, str]:
    """The class and the method that launch kernels."""
    if device == "cpu":
        from triton.runtime.interpreter import GridExecutor

        return GridExecutor, "__call__"
    from triton.runtime.jit import JITFunction

    return JITFunction, "run"


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, device: str) -> list[str]:
    """The kernels launched, in order."""
    names: list[str] = []
    launcher, method = _launcher(device)
    before = getattr(launcher, method)

    def counted(self, *args, **kwargs):
        names.append(getattr(self, "fn", self).__name__)
        return before(self, *args, **kwargs)

    monkeypatch.setattr(launcher, method, counted)
    return names


def test_a_hypergraph_step_is_two_launches(launches: list[str], device: str) -> None:
    """All degrees and weights are folded into the two sums."""
    hg = Hypergraph.from_lists(
        [[0, 1, 2], [2, 3], [1, 3, 4]], num_nodes=5, hyperedge_weight=torch.tensor([0.5, 2.0, 1.0])
    ).to(device)
    for layer in (nn.HGNNConv(3, 2), nn.HGNNPConv(3, 2)):
        layer.to(device)(torch.ones(5, 3, device=device), hg)  # prepares the structure
        launches.clear()
        layer(torch.ones(5, 3, device=device), hg)
        assert launches == ["_reduce_parts"] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mean_is_one_launch_each_way(launches: list[str], device: str, dtype: torch.dtype) -> None:
    x = torch.ones(5, 3, device=device, dtype=dtype, requires_grad=True)
    propagate(ADJ.to(device), x, reduce="mean").sum().backward()
    assert launches == ["_reduce_parts"] * 2


def test_attention_forward_is_one_launch_and_backward_three(launches: list[str], device: str) -> None:
    adj = ADJ.to(device)
    q, k, v = (torch.ones(n, H, D, device=device, requires_grad=True) for n in (6, 5, 5))
    out = attend(adj, q, k, v).out
    assert launches == ["_attend_parts"]
    launches.clear()
    out.sum().backward()
    assert launches == ["_dot", "_row_parts", "_column_parts"]  # the first is delta


def _step(kind: str, edges: Adjacency) -> list[Tensor]:
    """A verb's result and gradients over a structure of many edges."""
    t, s = edges.num_targets, edges.num_sources
    x, q, k = leaf(s, 3), leaf(t, 1, 2), leaf(s, 1, 2)
    leaves = {"attend": [q, k, x.unsqueeze(1)], "vector": [q, k, leaf(1, 2)], "softmax": [leaf(edges.num_edges, 1)]}
    given = [u.detach().to(edges.device).requires_grad_() for u in leaves.get(kind, [x])]
    if kind == "attend":
        out = attend(edges, *given).out
    elif kind == "vector":
        out = edge_score(edges, *given[:2], score=Additive(given[2]))
    elif kind == "softmax":
        out = edge_softmax(edges, *given)
    else:
        out = propagate(edges, *given, reduce=kind)  # type: ignore[arg-type]
    return [out.detach(), *torch.autograd.grad(out.square().sum(), given)]


MANY = random_adjacency(40, 30, 560, seed=1)
TO_HUB = Adjacency.from_coo(
    target=torch.cat([MANY.target, torch.full((520,), 7)]), source=torch.cat([MANY.indices, torch.arange(520) % 30]),
    num_targets=40, num_sources=30, duplicates="keep",
)  # fmt: skip
# Launches that put long rows together: forward and backward over short rows, over rows with a hub, over columns with
# one, and over structures whose longest row is unknown.
COMBINED = {
    "sum": (0, 1, 1, 2), "mean": (0, 1, 1, 2), "max": (0, 2, 1, 3), "attend": (0, 2, 2, 4), "vector": (0, 1, 1, 2),
    "softmax": (0, 2, 0, 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", COMBINED)
def test_parts_of_long_rows_are_combined_only_if_there_may_be_some(kind: str, launches: list[str], device: str) -> None:
    unknown = Adjacency.trusted(indptr=MANY.indptr.clone(), indices=MANY.indices, num_sources=30)
    found, results = [], []
    for adj in (MANY, TO_HUB, TO_HUB.transpose(), unknown):
        launches.clear()
        results.append(_step(kind, adj.to(device) if adj is not unknown else _unknown(adj, device)))
        found.append(sum("combine" in name for name in launches))
    assert tuple(found) == COMBINED[kind]
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[3], strict=True))  # known or not: the same bits


def _unknown(adj: Adjacency, device: str) -> Adjacency:
    """On the device as a structure that a forward made there."""
    return Adjacency.trusted(indptr=adj.indptr.to(device).clone(), indices=adj.indices.to(device), num_sources=30)


@pytest.mark.parametrize(("hub", "compiled"), [(False, False), (False, True), (True, False)])
def test_launches_of_a_hypergraph_step(hub: bool, compiled: bool, launches: list[str], device: str) -> None:
    """Two launches for 5,000 incidences, four with a hub hyperedge and node; forward and backward, also compiled."""
    steps = ["_reduce_parts", "reduce_combine"] if hub else ["_reduce_parts"]
    generator = torch.Generator().manual_seed(0)
    node, hyperedge = (torch.randint(700, (1300 if hub else 5000,), generator=generator) for _ in range(2))
    if hub:
        node[:600], hyperedge[:600] = 3, torch.arange(600)
        node[600:1200], hyperedge[600:1200] = torch.arange(600), 5
    hg = Hypergraph.from_coo(node=node, hyperedge=hyperedge, num_nodes=700, num_hyperedges=700,
                             duplicates="sum").to(device)  # fmt: skip
    layer = nn.HGNNConv(3, 2).to(device)
    x = torch.ones(700, 3, device=device, requires_grad=True)
    layer(x, hg)  # prepares the structure
    step = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager") if compiled else layer
    step(x, hg)
    launches.clear()
    out = step(x, hg)
    assert launches == steps * 2
    launches.clear()
    out.sum().backward()
    assert launches == steps * 2


def test_a_compiled_step_serves_structures_with_and_without_hubs(launches: list[str], device: str) -> None:
    step = torch.compile(propagate, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, adj in enumerate((MANY, random_adjacency(50, 20, 600, seed=2), TO_HUB)):
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            launches.clear()
            step(adj.to(device), torch.ones(adj.num_sources, 3, device=device))
            assert launches == ["_reduce_parts"] + ["reduce_combine"] * (adj is TO_HUB)


def test_a_launch_with_a_wrong_longest_row_still_sums_correctly(device: str) -> None:
    from hgraph.kernels.csr_reduce import csr_reduce

    adj, x = TO_HUB.to(device), leaf(30, 3).detach().to(device)
    out = csr_reduce(adj.indptr, adj.indices, adj.target, None, x.unsqueeze(0), longest=1)
    torch.testing.assert_close(out[0], propagate(adj, x))
