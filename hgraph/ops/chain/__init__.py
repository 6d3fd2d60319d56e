"""Recurrences along a chain."""
