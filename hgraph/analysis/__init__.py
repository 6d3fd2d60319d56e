"""Tools for analyzing models."""

from hgraph.analysis.attention import (
    column_mass,
    draw_column_mass,
    draw_mass_by_type,
    head_importance,
    mass_by_type,
    receptive_fields,
    sinks,
)
from hgraph.analysis.hyperedges import draw_hyperedges, record_hyperedges

__all__ = [
    "column_mass",
    "draw_column_mass",
    "draw_hyperedges",
    "draw_mass_by_type",
    "head_importance",
    "mass_by_type",
    "receptive_fields",
    "record_hyperedges",
    "sinks",
]
