"""Reads tables, encodes their columns and builds data sets from them."""

from hgraph.datasets.tables.build import from_tables
from hgraph.datasets.tables.encoder import Encoder
from hgraph.datasets.tables.inputs import Inputs
from hgraph.datasets.tables.table import read_table

__all__ = ["Encoder", "Inputs", "from_tables", "read_table"]
