"""Graphs and hypergraphs to and from other libraries; every converter returns and accepts a `Converted`."""

from hgraph.structure.convert.columns import ABSENT
from hgraph.structure.convert.converted import Converted
from hgraph.structure.convert.dgl import from_dgl, to_dgl
from hgraph.structure.convert.dhg import from_dhg, to_dhg_digraph, to_dhg_graph, to_dhg_hypergraph
from hgraph.structure.convert.hif import from_hif, read_hif, to_hif, write_hif
from hgraph.structure.convert.networkx import from_networkx, from_networkx_bipartite, to_networkx, to_networkx_bipartite
from hgraph.structure.convert.pyg import from_pyg, from_pyg_hypergraph, to_pyg, to_pyg_hypergraph
from hgraph.structure.convert.pyg_hetero import from_pyg_hetero, to_pyg_hetero
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
from hgraph.structure.convert.xgi import from_xgi, to_xgi

__all__ = [
    "ABSENT",
    "Converted",
    "from_dgl",
    "from_dhg",
    "from_hif",
    "from_networkx",
    "from_networkx_bipartite",
    "from_pyg",
    "from_pyg_hetero",
    "from_pyg_hypergraph",
    "from_scipy",
    "from_scipy_incidence",
    "from_torch_sparse",
    "from_torch_sparse_incidence",
    "from_xgi",
    "read_hif",
    "to_dgl",
    "to_dhg_digraph",
    "to_dhg_graph",
    "to_dhg_hypergraph",
    "to_hif",
    "to_networkx",
    "to_networkx_bipartite",
    "to_pyg",
    "to_pyg_hetero",
    "to_pyg_hypergraph",
    "to_scipy",
    "to_scipy_incidence",
    "to_torch_sparse",
    "to_torch_sparse_incidence",
    "to_xgi",
    "write_hif",
]
