"""Inputs, oracles, tolerances and contracts: for our tests, and for users' own layers."""

from hgraph.testing import contracts
from hgraph.testing.case import Case
from hgraph.testing.combinations import covering, pairwise
from hgraph.testing.contracts import check_decoder, check_layer, check_structure
from hgraph.testing.inputs import (
    degenerate_adjacencies,
    random_adjacency,
    random_graph,
    random_hypergraph,
    random_knowledge_graph,
)
from hgraph.testing.layouts import assert_layout_independent, random_layout
from hgraph.testing.oracles import attend_oracle, propagate_oracle, softmax_oracle
from hgraph.testing.relabel import relabel
from hgraph.testing.strategies import adjacencies, hypergraphs, knowledge_graphs
from hgraph.testing.tolerances import assert_close

__all__ = [
    "Case",
    "adjacencies",
    "assert_close",
    "assert_layout_independent",
    "attend_oracle",
    "check_decoder",
    "check_layer",
    "check_structure",
    "contracts",
    "covering",
    "degenerate_adjacencies",
    "hypergraphs",
    "knowledge_graphs",
    "pairwise",
    "propagate_oracle",
    "random_adjacency",
    "random_graph",
    "random_hypergraph",
    "random_knowledge_graph",
    "random_layout",
    "relabel",
    "softmax_oracle",
]
