"""Data sets by name: their list, their cards and their loaders."""

from hgraph.datasets import (
    committees,
    cooking,
    dhg,
    embedded,
    graph_sets,
    hypergcn,
    knowledge,
    mathoverflow,
    ogb,
    planetoid,
    prone,
    pyg,
    recommendation,
    simplex_streams,
    uci_hypergraphs,
    uci_tables,
    walmart,
)
from hgraph.datasets.algorithmic import ALGORITHMS, algorithmic_task
from hgraph.datasets.card import Card
from hgraph.datasets.folder import save
from hgraph.datasets.own_interactions import from_interactions
from hgraph.datasets.registry import info, load, names, register
from hgraph.datasets.tables import Encoder, Inputs, from_tables, read_table

__all__ = [
    "ALGORITHMS",
    "Card",
    "Encoder",
    "Inputs",
    "algorithmic_task",
    "committees",
    "cooking",
    "dhg",
    "embedded",
    "from_interactions",
    "from_tables",
    "graph_sets",
    "hypergcn",
    "info",
    "knowledge",
    "load",
    "mathoverflow",
    "names",
    "ogb",
    "planetoid",
    "prone",
    "pyg",
    "read_table",
    "recommendation",
    "register",
    "save",
    "simplex_streams",
    "uci_hypergraphs",
    "uci_tables",
    "walmart",
]
