"""Graphs and hypergraphs to and from other libraries; every converter returns and accepts a `Converted`."""

from hgraph.structure.convert.converted import ABSENT, Converted
from hgraph.structure.convert.networkx import from_networkx, from_networkx_bipartite, to_networkx, to_networkx_bipartite
from hgraph.structure.convert.sparse import (
    from_scipy,
    from_scipy_incidence,
    from_torch_sparse,
    from_torch_sparse_incidence,
    to_scipy,
    to_scipy_incidence,
    to_torch_sparse,
    to_torch_sparse_incidence,
)

__all__ = [
    "ABSENT",
    "Converted",
    "from_networkx",
    "from_networkx_bipartite",
    "from_scipy",
    "from_scipy_incidence",
    "from_torch_sparse",
    "from_torch_sparse_incidence",
    "to_networkx",
    "to_networkx_bipartite",
    "to_scipy",
    "to_scipy_incidence",
    "to_torch_sparse",
    "to_torch_sparse_incidence",
]
