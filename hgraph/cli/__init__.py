"""The `hgraph` command."""

from hgraph.cli.entry import main

__all__ = ["main"]
