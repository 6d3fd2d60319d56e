"""Degrees that cannot be inverted raise an error when a structure is prepared; learned weights never give NaN."""

from __future__ import annotations

import pytest
import torch

from hgraph import Adjacency, Graph, Hypergraph
from hgraph.errors import ArgumentError
from hgraph.nn import GCNConv, HGNNConv, HGNNPConv, HNHNConv, UniGCNConv
from hgraph.nn import hypergraph as hypergraph_layers


def graph(*weights, directed=False):
    """A path 0 - 1 - 2 (undirected or ->) with these edge weights."""
    ends = [[0, 1], [1, 2]]
    return Graph.from_edge_index(ends, num_nodes=3, directed=directed, weight=torch.tensor(weights))


def hypergraph(weight=None, of_edges=None):
    """Hyperedges {0, 1} and {1, 2}."""
    given = {"weight": weight, "hyperedge_weight": of_edges}
    tensors = {name: None if v is None else torch.as_tensor(v) for name, v in given.items()}
    return Hypergraph.from_coo(node=[0, 1, 1, 2], hyperedge=[0, 0, 1, 1], num_nodes=3, num_hyperedges=2, **tensors)


REFUSED = {
    "gcn, negative": (lambda: GCNConv(2, 2), graph(-3.0, 1.0), "a negative sum at 0: -2"),
    "gcn, cancel": (lambda: GCNConv(2, 2), graph(-1.0, 5.0), "weights that cancel at 0: 0"),
    "hgnn, hyperedge": (lambda: HGNNConv(2, 2), hypergraph([1.0, -1.0, 1.0, 1.0]), "weights that cancel at 0: 0"),
    "hgnn, node": (
        lambda: HGNNConv(2, 2),
        hypergraph(of_edges=[-1.0, 2.0]),
        "a negative sum at 0: -1",
    ),
    "hgnn+, node": (lambda: HGNNPConv(2, 2), hypergraph(of_edges=[-1.0, 1.0]), "weights that cancel at 1: 0"),
    "hgnn, tiny": (lambda: HGNNConv(2, 2), hypergraph(of_edges=[1e-40, 1.0]), "a tiny sum at 0: .*by a constant"),
    "hgnn+, tiny": (lambda: HGNNPConv(2, 2), hypergraph(of_edges=[1e-40, 1e-40]), "a tiny sum at 0"),
    "hgnn+, tiny product": (lambda: HGNNPConv(2, 2), hypergraph([1e-20] * 4, [1e-20, 1e-20]), "a tiny sum at 0"),
    "hgnn+, tiny incidence": (lambda: HGNNPConv(2, 2), hypergraph([1e-45] * 4), "a tiny sum at 0"),
    "hnhn, tiny power": (
        lambda: HNHNConv(2, 2),
        hypergraph([1e-28] * 4),
        "every hyperedge, got a tiny sum at 0: 2e-28",
    ),
    "hnhn, tiny": (lambda: HNHNConv(2, 2), hypergraph([1e-40] * 4), "every node, got a tiny sum at 0"),
    "hnhn, cancel": (lambda: HNHNConv(2, 2), hypergraph(of_edges=[1.0, -1.0]), "weights that cancel at 1: 0"),
    "hnhn, infinite": (lambda: HNHNConv(2, 2), hypergraph(of_edges=[3e38, 3e38]), "an infinite sum at 1: inf"),
    "unigcn, mean": (
        lambda: UniGCNConv(2, 2),
        hypergraph([1.0, -0.5, 2.0, 1.0], [3.0, 4.5]),
        "every hyperedge, got a negative sum at 0: -1.5",
    ),
    "unigcn, float64": (
        lambda: UniGCNConv(2, 2),
        hypergraph(torch.full((4,), 1e-42, dtype=torch.float64)),
        "a tiny sum at 0",
    ),
    "gcn, tiny": (lambda: GCNConv(2, 2), graph(-1.0 + 1e-40, 5.0), "weights that cancel at 0"),
}


