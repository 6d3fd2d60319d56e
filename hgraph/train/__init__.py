"""Training: a small fit loop, metrics, seeds."""

from hgraph.train.fit import FitResult, TrainingError, cosine, fit
from hgraph.train.metrics import accuracy, expected_calibration_error
from hgraph.train.mode import evaluating
from hgraph.train.observed import Observed, observed, supervised
from hgraph.train.ranking import f1, mrr, ndcg_at, recall_at, roc_auc
from hgraph.train.seed import seeded

__all__ = [
    "FitResult",
    "Observed",
    "TrainingError",
    "accuracy",
    "cosine",
    "evaluating",
    "expected_calibration_error",
    "f1",
    "fit",
    "mrr",
    "ndcg_at",
    "observed",
    "recall_at",
    "roc_auc",
    "seeded",
    "supervised",
]
