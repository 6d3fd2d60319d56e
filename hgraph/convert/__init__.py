"""Convert graphs and hypergraphs to and from other libraries.

Every converter returns a `Converted` and accepts one: the structure, the ids of the other library, features,
labels, and all other attributes as columns. Anything a library cannot hold raises an error with a fix; it is never
dropped silently.

- An edge u -> v sends messages from u to v: ``edge_index = [source, target]``, row v of ``graph.adj`` lists u.
  Matrices of other libraries have rows of sources; see ``rows=``.
- An undirected edge is stored as two directed edges of equal weight and attributes, a self-loop once.
- The weight, features and label attributes are selected by name; without a name they stay columns.

=================  ==========================================================================================
networkx           Graph, DiGraph, MultiGraph, MultiDiGraph; hypergraphs as bipartite graphs
scipy, torch       sparse adjacency and incidence matrices
PyTorch Geometric  Data, HyperGraphData; HeteroData of one type or of a bipartite pair
DHG, DGL           Graph, DiGraph, Hypergraph; homogeneous graphs
triple files       TSV and ConvE, KGAT, KGCN, RippleNet and MKR, RecBole, OpenKE, N-Triples; knowledge graphs also as
                   networkx ``MultiDiGraph`` and PyG ``HeteroData`` of any types (``..._triples``)
edge files         SNAP's edge lists, GraphML, GML; lists of hyperedges, one per line
HIF                documents and files; XGI has its own converters and JSON files, HyperNetX reads and writes
                   HIF documents: ``hypernetx.from_hif(to_hif(hg))``, ``from_hif(hypernetx.to_hif(h))``
=================  ==========================================================================================
"""

from hgraph.convert.columns import ABSENT
from hgraph.convert.converted import Converted
from hgraph.convert.dgl import from_dgl, to_dgl
from hgraph.convert.dhg import from_dhg, to_dhg_digraph, to_dhg_graph, to_dhg_hypergraph
from hgraph.convert.edge_lists import read_edge_list, read_hyperedges
from hgraph.convert.graph_files import read_gml, read_graphml
from hgraph.convert.hif import from_hif, read_hif, to_hif, write_hif
from hgraph.convert.knowledge import from_networkx_triples, from_pyg_triples, to_networkx_triples, to_pyg_triples
from hgraph.convert.networkx import from_networkx, from_networkx_bipartite, to_networkx, to_networkx_bipartite
from hgraph.convert.ntriples import read_ntriples
from hgraph.convert.pyg import from_pyg, from_pyg_hypergraph, to_pyg, to_pyg_hypergraph
from hgraph.convert.pyg_hetero import from_pyg_hetero, to_pyg_hetero
from hgraph.convert.sparse import (
    from_scipy,
    from_scipy_incidence,
    from_torch_sparse,
    from_torch_sparse_incidence,
    to_scipy,
    to_scipy_incidence,
    to_torch_sparse,
    to_torch_sparse_incidence,
)
from hgraph.convert.triples import read_kgat, read_kgcn, read_openke, read_recbole, read_triples, write_triples
from hgraph.convert.xgi import from_xgi, read_xgi, to_xgi

__all__ = [
    "ABSENT",
    "Converted",
    "from_dgl",
    "from_dhg",
    "from_hif",
    "from_networkx",
    "from_networkx_bipartite",
    "from_networkx_triples",
    "from_pyg",
    "from_pyg_hetero",
    "from_pyg_hypergraph",
    "from_pyg_triples",
    "from_scipy",
    "from_scipy_incidence",
    "from_torch_sparse",
    "from_torch_sparse_incidence",
    "from_xgi",
    "read_edge_list",
    "read_gml",
    "read_graphml",
    "read_hif",
    "read_hyperedges",
    "read_kgat",
    "read_kgcn",
    "read_ntriples",
    "read_openke",
    "read_recbole",
    "read_triples",
    "read_xgi",
    "to_dgl",
    "to_dhg_digraph",
    "to_dhg_graph",
    "to_dhg_hypergraph",
    "to_hif",
    "to_networkx",
    "to_networkx_bipartite",
    "to_networkx_triples",
    "to_pyg",
    "to_pyg_hetero",
    "to_pyg_hypergraph",
    "to_pyg_triples",
    "to_scipy",
    "to_scipy_incidence",
    "to_torch_sparse",
    "to_torch_sparse_incidence",
    "to_xgi",
    "write_hif",
    "write_triples",
]
