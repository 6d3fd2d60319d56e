"""`fit_recommender`: alternates steps on the ranking loss and on the triple loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hgraph.checks import real
from hgraph.data import Interactions
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models.recommend.base import Recommender
from hgraph.structure import Adjacency, KnowledgeGraph
from hgraph.train.checkpoint import Checkpoint
from hgraph.train.full_ranking import full_ranking
from hgraph.train.loop import FitResult, descend, train_loop
from hgraph.train.samplers import PairSampler, TripleSampler
from hgraph.train.scores import scorer

__all__ = ["fit_recommender"]


def fit_recommender(
    model: Recommender,
    data: Interactions,
    *,
    epochs: int = 100,
    lr: float = 1e-3,
    batch: int = 1024,
    triple_batch: int = 2048,
    l2: float = 1e-5,
    triple_l2: float = 1e-5,
    eval_every: int = 10,
    save_every: int = 10,
    patience: int | None = 10,
    k: int = 20,
    validate_users: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    label: str = "fit",
) -> FitResult:
    r"""Train a recommender with two Adam optimizers, then restore its best state and set it to eval mode.

    Use it when a model of `hgraph.models.recommend` is trained on `Interactions`.

    An epoch is ``pairs // batch + 1`` steps on `Recommender.pair_loss`, then, if the model learns from triples,
    ``edges // triple_batch + 1`` steps on `Recommender.triple_loss` with the second optimizer, then
    `Recommender.refresh`. Every ``eval_every`` epochs, all items are ranked for the users with validation items. The
    state with the highest recall is restored at the end (the first of equal ones); without validation items, the last
    state stays.

    Args:
        model: any `Recommender`.
        data: the training data; the test part is not used.
        epochs: maximum number of epochs. A training that is continued with more epochs has one more evaluation, after
            its former last epoch.
        lr: the learning rate of both optimizers.
        batch: users per step.
        triple_batch: triples per step.
        l2: L2 penalty on the embeddings of a batch of pairs; it is not Adam's weight decay.
        triple_l2: L2 penalty on the embeddings of a batch of triples.
        eval_every: rank every this many epochs, and after the last one.
        save_every: write a checkpoint every this many epochs; also if the last one is 30 s old, and after the last
            epoch.
        patience: stop after this many rankings without a better one; None never stops early.
        k: the state with the best recall@k is restored; at most the number of items is used.
        validate_users: rank only for this many users with validation items, sampled once under the seed; None uses
            all. With many users, ranking can take longer than training.
        checkpoint: a file to save the state to and to resume from, as in `fit`.
        log: a JSON lines file for the history, one line per epoch.
        seed: seed of batches and dropout.
        progress: show a progress bar on stderr; None shows it on a terminal only.
        label: name of this training in the progress bar and the log.

    Raises:
        ArgumentError: the sizes of the data and the model differ, or the checkpoint has other settings.
        TrainingError: a loss is not finite.

    Source: Wang et al., "KGAT", KDD 2019, section 3.4 (alternating optimization).

    >>> from hgraph.models import BPRMF
    >>> kg = KnowledgeGraph.from_names([("Dune", "is like", "Ubik")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=2)
    >>> result = fit_recommender(BPRMF(1, 2, dim=4), data, epochs=3, lr=0.1)
    >>> result.best_epoch, result.history[2]["loss"] < result.history[0]["loss"]
    (3, True)
    """
    _check(model, data, epochs, (eval_every, save_every), batch, triple_batch, patience, validate_users, k)
    for name, value in (("lr", lr), ("l2", l2), ("triple_l2", triple_l2)):
        real(name, value, "a finite number, 0 or more")
    settings: dict[str, Any] = {"seed": seed, "lr": lr, "batch": batch, "triple_batch": triple_batch, "l2": l2}
    file = Checkpoint(
        checkpoint,
        settings | {"triple_l2": triple_l2, "every": eval_every, "k": k, "validate_users": validate_users},
    )
    optimizers = _Optimizers(model, lr)
    device = next(model.parameters()).device
    structure = model.structure(data).to(device)
    val, known = _sampled(data.val, validate_users, seed).to(device), [data.train.to(device)]
    steps = _Steps(model, data, structure, optimizers, (batch, triple_batch), (l2, triple_l2))
    cut = min(k, data.num_items)

    def recall(epoch: int) -> float:
        return _recall(model, steps.now, val, known, cut)

    return train_loop(
        model, steps, recall if val.num_edges else None, file, optimizer=optimizers, devices=[device],
        epochs=epochs, seed=seed, label=label, start=steps.start, eval_every=eval_every, patience=patience,
        save_every=save_every, log=log, progress=progress,
    )  # fmt: skip


def _recall(model: Recommender, structure: KnowledgeGraph, val: Adjacency, known: list[Adjacency], cut: int) -> float:
    return full_ranking(scorer(model, structure), val, known, ks=[cut])[f"recall@{cut}"]


def _sampled(pairs: Adjacency, users: int | None, seed: int) -> Adjacency:
    """The pairs of ``users`` users, sampled under the seed among those with a pair."""
    some = (pairs.indptr.diff() > 0).nonzero().flatten()
    if users is None or users >= len(some):
        return pairs
    drawn = some[torch.randperm(len(some), generator=torch.Generator().manual_seed(seed))[:users].to(some.device)]
    selected = torch.isin(pairs.target, drawn)
    return Adjacency.from_coo(
        target=pairs.target[selected], source=pairs.indices[selected],
        num_targets=pairs.num_targets, num_sources=pairs.num_sources,
    )  # fmt: skip


class _Optimizers:
    """The two optimizers, with one state for the checkpoint."""

    def __init__(self, model: Recommender, lr: float) -> None:
        # Parameters that a phase does not use have no gradient and do not change. Fused, because separate passes over
        # the embeddings would take most of the time of a step on triples.
        self.pairs = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        self.triples = torch.optim.Adam(model.parameters(), lr=lr, fused=True)

    def state_dict(self) -> dict[str, Any]:
        return {"pairs": self.pairs.state_dict(), "triples": self.triples.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pairs.load_state_dict(state["pairs"])
        self.triples.load_state_dict(state["triples"])


@dataclass
class _Steps:
    """The steps of one epoch; returns the mean losses."""

    model: Recommender
    data: Interactions
    structure: KnowledgeGraph
    optimizers: _Optimizers
    sizes: tuple[int, int]
    l2: tuple[float, float]

    def __post_init__(self) -> None:
        self.pairs = PairSampler(self.data.train.to(self.structure.device))
        some = self.model.has_triples and self.structure.num_edges > 0
        self.triples = TripleSampler(self.structure) if some else None

    def start(self, resumed: bool) -> None:
        # the structure is computed from the parameters, so a resumed training computes the same one
        self.first = self.now = self.model.start(self.structure)  # values cached for it are reused by every refresh
        if resumed:
            self.now = self.model.refresh(self.first)

    def __call__(self, epoch: int) -> dict[str, float]:
        self.model.train()
        count = self.data.train.num_edges // self.sizes[0] + 1
        record = {"loss": self._run(count, self.optimizers.pairs, epoch, self._pair_loss)}
        if self.triples is not None:
            count = self.structure.num_edges // self.sizes[1] + 1
            record["triple_loss"] = self._run(count, self.optimizers.triples, epoch, self._triple_loss)
        self.now = self.model.refresh(self.first)
        return record

    def _pair_loss(self) -> Tensor:
        return self.model.pair_loss(self.now, *self.pairs.draw(self.sizes[0]), l2=self.l2[0])

    def _triple_loss(self) -> Tensor:
        assert self.triples is not None  # noqa: S101 - only called then
        return self.model.triple_loss(*self.triples.draw(self.sizes[1]), l2=self.l2[1])

    def _run(self, count: int, optimizer: torch.optim.Optimizer, epoch: int, loss: Callable[[], Tensor]) -> float:
        return sum(descend(optimizer, loss(), epoch) for _ in range(count)) / count


def _check(
    model: Recommender,
    data: Interactions,
    epochs: int,
    every: tuple[int, int],
    batch: int,
    triples: int,
    patience: int | None,
    users: int | None,
    k: int,
) -> None:
    if not isinstance(data, Interactions):
        hint = "Interactions.random(users, items, kg, num_users=..., num_items=...) creates them from pairs"
        raise ArgumentTypeError("data", "Interactions", type(data).__name__, hint)
    if (model.num_users, model.num_items) != (data.num_users, data.num_items):
        wanted = f"{data.num_users} users and {data.num_items} items, the numbers of the data"
        raise ArgumentError("model", wanted, f"{model.num_users} and {model.num_items}")
    numbers: Sequence[tuple[str, int, int]] = (
        ("epochs", epochs, 0),
        ("eval_every", every[0], 1),
        ("save_every", every[1], 1),
        ("batch", batch, 1),
        ("triple_batch", triples, 1),
        ("patience", 1 if patience is None else patience, 1),
        ("validate_users", 1 if users is None else users, 1),
        ("k", k, 1),
    )
    for name, value, least in numbers:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ArgumentError(name, f"a whole number, {least} or more", repr(value))
