"""Wrong arguments of layers give errors with a hint, before any work."""

from __future__ import annotations

import pytest
import torch

from hgraph import Graph, Hypergraph, KnowledgeGraph, nn
from hgraph.errors import ArgumentError, ArgumentTypeError

GRAPH = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=4, directed=False)
HYPERGRAPH = Hypergraph.from_lists([[0, 1], [1, 2, 3]], num_nodes=4)
LAYERS = {
    nn.GCNConv: (GRAPH, HYPERGRAPH, r"clique\(\)"),
    nn.GATConv: (GRAPH, HYPERGRAPH, r"clique\(\)"),
    nn.HGNNConv: (HYPERGRAPH, GRAPH, "neighborhood_hypergraph"),
    nn.HGNNPConv: (HYPERGRAPH, GRAPH, "neighborhood_hypergraph"),
}
KNOWLEDGE = KnowledgeGraph.from_names([("a", "r", "b"), ("c", "s", "d")])
LAYERS[nn.KGATConv] = (KNOWLEDGE, GRAPH, "KnowledgeGraph.from_triples")
X = torch.ones(4, 3)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda c: c.__name__)
def test_errors_have_hints(layer):
    right, other, way = LAYERS[layer]
    conv = layer(3, 2)
    assert conv(X, right).shape[0] == 4
    with pytest.raises(ArgumentTypeError, match=way):
        conv(X, other)
    with pytest.raises(ArgumentTypeError, match=r"order is layer\(x, "):
        conv(right, X)
    makes = r"from_edge_index\(edge_index, num_nodes" if isinstance(right, Graph) else "The order is"
    with pytest.raises(ArgumentTypeError, match=f"structure: expected .*{makes}"):
        conv(X, torch.tensor([[0, 1], [1, 2]]))  # an edge_index, as elsewhere
    with pytest.raises(
        ArgumentTypeError, match=r"x: expected torch.float32, the dtype of the weights, got torch.bfloat16"
    ):
        conv(X.bfloat16(), right)
    with pytest.raises(ArgumentTypeError, match="x: expected a tensor"):
        conv([[1.0, 2.0, 3.0]] * 4, right)
    with pytest.raises(ArgumentError, match=r"in_channels is 3\), got shape \[4, 5\]"):
        conv(torch.ones(4, 5), right)
    with pytest.raises(ArgumentError, match=r"got shape \[3\]"):
        conv(torch.ones(3), right)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("channels", [(0, 2), (2, 0), (2, -1), (2.0, 2), (True, 2)])
def test_widths_are_checked(layer, channels):
    with pytest.raises(ArgumentError, match="channels: expected a whole number"):
        layer(*channels)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda c: c.__name__)
def test_repr_of_layers_has_sizes(layer):
    assert "3" in repr(layer(3, 2))
    assert "2" in repr(layer(3, 2))


def test_relational_layers_check_types_and_paths():
    typed = KnowledgeGraph.from_triples(
        head=[0], relation=[0], tail=[1], num_nodes=2, num_relations=1, node_type=[0, 2], type_names=["a", "b", "c"]
    )
    with pytest.raises(ArgumentError, match="kg: expected at most 2 types, as in the layer, got 3"):
        nn.HGTConv(4, 1, num_types=2)(torch.ones(2, 4), typed)
    with pytest.raises(
        ArgumentError, match=r"graphs: expected 2 graphs, one per meta-path, got one KnowledgeGraph. Use kg.view"
    ):
        nn.HANConv(4, 2, num_paths=2)(torch.ones(2, 4), typed)


def test_one_map_takes_all_types_as_one():
    typed = KnowledgeGraph.from_triples(
        head=[0, 1], relation=[0, 0], tail=[1, 2], num_nodes=3, num_relations=1, node_type=[0, 2, 1]
    )
    plain = KnowledgeGraph.from_triples(head=[0, 1], relation=[0, 0], tail=[1, 2], num_nodes=3, num_relations=1)
    layer = nn.HGTConv(3, 1)
    torch.testing.assert_close(layer(X[:3], typed), layer(X[:3], plain))
    with pytest.raises(ArgumentError, match="kg: expected at most 2 types"):
        nn.HGTConv(3, 1, num_types=2)(X[:3], typed)
