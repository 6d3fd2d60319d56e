"""Data sets by name: what there is, what its card says, and the data itself."""

from hgraph.datasets import (
    committees,
    cooking,
    embedded,
    graph_sets,
    hypergcn,
    mathoverflow,
    planetoid,
    prone,
    simplex_streams,
    uci_hypergraphs,
    uci_tables,
    walmart,
)
from hgraph.datasets.registry import Card, info, load, names, register

__all__ = [
    "Card",
    "committees",
    "cooking",
    "embedded",
    "graph_sets",
    "hypergcn",
    "info",
    "load",
    "mathoverflow",
    "names",
    "planetoid",
    "prone",
    "register",
    "simplex_streams",
    "uci_hypergraphs",
    "uci_tables",
    "walmart",
]
