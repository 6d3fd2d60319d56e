"""Networks for nodes of hypergraphs."""
