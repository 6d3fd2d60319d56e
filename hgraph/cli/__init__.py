"""The `hgraph` command."""

from hgraph.cli.app import app, main

__all__ = ["app", "main"]
