"""`python -m hgraph` is the `hgraph` command."""

from hgraph.cli import main

main()
