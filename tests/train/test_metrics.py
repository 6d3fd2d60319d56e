"""Metrics against scikit-learn and a loop."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score

from hgraph.errors import ArgumentError
from hgraph.train import accuracy, expected_calibration_error


def sample(n, c=4, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, c, generator=generator), torch.randint(c, (n,), generator=generator)


@pytest.mark.parametrize("n", [1, 7, 500])
def test_accuracy_is_scikit_learns(n):
    logits, y = sample(n)
    assert accuracy(logits, y) == pytest.approx(accuracy_score(y, logits.argmax(-1)), abs=1e-15)


@pytest.mark.parametrize("bins", [1, 2, 15])
@pytest.mark.parametrize("scale", [0.0, 1.0, 6.0])
def test_calibration_error_is_the_loop_over_bins(bins, scale):
    logits, y = sample(400, scale=scale)
    confidence, predicted = logits.double().softmax(-1).max(-1)
    expected = 0.0
    for b in range(bins):
        inside = [i for i in range(400) if b / bins < confidence[i] <= (b + 1) / bins]
        if inside:
            right = sum(float(predicted[i] == y[i]) for i in inside) / len(inside)
            stated = sum(float(confidence[i]) for i in inside) / len(inside)
            expected += len(inside) / 400 * abs(right - stated)
    assert expected_calibration_error(logits, y, bins) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_the_extremes():
    eye = torch.eye(3) * 1e3
    assert expected_calibration_error(eye, torch.arange(3)) == 0
    assert expected_calibration_error(eye, torch.tensor([1, 2, 0])) == 1
    uniform = torch.zeros(3, 3)  # states 1/3, predicts class 0
    assert expected_calibration_error(uniform, torch.arange(3)) == pytest.approx(0)


@pytest.mark.parametrize("metric", [accuracy, expected_calibration_error])
def test_shapes_that_do_not_fit_are_refused(metric):
    with pytest.raises(ArgumentError, match="logits"):
        metric(torch.zeros(3), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ArgumentError, match=r"y: expected shape \[3\]"):
        metric(torch.zeros(3, 2), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ArgumentError, match="at least one label"):
        metric(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))


def test_no_bins_are_refused():
    with pytest.raises(ArgumentError, match="bins"):
        expected_calibration_error(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), bins=0)
