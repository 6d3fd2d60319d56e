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
from hgraph.analysis.explain import NodeExplanation, counterfactual, draw_explanation, explain_node, fidelity
from hgraph.analysis.hyperedges import draw_hyperedges, record_hyperedges

__all__ = [
    "NodeExplanation",
    "column_mass",
    "counterfactual",
    "draw_column_mass",
    "draw_explanation",
    "draw_hyperedges",
    "draw_mass_by_type",
    "explain_node",
    "fidelity",
    "head_importance",
    "mass_by_type",
    "receptive_fields",
    "record_hyperedges",
    "sinks",
]
