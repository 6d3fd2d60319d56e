"""Mixture of heads."""
