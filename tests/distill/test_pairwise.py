"""Students that learn to rank pairs of candidates like a teacher: links, recommendations, hyperedges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hgraph.data import Data, Split
from hgraph.distill import Lesson, PairwiseRanking, candidate_scores, distill
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Hypergraph
from hgraph.train import TrainingView, seeded

N = 7
LINKS = torch.tensor([[0, 1], [0, 2], [3, 1], [3, 4], [6, 5], [6, 0]])
SETS = Hypergraph.from_lists([[0, 1, 2], [2, 3], [3, 4, 5, 6], [5], [], [0, 6]], num_nodes=N)
PAIRS = torch.tensor([[0, 1], [2, 3], [4, 5], [5, 0]])


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score(z, members):
    """The mean inner product of two members."""
    z = z.detach()
    pairs = [(u, v) for i, u in enumerate(members) for j, v in enumerate(members) if i != j]
    return sum(float(z[u] @ z[v]) for u, v in pairs) / len(pairs) if pairs else 0.0


@pytest.mark.parametrize("candidates", [LINKS, SETS], ids=["links", "hyperedges"])
def test_pairwise_ranking_matches_the_loop(candidates):
    z, t = numbers(N, 3, seed=2).requires_grad_(), numbers(N, 5, seed=1)  # of another width
    hg = Hypergraph.from_lists([], num_nodes=N)
    ids = torch.arange(1)
    given = Lesson(TrainingView(hg, numbers(N, 2, seed=0), torch.zeros(N).long(), ids, ids), nn.Identity(), None, t)
    lists = SETS.to_lists() if candidates is SETS else LINKS.tolist()
    terms = []
    for i, j in PAIRS.tolist():
        wanted = 1 / (1 + math.exp(-(score(t, lists[i]) - score(t, lists[j])) / 2))
        p = 1 / (1 + math.exp(-(score(z, lists[i]) - score(z, lists[j]))))
        terms.append(-wanted * math.log(p) - (1 - wanted) * math.log(1 - p))
    loss = PairwiseRanking(candidates, PAIRS, temperature=2.0).bind(given)
    assert loss(z).item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)
    assert torch.autograd.gradcheck(loss, z)


@pytest.mark.parametrize(
    ("candidates", "pairs", "options", "match"),
    [
        (LINKS, PAIRS + 1, {}, "pairs: expected numbers in 0 .. 5"),
        (LINKS, PAIRS[:0], {}, "pairs"),
        (LINKS[:, :1], PAIRS, {}, "candidates"),
        (LINKS, PAIRS.float(), {}, "pairs: expected integer"),
        (SETS, PAIRS + 1, {}, "pairs: expected numbers in 0 .. 5"),
        (LINKS, PAIRS, {"temperature": 0}, "temperature"),
    ],
)
def test_arguments_are_checked(candidates, pairs, options, match):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=match):
        PairwiseRanking(candidates, pairs, **options)


def task(name, n=120):
    """Candidates of a task over nodes 0 .. n-1, with as many pairs for training as for testing."""
    draw = torch.Generator().manual_seed(0)
    if name == "links":
        candidates = torch.randint(0, n, (1200, 2), generator=draw)
        pairs = torch.randperm(1200, generator=draw).view(-1, 2)
    elif name == "recommendation":  # two items, n/2 .. n-1, for each of the users
        users, items = (
            torch.randint(0, n // 2, (600,), generator=draw),
            torch.randint(n // 2, n, (1200,), generator=draw),
        )
        candidates = torch.stack([users.repeat_interleave(2), items], 1)
        pairs = torch.arange(1200).view(-1, 2)
    else:
        members = [torch.randperm(n, generator=draw)[: 2 + e % 4].tolist() for e in range(1200)]
        candidates, pairs = Hypergraph.from_lists(members, num_nodes=n), torch.arange(1200).view(-1, 2)
    return candidates, pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]


@pytest.mark.parametrize("name", ["links", "recommendation", "hyperedges"])
def test_a_student_learns_to_rank(name):
    """It ranks unseen candidates from features only, almost like its teacher."""
    n, (candidates, known, unseen) = 120, task(name)
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(1))
    mix = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    hg, none, ids = Hypergraph.from_lists([], num_nodes=n), torch.empty(0, dtype=torch.long), torch.arange(n)
    data = Data(hg, x, torch.zeros(n, dtype=torch.long), {"default": Split(hg, ids, none, none)})

    def teacher(x, structure):
        return (x @ mix).tanh()

    def agreement(z, pairs=known):
        wanted, found = (candidate_scores(of, candidates)[pairs] for of in (teacher(x, hg), z))
        return float(((wanted[:, 0] > wanted[:, 1]) == (found[:, 0] > found[:, 1])).float().mean())

    with seeded(0):
        student = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 8))
    before = agreement(student(x), unseen)
    objective = PairwiseRanking(candidates, known, temperature=0.1)
    result = distill(teacher, student, data, objective=objective, validate=agreement, epochs=150, weight_decay=0.0)
    assert result.best["validation"] == max(r["validation"] for r in result.history)
    assert agreement(student(x), unseen) > max(0.85, before + 0.1)
