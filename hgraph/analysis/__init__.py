"""Looking into models."""

from hgraph.analysis.hyperedges import draw_hyperedges, record_hyperedges

__all__ = ["draw_hyperedges", "record_hyperedges"]
