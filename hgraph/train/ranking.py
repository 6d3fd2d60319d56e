"""Metrics of classification and ranking: F1, ROC-AUC, recall, NDCG and MRR."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.data.labels import labeled
from hgraph.errors import ArgumentError
from hgraph.train.metrics import scored_rows

__all__ = ["f1", "mrr", "ndcg_at", "recall_at", "roc_auc"]


def f1(logits: Tensor, y: Tensor) -> float:
    r"""Macro F1: the mean over classes of the harmonic mean of precision and recall.

    Use it when classes are imbalanced.

    .. math:: \frac1{|C'|} \sum_{c \in C'} \frac{2\, TP_c}{2\, TP_c + FP_c + FN_c}

    Args:
        logits: [N, C].
        y: [N] or [N, 1] class numbers; unlabeled rows (-1, NaN) are ignored.

    Returns:
        The mean over the classes C' among the labels and the predictions (as scikit-learn's ``average="macro"``).

    >>> f1(torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1]))
    0.6666666666666666
    """
    logits, y = scored_rows(logits, y)
    predicted, classes = logits.argmax(1), logits.shape[1]
    hit = torch.bincount(y[predicted == y], minlength=classes)
    both = torch.bincount(y, minlength=classes) + torch.bincount(predicted, minlength=classes)
    present = both > 0
    return float((2 * hit[present].double() / both[present]).mean())


def roc_auc(score: Tensor, y: Tensor) -> float:
    r"""The probability that a positive has a higher score than a negative; a tie counts one half.

    Use it when scores of two classes are compared without a threshold.

    .. math:: \frac{1}{|P| |N|} \sum_{p \in P} \sum_{n \in N} \bigl([s_p > s_n] + \tfrac12 [s_p = s_n]\bigr)

    Args:
        score: [N] numbers, larger if a positive is more likely.
        y: [N] 1 or True for positives, 0 or False for negatives; unlabeled rows (-1, NaN) are ignored. Labels that
            are all -1 or 1 are an error, because -1 means missing.

    Raises:
        ArgumentError: shapes differ, scores are NaN, labels are not 0 and 1, or one of the classes is missing.

    >>> roc_auc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
    0.75
    """
    score, y = (v.squeeze(1) if v.dim() == 2 and v.shape[1] == 1 else v for v in (score, y))
    if score.dim() != 1 or y.shape != score.shape:
        raise ArgumentError("score, y", "two tensors [N]", f"{list(score.shape)}, {list(y.shape)}")
    known = labeled(y)
    score, y = score[known], y[known]
    if bool(score.isnan().any()):
        raise ArgumentError(
            "score", "numbers", f"{int(score.isnan().sum())} NaN", "The model diverged: try a smaller lr"
        )
    positive = y.bool()
    if bool((other := y != positive).any()):
        raise ArgumentError("y", "labels 0 and 1, or -1 and NaN for missing labels", y[other][0].item())
    count = int(positive.sum())
    if count in (0, len(y)):
        hint = "Use 0 for negatives: -1 is a missing label" if count and count < len(known) else ""
        raise ArgumentError("y", "positives and negatives", f"{count} positives of {len(y)} labels", hint)
    _, rank, repeats = torch.unique(score, return_inverse=True, return_counts=True)
    last = repeats.cumsum(0).double()
    mean_rank = last - (repeats - 1) / 2  # ties get the mean of their ranks, which start at 1
    total = float(mean_rank[rank[positive]].sum())
    return (total - count * (count + 1) / 2) / (count * (len(y) - count))


def recall_at(score: Tensor, relevant: Tensor, k: int) -> float:
    r"""The fraction of relevant items among the k items with the highest scores; mean over users with relevant items.

    Use it when only the k best items are shown and their order does not matter.

    .. math:: \frac1{|U|} \sum_u \frac{|\mathrm{top}_k(u) \cap R_u|}{|R_u|}

    Args:
        score: [U, I]; ``-inf`` for items that are not recommended (such as training items).
        relevant: [U, I] booleans, R.
        k: number of items, 1 .. I.

    >>> recall_at(torch.tensor([[0.9, 0.1, 0.8]]), torch.tensor([[True, True, False]]), k=2)
    0.5
    """
    hit, relevant = _hits(score, relevant, k)
    count = relevant.sum(1)
    return float((hit.sum(1)[count > 0].double() / count[count > 0]).mean())


def ndcg_at(score: Tensor, relevant: Tensor, k: int) -> float:
    r"""Normalized discounted cumulative gain of the k best items; mean over users with relevant items.

    Use it when the order of the k best items matters.

    .. math:: \frac1{|U|} \sum_u \frac{\sum_{i \le k} [r_i \in R_u] / \log_2(i + 1)}
        {\sum_{i \le \min(k, |R_u|)} 1 / \log_2(i + 1)}

    Arguments as in `recall_at`.

    >>> ndcg_at(torch.tensor([[0.9, 0.1, 0.8]]), torch.tensor([[True, False, False]]), k=2)
    1.0
    """
    hit, relevant = _hits(score, relevant, k)
    gain = 1 / torch.arange(2, k + 2, device=score.device, dtype=torch.float64).log2()
    best = gain.cumsum(0)
    count = relevant.sum(1)
    some = count > 0
    return float(((hit[some] * gain).sum(1) / best[count[some].clamp(max=k) - 1]).mean())


def mrr(score: Tensor, target: Tensor) -> float:
    r"""Mean reciprocal rank of the correct candidate; among ties it has the middle rank.

    Use it when each row has one correct candidate.

    .. math:: \frac1N \sum_i \frac{1}{\mathrm{rank}_i},
        \qquad \mathrm{rank}_i = 1 + |\{j : s_{ij} > s_{i t_i}\}| + \tfrac12 |\{j \ne t_i : s_{ij} = s_{i t_i}\}|

    Args:
        score: [N, C] scores of the candidates.
        target: [N] number of the correct candidate.

    >>> mrr(torch.tensor([[0.2, 0.9, 0.1]]), torch.tensor([0]))
    0.5
    """
    if score.dim() != 2 or target.shape != score.shape[:1] or not len(target) or bool(score.isnan().any()):
        shapes = f"{list(score.shape)}, {list(target.shape)}"
        raise ArgumentError("score, target", "[N, C] without NaN and [N], N at least 1", shapes)
    if int(target.min()) < 0 or int(target.max()) >= score.shape[1]:
        raise ArgumentError("target", f"candidates in 0 .. {score.shape[1] - 1}", f"{target.min()} .. {target.max()}")
    correct = score.gather(1, target[:, None])
    rank = 1 + (score > correct).sum(1) + ((score == correct).sum(1) - 1) / 2
    return float((1 / rank.double()).mean())


def _hits(score: Tensor, relevant: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """[U, k] whether the i-th best item is relevant; ties are sorted by item id."""
    if score.dim() != 2 or relevant.shape != score.shape or bool(score.isnan().any()):
        shapes = f"{list(score.shape)}, {list(relevant.shape)}"
        raise ArgumentError("score, relevant", "two tensors [U, I] without NaN", shapes)
    if not 1 <= k <= score.shape[1]:
        raise ArgumentError("k", f"1 .. {score.shape[1]} (the items)", k)
    relevant = relevant.bool()
    if not bool(relevant.any()):
        raise ArgumentError("relevant", "a relevant item for at least one user", "none")
    best = score.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return relevant.gather(1, best), relevant
