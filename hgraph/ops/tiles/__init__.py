"""Attention over tiles of tokens: the plan of dense products, and its operators."""
