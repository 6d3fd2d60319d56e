"""Speed and memory compared with other libraries and with lower bounds; `hgraph bench` runs it."""
