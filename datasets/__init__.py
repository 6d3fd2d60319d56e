"""Data sets by name: what there is, what its card says, and the data itself."""

from hgraph.datasets import embedded, hypergcn, planetoid
from hgraph.datasets.registry import Card, info, load, names, register

__all__ = ["Card", "embedded", "hypergcn", "info", "load", "names", "planetoid", "register"]
