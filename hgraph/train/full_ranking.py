"""How good a recommender is when it ranks every item for every user."""

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

__all__ = ["best_items", "by_popularity", "full_ranking", "ranking_of_users"]

Score = Callable[[Tensor], Tensor]  # users [B] -> scores of all items [B, I]


def by_popularity(train: Adjacency) -> Score:
    r"""Scores that say nothing of the user: :math:`y_{ui}` is the number of users who took item i in training.

    What knows less than this has learned nothing: rank by it first, and hold a model's figures against it.

    Args:
        train: the U x I pairs of the training.

    Returns:
        A function from users [B] to scores [B, I], as `full_ranking` takes it.

    >>> pairs = Adjacency.from_coo(target=[0, 1, 1], source=[1, 1, 2], num_targets=2, num_sources=3)
    >>> by_popularity(pairs)(torch.tensor([0])).tolist()
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

    .. math:: \mathrm{recall} = \frac{|H|}{|R|}, \quad \mathrm{precision} = \frac{|H|}{K}, \quad
        \mathrm{hit} = [|H| > 0], \quad
        \mathrm{ndcg} = \frac{\sum_{i \le K} [i \in H] / \log_2(i + 1)}{\sum_{i \le n} 1 / \log_2(i + 1)}

    with H the test items among the K best and :math:`n = \min(K, |R|)`.

    Args:
        score: scores [B, I] of all items for users [B]; or, with `Interactions`, a trained `Recommender`.
        test: the U x I test pairs, R; or `Interactions`, of which R is the test part.
        known: pairs that may not be recommended: those of the training, and of the validation. They are taken from
            `Interactions` where none are given.
        ks: every K.
        ideal: ``"hits"`` takes n as the smaller of K and the hits among the ``max(ks)`` best, and counts a user
            without any as 0. So KGAT's published code does; its figures are higher.
        chunk: users scored at once.

    Returns:
        ``"recall@K"`` and so on, [users with a test item] float64, and ``"user"``, who they are.

    Source: card 01, equation 12 and its pitfalls.

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
    most = max(ks)
    gain = 1 / torch.arange(2, most + 2, dtype=torch.float64, device=test.device).log2()
    best = torch.cat([gain.new_zeros(1), gain.cumsum(0)])
    parts: dict[str, list[Tensor]] = {}
    for some in users.split(chunk):
        hit = _member(test, some, best_items(score(some), some, known, most)[0]).double()
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
    """A function of users, the test pairs, and the pairs that may not be recommended."""
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
    """[B, k] the items that are scored highest, best first, and their scores; of equal scores the smaller number first.

    Args:
        scores: [B, I] of all items; NaN is refused.
        users: [B], whose scores they are.
        known: U x I pairs that come after all others, with a score of -inf.
        k: how many.
    """
    if bool(scores.isnan().any()):
        raise ArgumentError("score", "numbers", "NaN", "A smaller lr may help")
    scores = scores.clone()
    for pairs in known:
        rows = pairs.select(users)
        scores[rows.target.long(), rows.indices.long()] = float("-inf")
    value, item = scores.topk(k, dim=1)
    # topk promises no order among equals: where the last place is tied, sort; else bring equals into order
    tied = (scores >= value[:, -1:]).sum(1) > k
    if bool(tied.any()):
        item[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
        value = scores.gather(1, item)
    order = item.argsort(dim=1, stable=True)
    order = order.gather(1, value.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return item.gather(1, order), value.gather(1, order)


def _member(pairs: Adjacency, rows: Tensor, columns: Tensor) -> Tensor:
    """Boolean [B, k]: whether (rows[b], columns[b, k]) is a pair."""
    codes = coo.pair_codes(pairs.target, pairs.indices, *pairs.shape)
    wanted = coo.pair_codes(rows.unsqueeze(1), columns, *pairs.shape)
    at = torch.searchsorted(codes, wanted).clamp(max=max(len(codes) - 1, 0))
    return codes[at] == wanted
