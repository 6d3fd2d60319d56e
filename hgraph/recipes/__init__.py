"""Reproduction of published results: protocols as code, published and measured results as TOML."""

from hgraph.recipes.recipe import names, published, reproduce

__all__ = ["names", "published", "reproduce"]
