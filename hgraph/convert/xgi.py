"""XGI: its hypergraphs, directed hypergraphs and simplicial complexes, via HIF, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hgraph.convert.columns import ABSENT, take, with_column
from hgraph.convert.converted import Converted, names, prepare, refuse, require
from hgraph.convert.hif import from_hif, to_hif
from hgraph.errors import ArgumentError
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["from_xgi", "to_xgi"]


def from_xgi(
    network: Any,
    *,
    hyperedge_weight: str | None = None,
    node_weight: str | None = None,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
) -> Converted:
    """Convert an XGI ``Hypergraph``, ``DiHypergraph`` or ``SimplicialComplex``, via its HIF document.

    Directions become the incidence attribute ``"direction"`` (see :func:`from_hif`). XGI's document lists isolated
    and annotated nodes first, so identify nodes by id, not by position.

    Args:
        network: the XGI network; ids are integers or strings.
        hyperedge_weight: the edge attribute for the weight, required on every edge, or None.
        node_weight: the node attribute for the weight, or None.
        x: the node attribute or attributes for the features.
        y: the node attribute for the label.

    Raises:
        DataError: ids that HIF does not support.
        ArgumentError: a named weight that is missing or not a number.
    """
    c = from_hif(require("xgi", "hif").to_hif_dict(network), x=x, y=y)
    nodes, edges = names(c)
    hyperedge_attrs, of_hyperedges = take(c.hyperedge_attrs, hyperedge_weight, "hyperedge_weight", edges)
    node_attrs, of_nodes = take(c.node_attrs, node_weight, "node_weight", nodes)
    hg = Hypergraph(c.structure.v2e, of_hyperedges, of_nodes)  # type: ignore[union-attr]
    return c._replace(structure=hg, node_attrs=node_attrs, hyperedge_attrs=hyperedge_attrs)


def to_xgi(
    hypergraph: Hypergraph | Converted,
    *,
    hyperedge_weight: str = "weight",
    node_weight: str = "weight",
    x: str = "x",
    y: str = "y",
) -> Any:
    """Convert a hypergraph to an XGI network, via HIF; ``meta["network-type"]`` selects its class.

    XGI completes a simplicial complex (``"asc"``) with all faces of its simplices.

    Args:
        hypergraph: the hypergraph; ids are integers or strings.
        hyperedge_weight: the edge attribute for hyperedge weights.
        node_weight: the node attribute for node weights.
        x: the node attribute for features, one list per node.
        y: the node attribute for labels.

    Raises:
        ArgumentError: incidence weights or attributes, which XGI cannot hold, or an incidence of a directed
            hypergraph without direction.
    """
    xgi = require("xgi", "hif")
    hg, c = prepare(hypergraph, Hypergraph)
    refuse(c, "an XGI network", "weight")
    directed = c.meta.get("network-type") == "directed"
    others = {name: column for name, column in c.edge_attrs.items() if not (directed and name == "direction")}
    refuse(c._replace(edge_attrs=others), "an XGI network", "edge_attrs")
    direction = c.edge_attrs.get("direction", [ABSENT] * hg.num_incidences)
    if directed and any(value is ABSENT for value in direction):
        raise ArgumentError("edge_attrs['direction']", "head or tail at every incidence", "a missing one")
    document = to_hif(
        c._replace(
            structure=Hypergraph(hg.v2e),
            node_attrs=with_column(c.node_attrs, node_weight, hg.node_weight),
            hyperedge_attrs=with_column(c.hyperedge_attrs, hyperedge_weight, hg.hyperedge_weight),
        ),
        x=x,
        y=y,
    )
    return xgi.from_hif_dict(document)
