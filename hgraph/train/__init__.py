"""Training: a small fit loop, metrics, seeds."""

from hgraph.train.fit import FitResult, TrainingError, fit
from hgraph.train.metrics import accuracy, expected_calibration_error
from hgraph.train.observed import Observed, observed
from hgraph.train.seed import seeded

__all__ = [
    "FitResult",
    "Observed",
    "TrainingError",
    "accuracy",
    "expected_calibration_error",
    "fit",
    "observed",
    "seeded",
]
