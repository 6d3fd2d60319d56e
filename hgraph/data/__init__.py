"""Labeled structures, their splits, batches of them, and files."""

from hgraph.data.collate import collate
from hgraph.data.data import Data, Dataset
from hgraph.data.interactions import Interactions, TripleSplit
from hgraph.data.io import fingerprint, load, save
from hgraph.data.items import items_of
from hgraph.data.prediction import HyperedgeSplit, LinkSplit
from hgraph.data.reorder import Reordered, reorder
from hgraph.data.split import Parts, Split
from hgraph.data.typed import knowledge_graph

__all__ = [
    "Data",
    "Dataset",
    "HyperedgeSplit",
    "Interactions",
    "LinkSplit",
    "Parts",
    "Reordered",
    "Split",
    "TripleSplit",
    "collate",
    "fingerprint",
    "items_of",
    "knowledge_graph",
    "load",
    "reorder",
    "save",
]
