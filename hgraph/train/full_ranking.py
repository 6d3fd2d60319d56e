"""Metrics of a recommender that ranks all items for each user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from hgraph.data import Interactions
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models.recommend.base import Recommender
from hgraph.structure import Adjacency, coo
from hgraph.train.scores import scorer, structure_of

__all__ = ["best_items", "full_ranking", "popularity_baseline", "ranking_of_users"]

Score = Callable[[Tensor], Tensor]  # users [B] -> scores of all items [B, I]


def popularity_baseline(train: Adjacency) -> Score:
    r"""A baseline that ranks items by popularity: :math:`y_{ui}` is the number of training users of item i.

    Use it when the metrics of a recommender need a baseline: a useful model is better.

    Args:
        train: the U x I training pairs.

    Returns:
        A function from users [B] to scores [B, I], for `full_ranking`.

    >>> pairs = Adjacency.from_coo(target=[0, 1, 1], source=[1, 1, 2], num_targets=2, num_sources=3)
    >>> popularity_baseline(pairs)(torch.tensor([0])).tolist()
    [[0.0, 2.0, 1.0]]
    """
    count = train.source_degree().to(torch.get_default_dtype())
    return lambda users: count.expand(len(users), -1)


def full_ranking(
    score: Score | Recommender,
    test: Adjacency | Interactions,
    known: Sequence[Adjacency] = (),
    *,
    ks: Sequence[int] = (20,),
    ideal: Literal["all", "hits"] = "all",
    chunk: int = 1024,
) -> dict[str, float]:
    """The means over users of `ranking_of_users`; ``full_ranking(model, data)`` ranks the test items of a data set.

    Use it when one number per metric is needed for a recommender.

    >>> pairs = Adjacency.from_coo(target=[0], source=[1], num_targets=1, num_sources=3)
    >>> full_ranking(lambda users: torch.tensor([[0.1, 0.5, 0.9]]), pairs, ks=[2])["recall@2"]
    1.0
    """
    found = ranking_of_users(score, test, known, ks=ks, ideal=ideal, chunk=chunk)
    return {name: float(values.mean()) for name, values in found.items() if name != "user"}


def ranking_of_users(
    score: Score | Recommender,
    test: Adjacency | Interactions,
    known: Sequence[Adjacency] = (),
    *,
    ks: Sequence[int] = (20,),
    ideal: Literal["all", "hits"] = "all",
    chunk: int = 1024,
) -> dict[str, Tensor]:
    r"""Recall, NDCG, hit rate and precision of the K best of all items, for each user with a test item.

    Use it when metrics per user are needed, for example for confidence intervals.

    .. math:: \mathrm{recall} = \frac{|H|}{|R|}, \quad \mathrm{precision} = \frac{|H|}{K}, \quad
        \mathrm{hit} = [|H| > 0], \quad
        \mathrm{ndcg} = \frac{\sum_{i \le K} [i \in H] / \log_2(i + 1)}{\sum_{i \le n} 1 / \log_2(i + 1)}

    with H the test items among the K best and :math:`n = \min(K, |R|)`.

    Args:
        score: scores [B, I] of all items for users [B]; or, with `Interactions`, a trained `Recommender`.
        test: the U x I test pairs, R; or `Interactions`, whose test part is R.
        known: training and validation pairs, which are not recommended; by default those of the `Interactions`.
        ks: all values of K.
        ideal: with ``"hits"``, n is the smaller of K and the number of hits among the ``max(ks)`` best items, and the
            NDCG of a user without hits is 0. KGAT's published code does this; its values are higher.
        chunk: users scored at once.

    Returns:
        ``"recall@K"`` and so on, [users with a test item] float64, and ``"user"``, their ids.

    Source: Wang et al., "KGAT", KDD 2019, section 4.2 (recall@K and NDCG@K over all items).

    >>> pairs = Adjacency.from_coo(target=[0, 1], source=[1, 0], num_targets=2, num_sources=3)
    >>> scores = torch.tensor([[0.1, 0.5, 0.9], [0.9, 0.5, 0.1]])
    >>> found = ranking_of_users(lambda users: scores[users], pairs, ks=[1])
    >>> found["user"].tolist(), found["recall@1"].tolist()
    ([0, 1], [0.0, 1.0])
    """
    if ideal not in ("all", "hits"):
        raise ArgumentError("ideal", "'all' or 'hits'", repr(ideal))
    score, test, known = _parts(score, test, known)
    users = (test.indptr.diff() > 0).nonzero().flatten()
    if not len(users):
        raise ArgumentError("test", "a user with a test item", "none")
    if not ks or not all(1 <= k <= test.num_sources for k in ks):
        raise ArgumentError("ks", f"numbers of items, 1 .. {test.num_sources}", list(ks))
    largest = max(ks)
    gain = 1 / torch.arange(2, largest + 2, dtype=torch.float64, device=test.device).log2()
    best = torch.cat([gain.new_zeros(1), gain.cumsum(0)])
    parts: dict[str, list[Tensor]] = {}
    for some in users.split(chunk):
        hit = _member(test, some, best_items(score(some), some, known, largest)[0]).double()
        count = test.indptr.diff()[some].double()
        for k in ks:
            hits = hit[:, :k].sum(1)
            n = (count if ideal == "all" else hit.sum(1)).clamp(max=k).long()
            found = {
                "recall": hits / count,
                "ndcg": (hit[:, :k] * gain[:k]).sum(1) / best[n].clamp(min=1e-300),
                "hit": (hits > 0).double(),
                "precision": hits / k,
            }
            for name, values in found.items():
                parts.setdefault(f"{name}@{k}", []).append(values)
    return {name: torch.cat(values) for name, values in parts.items()} | {"user": users}


def _parts(
    score: Score | Recommender, test: Adjacency | Interactions, known: Sequence[Adjacency]
) -> tuple[Score, Adjacency, Sequence[Adjacency]]:
    """A function of users, the test pairs, and the pairs that are not recommended."""
    if isinstance(test, Interactions):
        known, data, test = known or (test.train, test.val), test, test.test
        if isinstance(score, Recommender):
            of_users = scorer(score, structure_of(score, data))
            return lambda users: of_users(users).cpu(), test, known
    if not isinstance(test, Adjacency):
        raise ArgumentTypeError("test", "Interactions, or an Adjacency of the test pairs", type(test).__name__)
    if isinstance(score, torch.nn.Module):
        hint = "full_ranking(model, data) takes a Recommender with its Interactions"
        raise ArgumentTypeError("score", "a function from users [B] to scores [B, I]", type(score).__name__, hint)
    return score, test, known


def best_items(scores: Tensor, users: Tensor, known: Sequence[Adjacency], k: int) -> tuple[Tensor, Tensor]:
    """The k items with the highest scores, best first, and their scores, both [B, k]; ties are sorted by item id.

    Args:
        scores: [B, I] scores of all items; NaN is an error.
        users: [B] ids of the users.
        known: U x I pairs that are ranked last, with a score of -inf.
        k: number of items.
    """
    if bool(scores.isnan().any()):
        raise ArgumentError("score", "numbers", "NaN", "A smaller lr may help")
    scores = scores.clone()
    for pairs in known:
        rows = pairs.select(users)
        scores[rows.target.long(), rows.indices.long()] = float("-inf")
    value, item = scores.topk(k, dim=1)
    # topk does not define the order of ties: sort all scores if the last place is tied, else sort only the result
    tied = (scores >= value[:, -1:]).sum(1) > k
    if bool(tied.any()):
        item[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
        value = scores.gather(1, item)
    order = item.argsort(dim=1, stable=True)
    order = order.gather(1, value.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return item.gather(1, order), value.gather(1, order)


def _member(pairs: Adjacency, rows: Tensor, columns: Tensor) -> Tensor:
    """[B, k] booleans: whether (rows[b], columns[b, k]) is a pair."""
    codes = coo.pair_codes(pairs.target, pairs.indices, *pairs.shape)
    wanted = coo.pair_codes(rows.unsqueeze(1), columns, *pairs.shape)
    at = torch.searchsorted(codes, wanted).clamp(max=max(len(codes) - 1, 0))
    return codes[at] == wanted
