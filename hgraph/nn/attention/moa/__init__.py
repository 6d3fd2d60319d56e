"""Mixture of attention spans."""
