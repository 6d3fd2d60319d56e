"""hgraph: learning on graphs and hypergraphs. Pick a structure, pick a message."""
