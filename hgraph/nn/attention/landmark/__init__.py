"""Landmark attention."""
