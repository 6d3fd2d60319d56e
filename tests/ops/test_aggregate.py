"""`aggregate` against loops over edges, in chunks and at once."""

import gc
import importlib
import weakref

import pytest
import torch

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops import aggregate, propagate
from hgraph.structure import Adjacency
from hgraph.testing import random_adjacency


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


module = importlib.import_module("hgraph.ops.aggregate")


@pytest.fixture(params=["at once", "in chunks"])
def adj(request, monkeypatch):
    """A structure with empty rows, parallel edges and weights."""
    if request.param == "in chunks":
        monkeypatch.setattr(module, "_edges_per_chunk", lambda adj, features: 4)
    found = random_adjacency(9, 7, 30, seed=3)
    return found.with_weight(torch.linspace(-1, 2, found.num_edges, dtype=torch.float64))


def tensors(adj, strided=False):
    made = torch.Generator().manual_seed(0)

    def rows(n, width):
        x = torch.randn(2, width, n, dtype=torch.float64, generator=made).mT if strided else torch.randn(
            2, n, width, dtype=torch.float64, generator=made)  # fmt: skip
        return x.requires_grad_()

    return rows(adj.num_targets, 3), rows(adj.num_sources, 4), rows(adj.num_edges, 2)


def phi(t, s, e):
    return torch.tanh(t[..., :2] * s[..., :2] + e) * s[..., 2:]


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("strided", [False, True])
def test_as_a_loop_over_the_edges(adj, reduce, strided):
    t, s, e = tensors(adj, strided)
    expected = torch.zeros(2, adj.num_targets, 2, dtype=torch.float64)
    messages = [[] for _ in range(adj.num_targets)]
    ends = zip(adj.target.tolist(), adj.indices.tolist(), adj.weight.tolist(), strict=True)
    for i, (target, source, weight) in enumerate(ends):
        messages[target].append(weight * phi(t[:, target], s[:, source], e[:, i]))
    for target, rows in enumerate(messages):
        if rows:
            rows = torch.stack(rows)
            expected[:, target] = {"sum": rows.sum(0), "mean": rows.mean(0), "max": rows.amax(0), "min": rows.amin(0)}[
                reduce
            ]
    close(aggregate(adj, phi, target=t, source=s, edge=e, reduce=reduce), expected)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_gradients(adj, reduce):
    t, s, e = (x.detach()[0].requires_grad_() for x in tensors(adj))
    weight = adj.weight.clone().requires_grad_()

    def run(t, s, e, w):
        return aggregate(adj, phi, target=t, source=s, edge=e, weight=w, reduce=reduce)

    assert torch.autograd.gradcheck(run, (t, s, e, weight), fast_mode=True)


def test_second_order_gradients_at_once():
    adj = random_adjacency(5, 5, 12, seed=1)
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    run = lambda x: aggregate(adj, lambda t, s: torch.tanh(t * s), target=x, source=x)  # noqa: E731
    assert torch.autograd.gradgradcheck(run, (x,), fast_mode=True)


def test_chunks_and_all_at_once_have_the_same_bits_twice(monkeypatch):
    adj, x = random_adjacency(50, 50, 400, seed=5), torch.randn(50, 8)
    run = lambda: aggregate(adj, lambda t, s: torch.relu(t + s), target=x, source=x)  # noqa: E731
    whole = run()
    monkeypatch.setattr(module, "_edges_per_chunk", lambda adj, features: 37)
    assert torch.equal(run(), run())
    torch.testing.assert_close(run(), whole)


def test_the_identity_is_propagate():
    adj, x = random_adjacency(9, 7, 30, seed=3), torch.randn(7, 4, dtype=torch.float64)
    for reduce in ("sum", "mean", "max", "min"):
        close(aggregate(adj, lambda s: s, source=x, reduce=reduce), propagate(adj, x, reduce=reduce))


def test_compiled_values_are_the_eager_ones():
    adj, x = random_adjacency(9, 9, 30, seed=3), torch.randn(9, 4)
    run = lambda x: aggregate(adj, lambda t, s: torch.relu(t + s), target=x, source=x)  # noqa: E731
    torch.testing.assert_close(torch.compile(run, backend="aot_eager", fullgraph=True)(x), run(x))


