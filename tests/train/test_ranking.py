"""F1, ROC-AUC, recall, NDCG and MRR against scikit-learn and loops over their sums."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from hgraph.errors import ArgumentError
from hgraph.train import expected_calibration_error, f1, mrr, ndcg_at, recall_at, roc_auc


def table(seed, rows, columns, ties):
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(rows, columns, generator=generator)
    return score.round() if ties else score


sizes = st.tuples(st.integers(0, 999), st.integers(1, 12), st.integers(1, 6), st.booleans())


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_f1_is_scikit_learns(size):
    seed, n, classes, _ = size
    logits = table(seed, n, classes, False)
    y = torch.randint(0, classes, (n,), generator=torch.Generator().manual_seed(seed + 1))
    expected = metrics.f1_score(y.numpy(), logits.argmax(1).numpy(), average="macro", zero_division=0)
    assert f1(logits, y) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_auc_is_scikit_learns_with_ties(size):
    seed, n, _, ties = size
    score, y = table(seed, n + 1, 1, ties)[:, 0], torch.rand(n + 1, generator=torch.Generator().manual_seed(seed)) < 0.5
    y[0], y[-1] = True, False
    assert roc_auc(score, y) == pytest.approx(metrics.roc_auc_score(y.numpy(), score.numpy()))


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 6))
def test_recall_and_ndcg_are_their_sums(size, k):
    seed, users, items, ties = size
    k = min(k, items)
    score = table(seed, users, items, ties)
    relevant = torch.rand(users, items, generator=torch.Generator().manual_seed(seed)) < 0.4
    relevant[0, 0] = True
    recalls, gains = [], []
    for u in range(users):
        wanted = {i for i in range(items) if relevant[u, i]}
        if not wanted:
            continue
        top = sorted(range(items), key=lambda i, u=u: (-float(score[u, i]), i))[:k]
        recalls.append(len(wanted & set(top)) / len(wanted))
        gain = sum(1 / math.log2(place + 2) for place, i in enumerate(top) if i in wanted)
        gains.append(gain / sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted)))))
    assert recall_at(score, relevant, k) == pytest.approx(sum(recalls) / len(recalls))
    assert ndcg_at(score, relevant, k) == pytest.approx(sum(gains) / len(gains))


def test_ndcg_is_scikit_learns_without_ties():
    score = table(0, 7, 9, False)
    relevant = torch.rand(7, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    relevant[:, 0] = True
    for k in (1, 3, 9):
        expected = metrics.ndcg_score(relevant.numpy(), score.numpy(), k=k)
        assert ndcg_at(score, relevant, k) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_mrr_is_its_sum(size):
    seed, n, candidates, ties = size
    score = table(seed, n, candidates, ties)
    target = torch.randint(0, candidates, (n,), generator=torch.Generator().manual_seed(seed))
    total = 0.0
    for row, t in zip(score.tolist(), target.tolist(), strict=True):
        above = sum(s > row[t] for s in row)
        ties = sum(s == row[t] for j, s in enumerate(row) if j != t)
        total += 1 / (1 + above + ties / 2)
    assert mrr(score, target) == pytest.approx(total / n)


def test_recall_and_mrr_are_scikit_learns_where_one_answer_is_right():
    score, target = table(3, 40, 9, False), torch.randint(0, 9, (40,), generator=torch.Generator().manual_seed(4))
    relevant = torch.nn.functional.one_hot(target, 9).bool()
    for k in (1, 3, 8):
        expected = metrics.top_k_accuracy_score(target.numpy(), score.numpy(), k=k, labels=range(9))
        assert recall_at(score, relevant, k) == pytest.approx(expected)
    expected = metrics.label_ranking_average_precision_score(relevant.numpy(), score.numpy())
    assert mrr(score, target) == pytest.approx(expected)


def test_rankings_and_calibration_are_torchmetrics():
    theirs = pytest.importorskip("torchmetrics")
    score = table(5, 30, 12, False)
    relevant = torch.rand(30, 12, generator=torch.Generator().manual_seed(6)) < 0.3
    relevant[:, 2] = True
    users = torch.arange(30).repeat_interleave(12)
    # torchmetrics ignores items whose score is not positive
    shown = {"preds": score.sigmoid().flatten(), "target": relevant.flatten(), "indexes": users}
    for k in (1, 4, 12):
        expected = theirs.retrieval.RetrievalRecall(top_k=k)(**shown)
        assert recall_at(score, relevant, k) == pytest.approx(float(expected), rel=1e-5)
        expected = theirs.retrieval.RetrievalNormalizedDCG(top_k=k)(**shown)
        assert ndcg_at(score, relevant, k) == pytest.approx(float(expected), rel=1e-5)
    target = relevant.int().argmax(1)
    one = {**shown, "target": torch.nn.functional.one_hot(target, 12).bool().flatten()}
    assert mrr(score, target) == pytest.approx(float(theirs.retrieval.RetrievalMRR()(**one)), rel=1e-5)
    for bins in (5, 15):
        expected = theirs.classification.MulticlassCalibrationError(12, n_bins=bins)(score.softmax(1), target)
        assert expected_calibration_error(score, target, bins) == pytest.approx(float(expected), abs=1e-5)


def test_constant_scores_are_not_rewarded():
    """A classical bug: a constant score ranks the correct candidate first."""
    assert mrr(torch.zeros(1, 9), torch.tensor([0])) == pytest.approx(1 / 5)
    assert roc_auc(torch.zeros(4), torch.tensor([1, 0, 1, 0])) == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: f1(torch.ones(2, 2), torch.tensor([0, 2])), "y: expected classes in 0 .. 1"),
        (lambda: f1(torch.ones(0, 2), torch.tensor([], dtype=torch.long)), "at least one label"),
        (lambda: roc_auc(torch.ones(2), torch.ones(2)), "y: expected positives and negatives"),
        (lambda: roc_auc(torch.full((2,), torch.nan), torch.tensor([0, 1])), "score: expected numbers, got 2 NaN"),
        (lambda: recall_at(torch.ones(1, 2), torch.ones(1, 2), 3), r"k: expected 1 .. 2"),
        (lambda: ndcg_at(torch.ones(1, 2), torch.zeros(1, 2), 1), "relevant"),
        (lambda: mrr(torch.ones(1, 2), torch.tensor([2])), r"candidates in 0 .. 1"),
    ],
)
def test_arguments_are_checked(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
