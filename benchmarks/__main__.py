"""``python -m hgraph.benchmarks``: what `hgraph bench` starts."""

import sys

from hgraph.benchmarks.runner import main

if __name__ == "__main__":
    sys.exit(main())