def test_what_a_training_stores_does_not_grow_with_the_edges(monkeypatch):
    """In chunks, only features of nodes are saved for the backward pass, none of edges times channels."""
    monkeypatch.setattr(module, "_edges_per_chunk", lambda adj, features: 100)
    adj, x = random_adjacency(20, 20, 4000, seed=2), torch.randn(20, 16, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        aggregate(adj, lambda t, s: torch.tanh(t + s), target=x, source=x).sum()
    assert max(saved) < 16 * 1000


def test_without_edges_and_without_targets():
    for t, s in ((3, 0), (0, 3), (0, 0), (2, 2)):
        adj = Adjacency.from_coo(target=[], source=[], num_targets=t, num_sources=s)
        out = aggregate(adj, lambda t, s: t + s, target=torch.ones(t, 2), source=torch.ones(s, 2))
        assert out.tolist() == torch.zeros(t, 2).tolist()


@pytest.mark.parametrize("message", [lambda s: s[..., :1, :], lambda s: s.repeat(2, 1), lambda s: s[0]])
def test_messages_of_other_edges_are_refused(adj, message):
    """The kernels read one message per edge: a shorter tensor would let them read foreign memory."""
    with pytest.raises(ArgumentError, match=r"message: expected shape \[..., \d+, D'\]"):
        aggregate(adj, message, source=torch.ones(7, 4))


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "none"])
@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(31), torch.ones(31, 2), torch.ones(30, 2, 2)])
def test_weights_of_other_edges_are_refused(adj, weight, reduce):
    with pytest.raises(ArgumentError, match="weight: expected"):
        aggregate(adj, lambda s: s, source=torch.ones(7, 4), weight=weight, reduce=reduce)


def test_weights_must_divide_the_channels(adj):
    with pytest.raises(ArgumentError, match="K columns that divide the 4 channels"):
        aggregate(adj, lambda s: s, source=torch.ones(7, 4), weight=torch.ones(30, 3))


def test_integer_weights_and_messages_are_refused(adj):
    with pytest.raises(ArgumentTypeError, match="weight"):
        aggregate(adj, lambda s: s, source=torch.ones(7, 4), weight=torch.ones(30, dtype=torch.long))
    with pytest.raises(ArgumentTypeError, match="message"):
        aggregate(adj, lambda s: s.long(), source=torch.ones(7, 4))


def test_weights_per_channel(adj):
    weight, x = torch.rand(30, 2, dtype=torch.float64), torch.rand(7, 4, dtype=torch.float64)
    close(aggregate(adj, lambda s: s, source=x, weight=weight), propagate(adj, x, weight=weight))


def test_chunks_do_not_keep_a_structure(monkeypatch):
    monkeypatch.setattr(module, "_edges_per_chunk", lambda adj, features: 4)
    adj = random_adjacency(9, 7, 30, seed=3)
    aggregate(adj, lambda s: s, source=torch.ones(7, 2))
    alive = [weakref.ref(adj.indices), weakref.ref(adj.indptr)]
    del adj
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_structures_that_share_their_row_pointers_have_their_own_chunks(monkeypatch):
    monkeypatch.setattr(module, "_edges_per_chunk", lambda adj, features: 2)
    indptr, x = torch.arange(0, 9, 2, dtype=torch.int32), torch.arange(4.0).view(4, 1)
    for indices in ([0, 1, 1, 2, 2, 3, 3, 0], [3, 3, 2, 2, 1, 1, 0, 0]):
        adj = Adjacency.trusted(indptr=indptr, indices=torch.tensor(indices, dtype=torch.int32), num_sources=4)
        close(aggregate(adj, lambda s: s, source=x), propagate(adj, x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_gradients_are_rounded_once(monkeypatch, dtype):
    """2,049 ones from as many chunks: in half precision 1 + ... + 1 would stay at 2,048 or 256."""
    targets = 2049
    adj = Adjacency.from_coo(target=range(targets), source=[0] * targets, num_targets=targets, num_sources=1)
    monkeypatch.setattr(module, "_edges_per_chunk", lambda adj, features: 1)
    x = torch.ones(1, 1, dtype=dtype, requires_grad=True)
    out = aggregate(adj, lambda s: s.clone(), source=x)
    assert out.dtype == dtype
    out.sum(dtype=torch.float32).backward()
    assert x.grad.item() == torch.tensor(float(targets)).to(dtype).item()


def test_a_message_of_all_edges_at_once(monkeypatch):
    """With ``chunked=False`` a message sees all edges, once."""
    monkeypatch.setattr(module, "_edges_per_chunk", lambda adj, features: 4)
    seen = []
    x = torch.ones(7, 2, requires_grad=True)
    adj = random_adjacency(9, 7, 30, seed=3)
    aggregate(adj, lambda s: seen.append(len(s)) or s.sin(), source=x, chunked=False).sum().backward()
    assert seen == [30]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "at least one"),
        ({"target": torch.ones(7, 2)}, r"target: expected shape \[..., 9, D\]"),
        ({"source": torch.ones(9, 2)}, r"source: expected shape \[..., 7, D\]"),
        ({"edge": torch.ones(9)}, r"edge: expected shape \[..., 30, D\]"),
        ({"source": torch.ones(7, 2), "reduce": "prod"}, "reduce"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ArgumentError, match=message):
        aggregate(random_adjacency(9, 7, 30, seed=3), lambda *x: x[0], **options)
