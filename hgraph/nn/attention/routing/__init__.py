"""Routing attention."""
