"""Published results run again: protocols as code, published and measured figures as TOML beside it."""

from hgraph.recipes.recipe import names, published, reproduce

__all__ = ["names", "published", "reproduce"]
