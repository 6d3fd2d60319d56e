"""Knowledge distillation from networks over a structure into students that need only features."""

from hgraph.distill.compare import Comparison, Measured, compare, unseen_accuracies
from hgraph.distill.foreign import dhg_teacher, pyg_teacher
from hgraph.distill.objectives import glnn, krd, lighthgnn, lighthgnn_plus, nosmog
from hgraph.distill.objectives.activations import MatchEmbedding, MatchSimilarity, activations, penultimate
from hgraph.distill.objectives.high_order import HighOrder, topology_score
from hgraph.distill.objectives.lesson import Lesson, Term
from hgraph.distill.objectives.positions import WithPositions, extend_positions, position_features
from hgraph.distill.objectives.ranking import PairwiseRanking, candidate_scores
from hgraph.distill.objectives.reliable import NoisyFeatures, ReliableLabels
from hgraph.distill.objectives.soft_labels import Labels, SoftLabels, soft_label_loss
from hgraph.distill.report import write_report
from hgraph.distill.serving.export import export
from hgraph.distill.serving.latency import latencies
from hgraph.distill.serving.predictor import Predictor
from hgraph.distill.teach import distill
from hgraph.distill.teachers import calibrated, ensemble, fit_temperature
from hgraph.distill.towers import distill_recommender, export_towers

__all__ = [
    "Comparison",
    "HighOrder",
    "Labels",
    "Lesson",
    "MatchEmbedding",
    "MatchSimilarity",
    "Measured",
    "NoisyFeatures",
    "PairwiseRanking",
    "Predictor",
    "ReliableLabels",
    "SoftLabels",
    "Term",
    "WithPositions",
    "activations",
    "calibrated",
    "candidate_scores",
    "compare",
    "dhg_teacher",
    "distill",
    "distill_recommender",
    "ensemble",
    "export",
    "export_towers",
    "extend_positions",
    "fit_temperature",
    "glnn",
    "krd",
    "latencies",
    "lighthgnn",
    "lighthgnn_plus",
    "nosmog",
    "penultimate",
    "position_features",
    "pyg_teacher",
    "soft_label_loss",
    "topology_score",
    "unseen_accuracies",
    "write_report",
]
