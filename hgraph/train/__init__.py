"""Training loops, metrics, samplers, checkpoints and seeds."""

from hgraph.train.build import build_model
from hgraph.train.completion import Completions, complete_triples
from hgraph.train.fit import cosine, fit
from hgraph.train.full_ranking import full_ranking, popularity_baseline, ranking_of_users
from hgraph.train.graphs import fit_graphs, graph_labels, graph_outputs
from hgraph.train.loop import FitResult, TrainingError
from hgraph.train.metrics import accuracy, expected_calibration_error
from hgraph.train.mode import eval_mode
from hgraph.train.node_metrics import auroc, balanced_accuracy, mae, multilabel_f1, r2, rmse
from hgraph.train.ranking import f1, mrr, ndcg_at, recall_at, roc_auc
from hgraph.train.recommend import Explanation, Recommendation, explain, recommend
from hgraph.train.recommender import fit_recommender
from hgraph.train.samplers import PairSampler, TripleSampler
from hgraph.train.scores import scorer, structure_of
from hgraph.train.seed import seeded
from hgraph.train.tasks import Classification, MultiLabel, NodeTask, Regression, task_from, task_of
from hgraph.train.threads import fastest_threads
from hgraph.train.triples import fit_triples, triple_ranking
from hgraph.train.view import TrainingView, classification_loss, task_loss, training_view

__all__ = [
    "Classification",
    "Completions",
    "Explanation",
    "FitResult",
    "MultiLabel",
    "NodeTask",
    "PairSampler",
    "Recommendation",
    "Regression",
    "TrainingError",
    "TrainingView",
    "TripleSampler",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "build_model",
    "classification_loss",
    "complete_triples",
    "cosine",
    "eval_mode",
    "expected_calibration_error",
    "explain",
    "f1",
    "fastest_threads",
    "fit",
    "fit_graphs",
    "fit_recommender",
    "fit_triples",
    "full_ranking",
    "graph_labels",
    "graph_outputs",
    "mae",
    "mrr",
    "multilabel_f1",
    "ndcg_at",
    "popularity_baseline",
    "r2",
    "ranking_of_users",
    "recall_at",
    "recommend",
    "rmse",
    "roc_auc",
    "scorer",
    "seeded",
    "structure_of",
    "task_from",
    "task_loss",
    "task_of",
    "training_view",
    "triple_ranking",
]
