"""Distillation: what a network over a structure knows, taught to one that needs none."""

from hgraph.distill.compare import Comparison, Measured, compare
from hgraph.distill.latency import latencies
from hgraph.distill.report import write_report
from hgraph.distill.soft_labels import distill, soft_label_loss

__all__ = ["Comparison", "Measured", "compare", "distill", "latencies", "soft_label_loss", "write_report"]
