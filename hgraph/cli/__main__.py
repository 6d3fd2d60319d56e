"""`python -m hgraph.cli`."""

from hgraph.cli import main

main()
