"""Missing labels are ignored in every metric, split, training and plot; NaN predictions raise an error."""

from __future__ import annotations

import pytest
import torch

from hgraph import Data, Graph, Split
from hgraph.datasets.tables import division
from hgraph.distill import fit_temperature
from hgraph.errors import ArgumentError
from hgraph.models import MLP
from hgraph.train import accuracy, classification_loss, expected_calibration_error, f1, fit, roc_auc, training_view
from hgraph.train.plots import confusion_matrix, reliability_diagram

NAN = float("nan")
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.5, 0.0], [0.0, 4.0]])
KNOWN = torch.tensor([0, 1, 1])
RING = Graph.from_edge_index([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]], num_nodes=5, directed=False)

# the labels of rows 0, 1, 2 are KNOWN; those of 3 and 4 are missing
MISSING = {
    "-1": torch.tensor([0, 1, 1, -1, -1]),
    "-100": torch.tensor([0, 1, 1, -100, -1]),
    "NaN": torch.tensor([0, 1, 1, NAN, NAN]),
    "[N, 1]": torch.tensor([[0], [1], [1], [-1], [-1]]),
    "[N, 1] NaN": torch.tensor([[0], [1], [1], [NAN], [NAN]]),
}
METRICS = {
    "accuracy": (accuracy, LOGITS),
    "calibration": (expected_calibration_error, LOGITS),
    "f1": (f1, LOGITS),
    "temperature": (fit_temperature, LOGITS),
    "roc_auc": (roc_auc, LOGITS[:, 1]),
}


@pytest.mark.checked(
    "labels", "Missing labels (-1, NaN) are left out of every metric; they count neither as wrong nor as positive."
)
@pytest.mark.parametrize("y", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize(("metric", "given"), METRICS.values(), ids=METRICS)
def test_a_metric_is_that_of_the_labeled_rows(metric, given, y):
    assert metric(given, y) == metric(given[:3], KNOWN)


@pytest.mark.checked("labels", "NaN predictions are an error; they never give a score.")
@pytest.mark.parametrize(("metric", "given"), METRICS.values(), ids=METRICS)
def test_nan_predictions_are_refused(metric, given):
    broken = given.clone()
    broken[1] = NAN
    with pytest.raises(ArgumentError, match="expected numbers"):
        metric(broken, MISSING["-1"])


@pytest.mark.checked("labels", "`roc_auc` raises an error for labels -1 and 1 used as negatives and positives.")
def test_labels_of_another_convention_are_refused():
    with pytest.raises(ArgumentError, match="-1 is a missing label"):
        roc_auc(torch.rand(4), torch.tensor([-1, 1, -1, 1]))
    with pytest.raises(ArgumentError, match="labels 0 and 1"):
        roc_auc(torch.rand(3), torch.tensor([1, 2, 1]))
    for metric in (accuracy, f1, expected_calibration_error):
        with pytest.raises(ArgumentError, match=r"classes in 0 .. 1"):
            metric(torch.rand(2, 2), torch.tensor([1, 2]))
        with pytest.raises(ArgumentError, match="all without a label"):
            metric(torch.rand(2, 2), torch.tensor([-1, -1]))


@pytest.mark.checked("labels", "A random split leaves out nodes without a label.")
@pytest.mark.parametrize("y", [MISSING["-1"], MISSING["[N, 1]"]], ids=["-1", "[N, 1]"])
def test_random_splits_leave_out_unlabeled_rows(y):
    of_classes = Split.per_class(RING, torch.cat([y, y]), num_train_per_class=1, num_val_per_class=0)
    in_time = Split.by_time(RING, torch.arange(5), y=y, val_fraction=0.2, test_fraction=0.4)
    assert in_time.train.tolist() == [0, 1]
    assert in_time.val.tolist() == [2]
    assert not len(in_time.test)
    drawn = torch.cat([*division.stratified(y.flatten(), (0.4, 0.3, 0.3), seed=0)])
    assert drawn.sort().values.tolist() == [0, 1, 2]
    given = torch.cat([of_classes.train, of_classes.val, of_classes.test]).sort().values
    assert given.tolist() == [0, 1, 2, 5, 6, 7]


@pytest.mark.checked(
    "labels", "Training and validation leave out nodes without a label, even if the split contains them."
)
def test_training_leaves_out_unlabeled_rows():
    parts = Split(RING, torch.tensor([0, 1, 3]), torch.tensor([2, 4]), torch.empty(0, dtype=torch.long))
    data = Data(RING, torch.eye(5), MISSING["[N, 1]"], {"default": parts}).validate()
    assert data.num_classes == 2
    part = training_view(data)
    assert (part.train.tolist(), part.val.tolist()) == ([0, 1], [2])
    loss, validate = classification_loss(part)
    assert loss(LOGITS).item() == pytest.approx(torch.nn.functional.cross_entropy(LOGITS[:2], KNOWN[:2]).item())
    assert validate(LOGITS) == 0.0
    result = fit(MLP(5, 4, 2), (data.x,), loss, validate=validate, epochs=2, progress=False)
    assert len(result.history) == 2
    nothing = Data(RING, torch.eye(5), torch.full((5,), -1), {"default": parts})
    with pytest.raises(ArgumentError, match="training node with a label"):
        classification_loss(training_view(nothing))[0](LOGITS)
    fractions = Data(RING, torch.eye(5), MISSING["NaN"], {"default": parts})
    with pytest.raises(ArgumentError, match="class numbers"):
        classification_loss(training_view(fractions))[0](LOGITS)


def test_plots_leave_out_unlabeled_rows():
    for y in (MISSING["-1"], MISSING["[N, 1]"]):
        assert reliability_diagram(LOGITS, y, "t") == reliability_diagram(LOGITS[:3], KNOWN, "t")
        assert confusion_matrix(LOGITS, y, "ab", "t") == confusion_matrix(LOGITS[:3], KNOWN, "ab", "t")
