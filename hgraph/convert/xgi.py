"""XGI: its hypergraphs, directed hypergraphs and simplicial complexes, through HIF, both ways."""

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
    """An XGI ``Hypergraph``, ``DiHypergraph`` or ``SimplicialComplex``, as its HIF document says it.

    Directions become the incidence attribute ``"direction"`` (see :func:`from_hif`). XGI's document lists isolated
    and annotated nodes first, so ids, not positions, say who is who.

    Args:
        network: the XGI network; ids are integers or strings.
        hyperedge_weight: the edge attribute that is the weight, which every edge must then have, or None.
        node_weight: the node attribute that is the weight, or None.
        x: the node attribute or attributes that make the features.
        y: the node attribute that is the label.

    Raises:
        DataError: ids that HIF does not know.
        ArgumentError: a named weight that is lacking or no number.
    """
    c = from_hif(require("xgi", "hif").to_hif_dict(network), x=x, y=y)
    nodes, edges = names(c)
    hyperedge_attrs, of_hyperedges = take(c.hyperedge_attrs, hyperedge_weight, "hyperedge_weight", edges)
    node_attrs, of_vertices = take(c.node_attrs, node_weight, "node_weight", nodes)
    hg = Hypergraph(c.structure.v2e, of_hyperedges, of_vertices)  # type: ignore[union-attr]
    return c._replace(structure=hg, node_attrs=node_attrs, hyperedge_attrs=hyperedge_attrs)


def to_xgi(
    hypergraph: Hypergraph | Converted,
    *,
    hyperedge_weight: str = "weight",
    node_weight: str = "weight",
    x: str = "x",
    y: str = "y",
) -> Any:
    """The XGI network of a hypergraph, through HIF; ``meta["network-type"]`` says which of the three it is.

    A simplicial complex (``"asc"``) is completed by XGI with all faces of its simplices.

    Args:
        hypergraph: the hypergraph; ids are integers or strings.
        hyperedge_weight: the edge attribute that hyperedge weights become.
        node_weight: the node attribute that vertex weights become.
        x: the node attribute that features become, a list a node.
        y: the node attribute that labels become.

    Raises:
        ArgumentError: incidence weights or attributes, which XGI does not hold, or an incidence of a directed
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
        raise ArgumentError("edge_attrs['direction']", "head or tail at every incidence", "one without")
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
