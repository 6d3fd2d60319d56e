"""Speed and memory against peers and against limits, installed as hgraph.benchmarks: `hgraph bench` runs it."""
