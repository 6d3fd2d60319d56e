"""`fit_triples` and `triple_ranking`: metrics against loops, training, and errors."""

from __future__ import annotations

import math

import pytest
import torch

from hgraph import datasets, models
from hgraph.data import TripleSplit
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import KnowledgeGraph
from hgraph.testing import random_knowledge_graph
from hgraph.train import TrainingError, fit_triples, seeded, triple_ranking

N, R = 8, 2


def some_split(seed=0):
    kg = random_knowledge_graph(N, 40, R, seed=seed)
    unique = kg.triples.unique(dim=0)
    head, relation, tail = unique.unbind(1)
    kg = KnowledgeGraph.from_triples(head=head, relation=relation, tail=tail, num_nodes=N, num_relations=R)
    return TripleSplit.random(kg, val_fraction=0.2, test_fraction=0.2, seed=seed)


class Table(models.DistMult):
    """A model with given scores."""

    def __init__(self, tails, heads):
        super().__init__(N, R, dim=2)
        self.tails, self.heads = tails, heads

    def score_tails(self, head, relation):
        return self.tails[head, relation]

    def score_heads(self, relation, tail):
        return self.heads[relation, tail]


def test_triple_ranking_against_loops():
    """Scores with few different values, so that there are many ties."""
    split, generator = some_split(), torch.Generator().manual_seed(3)
    tails = torch.randint(3, (N, R, N), generator=generator).float()
    heads = torch.randint(3, (R, N, N), generator=generator).float()
    known = {tuple(triple) for triple in split.known().tolist()}
    ranks = []
    for h, r, t in split.test.triples.tolist():
        sides = [(tails[h, r], t, [(h, r, v) for v in range(N)]), (heads[r, t], h, [(v, r, t) for v in range(N)])]
        for score, answer, triples in sides:
            rivals = [v for v in range(N) if v != answer and triples[v] not in known]
            better = sum(bool(score[v] > score[answer]) for v in rivals)
            ranks.append(1 + better + sum(bool(score[v] == score[answer]) for v in rivals) / 2)
    found = triple_ranking(Table(tails, heads), split.test.triples, split.known(), ks=[1, 2], chunk=3)
    assert any(rank % 1 for rank in ranks)
    assert found["mrr"] == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks))
    assert found["mean_rank"] == pytest.approx(sum(ranks) / len(ranks))
    for k in (1, 2):
        assert found[f"hits@{k}"] == pytest.approx(sum(rank <= k for rank in ranks) / len(ranks))


def test_constant_scores_are_not_rewarded():
    """With optimistic ranks it would be perfect."""
    split = some_split()
    zeros = Table(torch.zeros(N, R, N), torch.zeros(R, N, N))
    none = torch.empty(0, 3, dtype=torch.long)
    one = split.test.triples[:1]
    assert triple_ranking(zeros, one, none)["mean_rank"] == (N + 1) / 2
    assert triple_ranking(zeros, split.test.triples, split.known())["hits@1"] < 1


def two_steps():
    """Triples ``next`` from i to i + 1 and ``second`` from i to i + 2 in a ring of 40; some are held out."""
    i = torch.arange(40)
    head, tail = torch.cat([i, i]), torch.cat([(i + 1) % 40, (i + 2) % 40])
    relation = torch.cat([torch.zeros_like(i), torch.ones_like(i)])
    kg = KnowledgeGraph.from_triples(head=head, relation=relation, tail=tail, num_nodes=40, num_relations=2)
    return TripleSplit.random(kg, val_fraction=0.1, test_fraction=0.1, seed=0)


def test_a_rule_is_learned():
    split = two_steps()
    with seeded(0):
        model = models.RotatE(40, 2, dim=16)
    before = triple_ranking(model, split.test.triples, split.known())["mrr"]
    result = fit_triples(model, split, epochs=150, lr=0.05, batch=32, l2=0.1, eval_every=50, progress=False)
    after = triple_ranking(model, split.test.triples, split.known())["mrr"]
    assert before < 0.3
    assert after > 0.9
    assert result.history[0]["loss"] > result.history[-1]["loss"]
    assert not model.training


def test_sampled_negatives():
    """With all nodes sampled, the loss is the same; with a few, the rule is learned as well."""
    split = two_steps()
    with seeded(0):
        model = models.ComplEx(40, 2, dim=8)
    some = split.train.triples[:9].unbind(1)
    torch.testing.assert_close(model.loss(*some, among=torch.arange(40)), model.loss(*some))
    assert bool(model.loss(*some, among=torch.arange(3)) < model.loss(*some))
    fit_triples(model, split, epochs=150, lr=0.05, batch=16, l2=0.1, negatives=10, eval_every=50, progress=False)
    assert triple_ranking(model, split.test.triples, split.known())["mrr"] > 0.9


def test_equal_seeds_and_a_resumed_run(tmp_path):
    def run(epochs, **files):
        with seeded(1):
            model = models.DistMult(N, R, dim=4)
        fit_triples(model, some_split(), epochs=epochs, eval_every=2, patience=None, progress=False, **files)
        return model.state_dict()

    whole = run(6)
    run(4, checkpoint=tmp_path / "run.safetensors")
    again = run(6, checkpoint=tmp_path / "run.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    ("options", "size", "error", "match"),
    [
        ({}, N + 1, ArgumentError, "8 nodes and 2 relations"),
        ({"negatives": 0}, N, ArgumentError, "negatives: expected a whole number, 1 or more"),
        ({"batch": 0}, N, ArgumentError, "batch: expected a whole number, 1 or more"),
        ({"patience": 0}, N, ArgumentError, "patience: expected a whole number, 1 or more"),
        ({"patience": 2.5}, N, ArgumentError, "patience: expected a whole number, 1 or more"),
        ({"eval_every": "3"}, N, ArgumentError, "eval_every: expected a whole number, 1 or more"),
        ({"lr": 1e30}, N, TrainingError, "try a smaller lr"),
    ],
)
def test_wrong_arguments_are_named(options, size, error, match):
    with pytest.raises(error, match=match):
        fit_triples(models.DistMult(size, R, dim=4), some_split(), epochs=9, progress=False, **options)


def test_rankings_of_nothing_are_refused():
    model, none = models.TransE(N, R), torch.empty(0, 3, dtype=torch.long)
    with pytest.raises(ArgumentError, match="at least one triple"):
        triple_ranking(model, none, none)
    with torch.no_grad():
        model.entity[0] = math.nan
    with pytest.raises(ArgumentError, match="NaN"):
        triple_ranking(model, torch.tensor([[0, 0, 1]]), none)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("TransE", 0.7), ("ComplEx", 0.85), ("RotatE", 0.8)])
def test_umls_is_learned(name, least, mirror):
    split = datasets.load("umls")[0]
    with seeded(0):
        model = getattr(models, name)(split.train.num_nodes, split.train.num_relations)
    fit_triples(model, split, epochs=60, lr=0.01, progress=False)
    assert triple_ranking(model, split.test.triples, split.known())["mrr"] > least


def test_containers_of_triples_are_rejected():
    model, triples = models.DistMult(3, 1), torch.tensor([[0, 0, 1]])
    with pytest.raises(ArgumentTypeError, match=r"known: expected a tensor of triples \[K, 3\], got list. Use split"):
        triple_ranking(model, triples, [[0, 0, 1]])
