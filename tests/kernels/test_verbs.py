"""Every verb runs on kernels alone, compiles, takes autocast, and costs the launches it should."""

from __future__ import annotations

from collections.abc import Callable

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
    attention_weights,
    backend,
    edge_score,
    edge_softmax,
    errors,
    gather,
    nn,
    propagate,
    scatter,
    segment_reduce,
)
from hgraph.testing import random_adjacency

ADJ = random_adjacency(6, 5, 17, seed=2)
T, S, E, H, D = 6, 5, 17, 2, 4


def leaf(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape))).requires_grad_()


VERBS: dict[str, Callable[[Adjacency, str], Tensor]] = {
    "sum": lambda adj, at: propagate(adj, leaf(S, D).to(at), weight=leaf(E).to(at)),
    "mean": lambda adj, at: propagate(adj, leaf(S, D).to(at), weight=leaf(E, H).to(at), reduce="mean"),
    "max": lambda adj, at: propagate(adj, leaf(S, D).to(at), weight=leaf(E).to(at), reduce="max"),
    "min": lambda adj, at: propagate(adj, leaf(S, D).to(at), reduce="min"),
    "dot score": lambda adj, at: edge_score(adj, leaf(T, H, D).to(at), leaf(S, H, D).to(at)),
    "additive score": lambda adj, at: edge_score(adj, leaf(T, H).to(at), leaf(S, H).to(at), score=Additive()),
    "vector score": lambda adj, at: edge_score(
        adj, leaf(T, H, D).to(at), leaf(S, H, D).to(at), score=Additive(leaf(H, D).to(at))
    ),
    "softmax": lambda adj, at: edge_softmax(adj, leaf(E, H).to(at)),
    "grouped softmax": lambda adj, at: edge_softmax(adj, leaf(E).to(at), group=adj.indices % 2),
    "attend": lambda adj, at: (
        attend(
            adj, leaf(T, H, D).to(at), leaf(S, H, D).to(at), leaf(S, H, D).to(at), bias=leaf(E, H).to(at), dropout=0.5
        ).out
    ),
    "additive attend": lambda adj, at: (
        attend(adj, leaf(T, H).to(at), leaf(S, H).to(at), leaf(S, H, D).to(at), score=Additive()).out
    ),
    "vector attend": lambda adj, at: (
        attend(
            adj, leaf(T, H, D).to(at), leaf(S, H, D).to(at), leaf(S, H, D).to(at), score=Additive(leaf(H, D).to(at))
        ).out
    ),
    "scatter": lambda adj, at: scatter(leaf(E, D).to(at), adj.indices, 0, dim_size=S, reduce="mean"),
    "segments": lambda adj, at: segment_reduce(leaf(E, D).to(at), adj.indptr, reduce="max"),
    "gather": lambda adj, at: gather(leaf(S, D).to(at), adj.indices, 0),
    "weights": lambda adj, at: attention_weights(
        adj, leaf(T, H, D).to(at), leaf(S, H, D).to(at), leaf(T, H).to(at), bias=leaf(E).to(at)
    ),
}


@pytest.fixture
def torch_path_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reference in plain torch is made of does not work."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the torch path was taken")

    for owner, name in (
        (F, "embedding_bag"), (torch, "segment_reduce"), (torch.sparse, "mm"), (Tensor, "index_add_"),
        (Tensor, "index_put_"), (Tensor, "scatter_add_"), (Tensor, "unflatten"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)


@pytest.mark.parametrize("verb", VERBS)
def test_runs_on_kernels_alone(verb: str, device: str, request: pytest.FixtureRequest) -> None:
    adj = ADJ.to(device)
    torch.manual_seed(0)
    with backend("torch"):
        want = VERBS[verb](adj, device)
    if "attend" not in verb and "weights" not in verb:  # these reshape with unflatten around the operator
        request.getfixturevalue("torch_path_raises")
    torch.manual_seed(0)
    out = VERBS[verb](adj, device)
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)
    out.square().sum().backward()