@pytest.mark.checked(
    "degrees",
    "Negative degrees, and weights that cancel, are an error when a structure is prepared; they never give NaN.",
)
@pytest.mark.parametrize(("make", "structure", "message"), REFUSED.values(), ids=REFUSED)
def test_layers_reject_degrees_that_cannot_be_inverted(make, structure, message):
    with pytest.raises(ArgumentError, match=message):
        make()(torch.ones(3, 2), structure)


LAYERS = sorted({n for n in hypergraph_layers.__all__ if n.endswith("Conv")} - {"TwoStepConv", "SheafHypergraphConv"})
EDGES = {
    "denormal": ([1e-40] * 4, None),
    "denormal hyperedges": (None, [1e-40] * 2),
    "products": ([1e-25] * 4, [1e-25] * 2),
    "small": ([1e-30] * 4, None),
    "some denormal": ([1.0, 1e-40, 1.0, 1.0], None),
    "zeros": ([0.0] * 4, [0.0] * 2),
    "cancel in a hyperedge": ([1.0, -1.0, 1.0, 1.0], None),
    "nearly cancel": ([1.0, -1.0 + 1e-7, 1.0, 1.0], None),
    "cancel at a node": ([1.0, 1.0, -1.0, 1.0], None),
    "hyperedges cancel": (None, [-1.0, 1.0]),
    "negative": (None, [-1.0, -1.0]),
}


@pytest.mark.parametrize("kind", EDGES)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_finite_or_refuses_the_weights(name, kind):
    """Outputs and gradients; nothing grows beyond what the weights can explain."""
    make = getattr(hypergraph_layers, name)
    torch.manual_seed(0)
    layer = make(4) if name == "EDHNNConv" else make(4, 4)
    x = torch.randn(3, 4, requires_grad=True)
    try:
        out = layer(x, hypergraph(*EDGES[kind]))
    except ArgumentError:
        with pytest.raises(ArgumentError, match="^(hyperedge_)?weight: "):
            layer(x, hypergraph(*EDGES[kind]))
        return
    grads = torch.autograd.grad(out.sum(), [x, *layer.parameters()], allow_unused=True)
    assert all(bool(t.isfinite().all()) for t in (out, *grads) if t is not None)
    assert float(out.detach().abs().max()) < 1e3


@pytest.mark.parametrize(("how", "weights", "message"), [("sym", (-3.0, 1.0), "a negative sum at 1: -3"),
                                                      ("row", (-1.0, 1.0), None),
                                                      ("row", (1e-40, 1.0), "a tiny sum at 1"),
                                                      ("sym", (1e-37, 1.0), None),
                                                      ("sym", (2.0, 1.0), None)])  # fmt: skip
def test_normalize_rejects_them_too(how, weights, message):
    adj = graph(*weights, directed=True).adj
    if message is None:
        assert adj.normalize(how).weight.isfinite().all()
        return
    with pytest.raises(ArgumentError, match=message):
        adj.normalize(how)


def test_weights_that_cancel_up_to_rounding_are_refused():
    adj = Adjacency.from_coo(target=[0, 0, 0], source=[0, 1, 2], num_targets=1, num_sources=3,
                             weight=torch.tensor([0.1, 0.2, -0.3]))  # fmt: skip
    with pytest.raises(ArgumentError, match="weights that cancel at 0"):
        adj.normalize("row")


@pytest.mark.checked("degrees", "Learnable weights use the root of the absolute degree, so results stay finite.")
@pytest.mark.parametrize("layer", [GCNConv, HGNNConv])
def test_weights_with_gradients_take_the_signed_form(layer):
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    learned = torch.tensor([-3.0, 1.0], requires_grad=True)
    if layer is GCNConv:
        adj = Adjacency.from_coo(target=[1, 2], source=[0, 1], num_targets=3, num_sources=3).with_weight(learned)
        structure = Graph(adj)
    else:
        plain = hypergraph()
        structure = Hypergraph(plain.v2e, learned, None)
    made = layer(2, 2, bias=False)
    out = made(x, structure)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert learned.grad.isfinite().all()
    if layer is GCNConv:
        weights = torch.tensor([[1.0, 0, 0], [-3, 1, 0], [0, 1, 1]])
        root = weights.sum(1).abs().rsqrt()
        torch.testing.assert_close(out, root[:, None] * weights * root @ x @ made.linear.weight.T)
