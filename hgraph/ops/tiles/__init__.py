"""Attention over tiles of tokens: the plan of dense products, and the operators that run it."""
