"""Partitions of the causal or full support into single tokens and regions (`Partition`).

>>> from hgraph.patterns import partitions
>>> partitions.logsparse(1024)
Partition(1024 tokens, 1536 direct edges, 4608 to 511 regions)
"""

from hgraph.patterns.partitions.content import clusters
from hgraph.patterns.partitions.grid import horizontal, row_major, vertical
from hgraph.patterns.partitions.line import fixed, logsparse

__all__ = ["clusters", "fixed", "horizontal", "logsparse", "row_major", "vertical"]
