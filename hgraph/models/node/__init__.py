"""Networks for nodes of graphs."""