@pytest.mark.parametrize("verb", ["attend", "additive attend", "vector attend", "weights"])
def test_attention_never_composes(verb: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the torch path was taken")

    for owner, name in (
        (F, "embedding_bag"),
        (torch, "segment_reduce"),
        (Tensor, "index_add_"),
        (Tensor, "index_put_"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    VERBS[verb](ADJ.to(device), device).square().sum().backward()


@pytest.mark.parametrize("verb", ["sum", "max", "softmax", "attend"])
def test_compiles_once_for_all_sizes(verb: str, device: str) -> None:
    torch._dynamo.reset()
    run = torch.compile(
        {
            "sum": lambda adj, x, s: propagate(adj, x),
            "max": lambda adj, x, s: propagate(adj, x, reduce="max"),
            "softmax": lambda adj, x, s: edge_softmax(adj, s),
            "attend": lambda adj, x, s: (
                attend(adj, x[:1].expand(adj.num_targets, -1).unsqueeze(1), x.unsqueeze(1), x.unsqueeze(1), bias=s).out
            ),
        }[verb],
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    for i, size in enumerate([(6, 5, 17), (9, 4, 23), (3, 8, 11)]):
        adj = random_adjacency(*size, seed=i).to(device)
        x, s = torch.randn(size[1], 3, device=device), torch.randn(size[2], device=device)
        x.requires_grad_()
        s.requires_grad_()
        out = run(adj, x, s)
        out.sum().backward()
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            torch.testing.assert_close(run(adj, x, s), out)


def test_autocast(device: str) -> None:
    adj, x = ADJ.to(device), leaf(S, D).detach().to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        half = x @ torch.eye(D, device=device)
        out = propagate(adj, half, weight=leaf(E).detach().to(device))
    assert half.dtype == out.dtype == torch.bfloat16


def test_what_kernels_do_not_serve_is_refused_by_name(device: str) -> None:
    q = torch.zeros(T, 1, 2000, device=device)
    k = torch.zeros(S, 1, 2000, device=device)
    with pytest.raises(errors.BackendError, match="'triton' does not compute 'attend'"):
        attend(ADJ.to(device), q, k, k)
    with backend("auto"):
        assert attend(ADJ.to(device), q, k, k).out.shape == (T, 1, 2000)


def test_second_order_goes_through_the_kernels(device: str) -> None:
    adj = random_adjacency(3, 3, 6, seed=1).to(device)
    x = torch.randn(3, 2, device=device, dtype=torch.float64, requires_grad=True)
    w = torch.randn(6, device=device, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, w: propagate(adj, x, weight=w), (x, w), nondet_tol=0, fast_mode=True)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, device: str) -> list[str]:
    """The kernels launched, in order."""
    names: list[str] = []
    if device == "cpu":
        from triton.runtime.interpreter import GridExecutor as Launcher

        method = "__call__"
    else:
        from triton.runtime.jit import JITFunction as Launcher

        method = "run"
    before = getattr(Launcher, method)

    def counted(self, *args, **kwargs):
        names.append(getattr(self, "fn", self).__name__)
        return before(self, *args, **kwargs)

    monkeypatch.setattr(Launcher, method, counted)
    return names


def test_a_hypergraph_step_is_two_launches(launches: list[str], device: str) -> None:
    """All degrees and weights are folded into the two sums."""
    hg = Hypergraph.from_lists(
        [[0, 1, 2], [2, 3], [1, 3, 4]], num_vertices=5, hyperedge_weight=torch.tensor([0.5, 2.0, 1.0])
    ).to(device)
    for layer in (nn.HGNNConv(3, 2), nn.HGNNPConv(3, 2)):
        layer.to(device)(torch.ones(5, 3, device=device), hg)  # prepares the structure
        launches.clear()
        layer(torch.ones(5, 3, device=device), hg)
        assert launches == ["_reduce_parts"] * 2


def test_attention_forward_is_one_launch_and_backward_three(launches: list[str], device: str) -> None:
    adj = ADJ.to(device)
    q, k, v = (torch.ones(n, H, D, device=device, requires_grad=True) for n in (T, S, S))
    out = attend(adj, q, k, v).out
    assert launches == ["_attend_parts"]
    launches.clear()
    out.sum().backward()
    assert launches == ["_dot", "_row_parts", "_column_parts"]  # the first is delta
