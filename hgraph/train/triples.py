"""`fit_triples` and `triple_ranking`: training and evaluation of knowledge-graph embeddings."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from hgraph.checks import real, whole
from hgraph.data import TripleSplit
from hgraph.data.leaks import inverse_triples, repeated_triples
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models.triples.kge import TripleModel
from hgraph.structure import Adjacency
from hgraph.train.checkpoint import Checkpoint
from hgraph.train.loop import FitResult, descend, train_loop
from hgraph.train.mode import eval_mode

__all__ = ["fit_triples", "triple_ranking"]

_LOG = logging.getLogger("hgraph")


def triple_ranking(
    model: TripleModel, test: Tensor, known: Tensor, *, ks: Sequence[int] = (1, 3, 10), chunk: int = 512
) -> dict[str, float]:
    r"""Ranks of the true tails and heads of held-out triples among all nodes that form no known triple.

    Use it when a model of triples is evaluated by link prediction.

    .. math:: \mathrm{rank} = 1 + |\{v : s_v > s\}| + \tfrac12 |\{v : s_v = s\}|, \qquad
              \mathrm{mrr} = \operatorname{mean} \frac1{\mathrm{rank}}, \qquad
              \mathrm{hits@}K = \operatorname{mean}\, [\mathrm{rank} \le K]

    with v over the other nodes that form no known triple (filtered setting), the middle rank for ties (realistic rank),
    and means over both sides of every triple.

    Args:
        model: any `TripleModel`.
        test: [K, 3] the triples to rank.
        known: [K', 3] triples that are left out of the candidates: `TripleSplit.known`.
        ks: all values of K.
        chunk: triples ranked at once.

    Returns:
        ``"mrr"``, ``"hits@K"`` for each K, and ``"mean_rank"``.

    Source: Bordes et al. 2013, section 4 (filtered); Berrendorf et al. 2020 (the realistic rank).

    >>> from hgraph.models import DistMult
    >>> model = DistMult(3, 1, dim=2)
    >>> _ = torch.nn.init.ones_(model.entity)  # all scores are equal
    >>> triple_ranking(model, torch.tensor([[0, 0, 1]]), torch.empty(0, 3, dtype=torch.long))["mean_rank"]
    2.0
    """
    for name, triples in (("test", test), ("known", known)):
        if not isinstance(triples, Tensor):
            hint = "Use split.test.triples and split.known()"
            raise ArgumentTypeError(name, "a tensor of triples [K, 3]", type(triples).__name__, hint)
    if not len(test):
        raise ArgumentError("test", "at least one triple", "none")
    device = model.entity.device
    test, known = test.to(device), torch.cat([known.to(device), test.to(device)])
    parts = []
    with torch.no_grad(), eval_mode(model):
        for given, ranked in ((0, 2), (2, 0)):
            code = known[:, given] * model.num_relations + known[:, 1]
            pairs, row = torch.unique(code, return_inverse=True)
            edges = torch.stack([row, known[:, ranked]]).unique(dim=1)
            true = Adjacency.from_coo(
                target=edges[0], source=edges[1], num_targets=len(pairs), num_sources=model.num_nodes
            )
            for some in test.split(chunk):
                h, r, t = some.unbind(1)
                scores = model.score_tails(h, r) if given == 0 else model.score_heads(r, t)
                rows = torch.searchsorted(pairs, some[:, given] * model.num_relations + r)
                parts.append(_ranks(scores, some[:, ranked], true.select(rows)))
    rank = torch.cat(parts).double()
    found = {"mrr": float(rank.reciprocal().mean()), "mean_rank": float(rank.mean())}
    return found | {f"hits@{k}": float((rank <= k).double().mean()) for k in ks}


def _ranks(scores: Tensor, correct: Tensor, true: Adjacency) -> Tensor:
    """[B] realistic ranks of the correct nodes among nodes that form no known triple."""
    if bool(scores.isnan().any()):
        raise ArgumentError("model", "scores that are numbers", "NaN", "A smaller lr may help")
    score = scores.gather(1, correct.unsqueeze(1))
    better, equal = scores > score, scores == score
    for mask in (better, equal):
        mask[true.target.long(), true.indices.long()] = False
    return 1 + better.sum(1) + equal.sum(1) / 2


def fit_triples(
    model: TripleModel,
    split: TripleSplit,
    *,
    epochs: int = 100,
    lr: float = 1e-2,
    batch: int = 512,
    l2: float = 0.0,
    negatives: int | None = None,
    eval_every: int = 10,
    save_every: int = 10,
    patience: int | None = 5,
    checkpoint: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    label: str = "fit",
) -> FitResult:
    """Train a model of triples with Adam on `TripleModel.loss`, then restore its best state and set it to eval mode.

    Use it when embeddings of a knowledge graph are trained, for link prediction.

    Every ``eval_every`` epochs, the validation triples are ranked (filtered by training and validation triples). The
    state with the highest mean reciprocal rank is restored at the end, or the last state without validation triples.

    Args:
        model: any `TripleModel`.
        split: the training data; the test part is not used.
        epochs: maximum number of epochs, each over all training triples in a new order.
        lr: the learning rate.
        batch: triples per step.
        l2: L2 penalty on the embeddings of a batch; it is not Adam's weight decay.
        negatives: number of nodes sampled per step as candidates of the loss. None uses all nodes, which is best for
            small graphs and costs batch x N x d per step.
        eval_every: rank every this many epochs, and after the last one.
        save_every: write a checkpoint every this many epochs; also if the last one is 30 s old, and after the last
            epoch.
        patience: stop after this many rankings without a better one; None never stops early.
        checkpoint: a file to save the state to and to resume from, as in `fit`.
        log: a JSON lines file for the history, one line per epoch.
        seed: seed of the batches.
        progress: show a progress bar on stderr; None shows it on a terminal only.
        label: name of this training in the progress bar.

    Raises:
        ArgumentError: the sizes of the data and the model differ, there are no triples, or the checkpoint has other
            settings.
        TrainingError: a loss is not finite.

    Source: the loss is that of Ruffinelli et al., "You CAN Teach an Old Dog New Tricks!", ICLR 2020 (all nodes).

    >>> from hgraph.models import DistMult
    >>> from hgraph.structure import KnowledgeGraph
    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "r", "c")])
    >>> split = TripleSplit.random(kg, val_fraction=0, test_fraction=0)
    >>> result = fit_triples(DistMult(3, 1, dim=4), split, epochs=3, lr=0.1)
    >>> result.best_epoch, result.history[2]["loss"] < result.history[0]["loss"]
    (3, True)
    """
    _check(model, split, epochs, batch, (eval_every, save_every), negatives, patience)
    for name, value in (("lr", lr), ("l2", l2)):
        real(name, value, "a finite number, 0 or more")
    _warn(split)
    device = model.entity.device
    triples, val = split.train.triples.to(device), split.val.triples
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    settings = {"seed": seed, "lr": lr, "batch": batch, "l2": l2, "negatives": negatives, "every": eval_every}
    file = Checkpoint(checkpoint, settings)
    known = torch.cat([split.train.triples, val])
    return train_loop(
        model,
        lambda epoch: _epoch(model, optimizer, triples, (batch, l2, negatives), epoch),
        (lambda _: triple_ranking(model, val, known)["mrr"]) if len(val) else None,
        file, optimizer=optimizer, devices=[device], epochs=epochs, seed=seed, label=label,
        eval_every=eval_every, patience=patience, save_every=save_every, log=log, progress=progress,
    )  # fmt: skip


def _warn(split: TripleSplit) -> None:
    """Warn about held-out triples that training reveals, and about those with untrained embeddings."""
    for sentence in repeated_triples(split):
        _LOG.warning("%s Remove them from the training triples", sentence)
    for sentence in inverse_triples(split):
        _LOG.warning("%s Put a relation and its inverse into the same part", sentence)
    for name, count in split.unseen().items():
        if count:
            total = getattr(split, name).num_edges
            what = f"{count:,} of {total:,} {name} triples have a node or relation that is in no training triple"
            _LOG.warning("%s: their ranks are meaningless. TripleSplit.random(..., cover=True) avoids this", what)


def _epoch(
    model: TripleModel,
    optimizer: torch.optim.Optimizer,
    triples: Tensor,
    settings: tuple[int, float, int | None],
    epoch: int,
) -> float:
    (batch, l2, negatives), device = settings, triples.device
    model.train()
    total = 0.0
    for some in triples[torch.randperm(len(triples), device=device)].split(batch):
        head, relation, tail = some.unbind(1)
        among = None if negatives is None else torch.randint(model.num_nodes, (negatives,), device=device)
        total += descend(optimizer, model.loss(head, relation, tail, l2, among=among), epoch) * len(some)
    return total / len(triples)


def _check(
    model: TripleModel,
    split: TripleSplit,
    epochs: int,
    batch: int,
    every: tuple[int, int],
    negatives: int | None,
    patience: int | None,
) -> None:
    if not isinstance(split, TripleSplit):
        hint = "TripleSplit.random(kg, val_fraction=0.1, test_fraction=0.1) creates one"
        raise ArgumentTypeError("split", "a TripleSplit", type(split).__name__, hint)
    kg = split.train
    if (model.num_nodes, model.num_relations) != (kg.num_nodes, kg.num_relations):
        wanted = f"{kg.num_nodes} nodes and {kg.num_relations} relations, the numbers of the data"
        raise ArgumentError("model", wanted, f"{model.num_nodes} and {model.num_relations}")
    if not kg.num_edges:
        raise ArgumentError("split", "at least one training triple", "none")
    num_negatives = 1 if negatives is None else negatives
    for name, value, least in (
        ("epochs", epochs, 0),
        ("batch", batch, 1),
        ("eval_every", every[0], 1),
        ("save_every", every[1], 1),
        ("negatives", num_negatives, 1),
        ("patience", 1 if patience is None else patience, 1),
    ):
        whole(name, value, least)
