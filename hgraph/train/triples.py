"""`fit_triples` and `triple_ranking`: facts learned from a graph, and how high held-out facts are ranked."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from hgraph.checks import real
from hgraph.data import TripleSplit
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models.triples.kge import TripleModel
from hgraph.structure import Adjacency
from hgraph.train.checkpoint import Checkpoint, stopwatch
from hgraph.train.fit import FitResult, TrainingError
from hgraph.train.mode import evaluating
from hgraph.train.recommender import Progress, bar
from hgraph.train.seed import seeded

__all__ = ["fit_triples", "triple_ranking"]

_LOG = logging.getLogger("hgraph")


def triple_ranking(
    model: TripleModel, test: Tensor, known: Tensor, *, ks: Sequence[int] = (1, 3, 10), chunk: int = 512
) -> dict[str, float]:
    r"""How high the true tail, and the true head, of held-out facts is ranked among all nodes that make no fact.

    .. math:: \mathrm{rank} = 1 + |\{v : s_v > s\}| + \tfrac12 |\{v : s_v = s\}|, \qquad
              \mathrm{mrr} = \operatorname{mean} \frac1{\mathrm{rank}}, \qquad
              \mathrm{hits@}K = \operatorname{mean}\, [\mathrm{rank} \le K]

    with v over the other nodes that make no known fact (the filtered setting), ties counted in the middle (the
    realistic rank), and means over both sides of every fact.

    Args:
        model: any `TripleModel`.
        test: [K, 3] the facts.
        known: [K', 3] facts that are not to be counted as wrong: `TripleSplit.known`.
        ks: every K of the hits.
        chunk: facts ranked at once.

    Returns:
        ``"mrr"``, ``"hits@K"`` for each K, and ``"mean_rank"``.

    Source: Bordes et al. 2013, section 4 (filtered); Berrendorf et al. 2020 (the realistic rank).

    >>> from hgraph.models import DistMult
    >>> model = DistMult(3, 1, dim=2)
    >>> _ = torch.nn.init.ones_(model.entity)  # all nodes tie
    >>> triple_ranking(model, torch.tensor([[0, 0, 1]]), torch.empty(0, 3, dtype=torch.long))["mean_rank"]
    2.0
    """
    for name, facts in (("test", test), ("known", known)):
        if not isinstance(facts, Tensor):
            hint = "split.test.triples and split.known() are"
            raise ArgumentTypeError(name, "a tensor of facts [K, 3]", type(facts).__name__, hint)
    if not len(test):
        raise ArgumentError("test", "at least one fact", "none")
    device = model.entity.device
    test, known = test.to(device), torch.cat([known.to(device), test.to(device)])
    parts = []
    with torch.no_grad(), evaluating(model):
        for own, other in ((0, 2), (2, 0)):
            code = known[:, own] * model.num_relations + known[:, 1]
            pairs, row = torch.unique(code, return_inverse=True)
            facts = torch.stack([row, known[:, other]]).unique(dim=1)
            true = Adjacency.from_coo(
                target=facts[0], source=facts[1], num_targets=len(pairs), num_sources=model.num_nodes
            )
            for some in test.split(chunk):
                h, r, t = some.unbind(1)
                scores = model.score_tails(h, r) if own == 0 else model.score_heads(r, t)
                rows = torch.searchsorted(pairs, some[:, own] * model.num_relations + r)
                parts.append(_ranks(scores, some[:, other], true.select(rows)))
    rank = torch.cat(parts).double()
    found = {"mrr": float(rank.reciprocal().mean()), "mean_rank": float(rank.mean())}
    return found | {f"hits@{k}": float((rank <= k).double().mean()) for k in ks}


def _ranks(scores: Tensor, answer: Tensor, true: Adjacency) -> Tensor:
    """[B] realistic ranks of the answers among what is not true."""
    if bool(scores.isnan().any()):
        raise ArgumentError("model", "scores that are numbers", "NaN", "A smaller lr may help")
    own = scores.gather(1, answer.unsqueeze(1))
    better, equal = scores > own, scores == own
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
    patience: int | None = 5,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    label: str = "fit",
) -> FitResult:
    """Train a model of facts with Adam on `TripleModel.loss` and leave it, in eval mode, with its best state.

    Every so many epochs the validation facts are ranked (filtered by those of training and validation); the state
    with the highest reciprocal rank is kept, the last one where there are none.

    Args:
        model: any `TripleModel`.
        split: what it learns from; the test part is not looked at.
        epochs: at most so many, each over all training facts in a new order.
        lr: the step size.
        batch: facts a step.
        l2: of the rows of the facts of a step; not Adam's weight decay.
        negatives: nodes drawn for each step, which stand for all in the loss; None takes all: best where they are
            few, and a step costs batch x N x d.
        eval_every: epochs between two rankings and between two checkpoints; one is also written after 30 s.
        patience: stop after so many rankings without a better one; None never stops early.
        checkpoint: a file to go on from, as `fit` has it.
        seed: what batches draw from.
        progress: show a progress bar on stderr; None shows it on a terminal only.
        label: what the bar calls this training.

    Raises:
        ArgumentError: other sizes than the model's, no facts, or a checkpoint of other settings.
        TrainingError: a loss that is not finite.

    Source: the loss is that of Ruffinelli et al., "You CAN Teach an Old Dog New Tricks!", ICLR 2020 (all nodes).

    >>> from hgraph.models import DistMult
    >>> from hgraph.structure import KnowledgeGraph
    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "r", "c")])
    >>> split = TripleSplit.random(kg, val_fraction=0, test_fraction=0)
    >>> result = fit_triples(DistMult(3, 1, dim=4), split, epochs=3, lr=0.1)
    >>> result.best_epoch, result.history[2]["loss"] < result.history[0]["loss"]
    (3, True)
    """
    _check(model, split, epochs, batch, eval_every, negatives)
    for name, value in (("lr", lr), ("l2", l2)):
        real(name, value, "a finite number, 0 or more")
    _say_unseen(split)
    device = model.entity.device
    facts, val = split.train.triples.to(device), split.val.triples
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    settings = {"seed": seed, "lr": lr, "batch": batch, "l2": l2, "negatives": negatives, "every": eval_every}
    file = Checkpoint(checkpoint, settings)
    try:
        with seeded(seed, [device]):
            done = Progress(**file.restore(model, optimizer, [device]))
            spent = stopwatch(done.seconds, done.cpu_seconds)
            for epoch in bar(len(done.history) + 1, epochs, label, progress, done.stopped):
                record = {"epoch": epoch, "loss": _epoch(model, optimizer, facts, (batch, l2, negatives), epoch)}
                looked = epoch % eval_every == 0 or epoch == epochs
                if looked and len(val):
                    record["validation"] = triple_ranking(model, val, torch.cat([split.train.triples, val]))["mrr"]
                done.add(record, model)
                done.stopped = patience is not None and done.waited >= patience
                done.seconds, done.cpu_seconds = spent()
                if looked or done.stopped or file.overdue:
                    file.save(model, optimizer, [device], done.best_state, done.plain())
                if done.stopped:
                    break
    finally:
        model.eval()
    if done.best_state is not None:
        model.load_state_dict(done.best_state)
    return FitResult(done.history, done.best_epoch, done.seconds, done.cpu_seconds)


def _say_unseen(split: TripleSplit) -> None:
    """Facts that are ranked by numbers which nothing has trained."""
    for name, count in split.unseen().items():
        if count:
            total = getattr(split, name).num_edges
            what = f"{count:,} of {total:,} facts of {name} name a node or relation that no training fact names"
            _LOG.warning("%s: their ranks say nothing of the model. TripleSplit.random has cover=True", what)


def _epoch(
    model: TripleModel,
    optimizer: torch.optim.Optimizer,
    facts: Tensor,
    settings: tuple[int, float, int | None],
    epoch: int,
) -> float:
    (batch, l2, negatives), device = settings, facts.device
    model.train()
    total = 0.0
    for some in facts[torch.randperm(len(facts), device=device)].split(batch):
        head, relation, tail = some.unbind(1)
        among = None if negatives is None else torch.randint(model.num_nodes, (negatives,), device=device)
        loss = model.loss(head, relation, tail, l2, among=among)
        number = float(loss.detach())
        if not math.isfinite(number):
            raise TrainingError(f"the loss is {number} in epoch {epoch}: try a smaller lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += number * len(some)
    return total / len(facts)


def _check(
    model: TripleModel, split: TripleSplit, epochs: int, batch: int, eval_every: int, negatives: int | None
) -> None:
    if not isinstance(split, TripleSplit):
        hint = "TripleSplit.random(kg, val_fraction=0.1, test_fraction=0.1) makes one"
        raise ArgumentTypeError("split", "a TripleSplit", type(split).__name__, hint)
    kg = split.train
    if (model.num_nodes, model.num_relations) != (kg.num_nodes, kg.num_relations):
        wanted = f"{kg.num_nodes} nodes and {kg.num_relations} relations, as the triples have"
        raise ArgumentError("model", wanted, f"{model.num_nodes} and {model.num_relations}")
    if not kg.num_edges:
        raise ArgumentError("split", "at least one fact to learn from", "none")
    drawn = 1 if negatives is None else negatives
    for name, value, least in (
        ("epochs", epochs, 0),
        ("batch", batch, 1),
        ("eval_every", eval_every, 1),
        ("negatives", drawn, 1),
    ):
        if value < least:
            raise ArgumentError(name, f"{least} or more", value)
