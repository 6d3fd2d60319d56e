"""Samplers, rankings of all items, alternating training, recommendations and explanations."""

from __future__ import annotations

import json
import math

import pytest
import torch

from hgraph import Adjacency, Interactions, KnowledgeGraph, models, nn, train
from hgraph.errors import ArgumentError
from hgraph.testing import random_adjacency, random_knowledge_graph
from hgraph.train import checkpoint
from hgraph.train.full_ranking import best_items

U, I = 12, 9


def interactions(seed=0):
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.stack([torch.arange(60) % U, torch.randint(I, (60,), generator=generator)]).unique(dim=1)
    kg = random_knowledge_graph(I + 5, 30, 2, seed=seed)
    return Interactions.random(*pairs, kg, num_users=U, num_items=I, seed=seed)


def kgat(data, **options):
    sizes = data.num_users, data.num_items, data.kg.num_nodes, data.collaborative().num_relations
    with train.seeded(0):
        return models.KGAT(*sizes, **{"dim": 4, "relation_dim": 4, "layer_channels": (4,)} | options)


# ---------------------------------------------------------------------- samplers


def test_positive_and_negative_items():
    data = interactions()
    taken = set(zip(data.train.target.tolist(), data.train.indices.tolist(), strict=True))
    sampler = train.PairSampler(data.train)
    with train.seeded(1):
        for count in (5, 12, 40):
            users, items, others = sampler.draw(count)
            assert len(users) == len(items) == len(others) == count
            assert all((u, i) in taken for u, i in zip(users.tolist(), items.tolist(), strict=True))
            assert not any((u, i) in taken for u, i in zip(users.tolist(), others.tolist(), strict=True))
            if count <= len(sampler.users):
                assert len(users.unique()) == count


def test_items_are_sampled_uniformly():
    pairs = Adjacency.from_coo(target=[1, 1, 1], source=[0, 2, 5], num_targets=3, num_sources=6)
    with train.seeded(0):
        _, items, others = train.PairSampler(pairs).draw(6000)
    assert (items.bincount(minlength=6)[[0, 2, 5]] > 1850).all()
    assert (others.bincount(minlength=6)[[1, 3, 4]] > 1850).all()


def test_users_with_no_or_all_items_are_not_sampled():
    pairs = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 1], num_targets=3, num_sources=2)
    assert train.PairSampler(pairs).users.tolist() == [1]
    with pytest.raises(ArgumentError, match="a user with a positive and a negative item"):
        train.PairSampler(Adjacency.from_coo(target=[0], source=[0], num_targets=1, num_sources=1))


def test_triples_and_negative_tails():
    kg = random_knowledge_graph(8, 40, 3, seed=2)
    triples, sampler = set(map(tuple, kg.triples.tolist())), train.TripleSampler(kg)
    with train.seeded(0):
        heads, relations, tails, wrong = (t.tolist() for t in sampler.draw(7))
        assert len(set(heads)) == 7
        more = [t.tolist() for t in sampler.draw(500)]
    for h, r, t, w in [*zip(heads, relations, tails, wrong, strict=True), *zip(*more, strict=True)]:
        assert (h, r, t) in triples
        assert (h, r, w) not in triples
    assert set(more[3]) == set(range(8))
    with pytest.raises(ArgumentError, match="at least one triple"):
        train.TripleSampler(KnowledgeGraph.from_names([]))


def test_a_head_with_triples_to_all_nodes_does_not_loop_forever():
    kg = KnowledgeGraph.from_triples(head=[0, 0], relation=[0, 0], tail=[0, 1], num_nodes=2, num_relations=1)
    assert len(train.TripleSampler(kg).draw(3)[0]) == 3


def test_triples_are_known_where_possible_triples_exceed_int64():
    """2**22 nodes x 2**20 relations x 2**22 nodes: one number for each possible triple would not fit."""
    n, r = 2**22, 2**20
    triples = {"head": [n - 1, n - 1, 5], "relation": [r - 1, 0, r - 1], "tail": [n - 2, n - 1, 7]}
    kg = KnowledgeGraph.from_triples(**triples, num_nodes=n, num_relations=r)
    sampler = train.TripleSampler(kg)
    codes, pair = sampler._codes, sampler._pair
    assert (codes.diff() > 0).all()
    assert codes.tolist() == sorted(int(p) * n + int(t) for p, t in zip(pair, kg.adj.indices, strict=True))
    heads, relations, tails, wrong = sampler.draw(2)
    assert set(zip(heads.tolist(), relations.tolist(), tails.tolist(), strict=True)) <= set(
        map(tuple, kg.triples.tolist())
    )
    assert not (wrong == tails).any()


@pytest.mark.parametrize("seed", range(3))
def test_cached_codes_give_the_same_samples(seed):
    """The complete sampling written out, with the same generator; codes are recomputed from the edges."""
    data, kg = interactions(seed), random_knowledge_graph(8, 40, 3, seed=seed)
    for sampler, adj, kinds in (
        (train.PairSampler(data.train), data.train, None),
        (train.TripleSampler(kg), kg.adj, kg.relation),
    ):
        rows = sampler.users if kinds is None else sampler.heads
        kind = torch.zeros_like(adj.indices) if kinds is None else kinds
        codes = list(zip(adj.target.tolist(), kind.tolist(), adj.indices.tolist(), strict=True))
        with train.seeded(seed):
            drawn = [sampler.draw(6) for _ in range(4)]
        with train.seeded(seed):
            for draw in drawn:
                row = rows[torch.randperm(len(rows))[:6]]
                place = torch.rand(6, dtype=torch.float64) * (adj.indptr[row + 1] - adj.indptr[row])
                edge = adj.indptr[row].long() + place.long()
                kind = torch.zeros(6, dtype=torch.long) if kinds is None else kinds[edge].long()
                other = torch.randint(adj.num_sources, (6,))
                while any(hit := [f in codes for f in zip(row.tolist(), kind.tolist(), other.tolist(), strict=True)]):
                    other = torch.where(torch.tensor(hit), torch.randint(adj.num_sources, (6,)), other)
                expected = (row, adj.indices[edge].long(), other)
                if kinds is not None:
                    expected = (row, kind, adj.indices[edge].long(), other)
                assert all(torch.equal(a, b) for a, b in zip(draw, expected, strict=True))


# ---------------------------------------------------------------------- ranking


def metrics_loop(score, test, known, k, most, ideal):
    """Means of recall and NDCG over users, computed user by user."""
    wanted = {u: [i for t, i in zip(test.target.tolist(), test.indices.tolist(), strict=True) if t == u]
              for u in range(test.num_targets)}  # fmt: skip
    found = {"recall": [], "ndcg": [], "hit": [], "precision": []}
    for u, relevant in wanted.items():
        if not relevant:
            continue
        no = {i for a in known for t, i in zip(a.target.tolist(), a.indices.tolist(), strict=True) if t == u}
        order = sorted((i for i in range(test.num_sources) if i not in no), key=lambda i: (-float(score[u, i]), i))
        order += sorted(no)
        hits = [i in relevant for i in order]
        dcg = sum(1 / math.log2(j + 2) for j in range(k) if hits[j])
        n = min(k, len(relevant)) if ideal == "all" else min(k, sum(hits[:most]))
        best = sum(1 / math.log2(j + 2) for j in range(n))
        found["recall"].append(sum(hits[:k]) / len(relevant))
        found["precision"].append(sum(hits[:k]) / k)
        found["hit"].append(float(any(hits[:k])))
        found["ndcg"].append(dcg / best if best else 0.0)
    return {f"{name}@{k}": sum(values) / len(values) for name, values in found.items()}


@pytest.mark.parametrize("ideal", ["all", "hits"])
@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("ties", [False, True])
def test_full_ranking_equals_loops(ideal, chunk, ties):
    data, generator = interactions(3), torch.Generator().manual_seed(0)
    score = torch.randn(U, I, generator=generator)
    score = (2 * score).round() if ties else score
    found = train.full_ranking(
        lambda users: score[users], data.test, [data.train, data.val], ks=[2, 4], ideal=ideal, chunk=chunk
    )
    for k in (2, 4):
        expected = metrics_loop(score, data.test, [data.train, data.val], k, 4, ideal)
        assert {name: pytest.approx(value) for name, value in expected.items()} == {n: found[n] for n in expected}


def test_constant_scores_are_not_rewarded():
    """With equal scores, items are sorted by id, independent of topk."""
    best = best_items(torch.zeros(2, 50), torch.arange(2), [random_adjacency(2, 50, 0)], 5)[0]
    assert best.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_wrong_arguments_of_rankings_are_named():
    data = interactions()
    with pytest.raises(ArgumentError, match="ks: expected numbers of items, 1 .. 9"):
        train.full_ranking(lambda u: torch.zeros(len(u), I), data.test, ks=[10])
    with pytest.raises(ArgumentError, match="score: expected numbers, got NaN"):
        train.full_ranking(lambda u: torch.full((len(u), I), math.nan), data.test, ks=[3])
    with pytest.raises(ArgumentError, match="a user with a test item"):
        train.full_ranking(lambda u: torch.zeros(len(u), I), random_adjacency(U, I, 0), ks=[3])
    with pytest.raises(ArgumentError, match="ideal"):
        train.full_ranking(lambda u: torch.zeros(len(u), I), data.test, ks=[3], ideal="some")


# ---------------------------------------------------------------------- training


OPTIONS = {"batch": 4, "triple_batch": 16, "lr": 0.05, "eval_every": 2, "k": 3, "progress": False}


@pytest.mark.parametrize("attention", ["refresh", "laplacian"])
def test_a_resumed_training_gives_the_same_bits(attention, tmp_path):
    data = interactions()
    whole = kgat(data, attention=attention)
    result = train.fit_recommender(whole, data, epochs=6, patience=None, **OPTIONS)
    parts = kgat(data, attention=attention)
    for epochs in (2, 4, 6):
        again = train.fit_recommender(
            parts if epochs == 2 else kgat(data, attention=attention), data, epochs=epochs, patience=None,
            checkpoint=tmp_path / "c", log=tmp_path / "log", **OPTIONS,
        )  # fmt: skip
    final = kgat(data, attention=attention)
    train.fit_recommender(final, data, epochs=6, patience=None, checkpoint=tmp_path / "c", **OPTIONS)
    assert again.history == result.history
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), final.parameters(), strict=True))
    assert [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()] == result.history
    assert {"loss", "triple_loss", "validation"} <= set(result.history[1])


def test_scores_of_a_model_in_training_have_no_dropout():
    """The scores that select the best state and stop the training must not have dropout."""
    data = interactions()
    with train.seeded(0):
        model = models.NFM(data.num_users, data.num_items, data.kg.num_nodes, dim=4, dropout=0.5)
    structure = train.structure_of(model, data)
    score, everyone = train.scorer(model, structure), torch.arange(U)
    expected = score(everyone)
    model.train()
    assert torch.equal(score(everyone), expected)
    assert model.training


def test_the_best_state_is_restored_and_patience_ends(monkeypatch):
    data, seen = interactions(), iter([0.2, 0.5, 0.3, 0.5, 0.4])
    states = []

    def ranking(score, *args, **options):
        states.append(model.embedding.detach().clone())
        return {"recall@3": next(seen)}

    monkeypatch.setattr("hgraph.train.recommender.full_ranking", ranking)
    model = kgat(data)
    result = train.fit_recommender(model, data, epochs=50, patience=2, **OPTIONS)
    assert (result.best_epoch, len(result.history)) == (4, 8)
    assert torch.equal(model.embedding, states[1])
    assert not model.training


def test_training_items_are_not_ranked_in_validation(monkeypatch):
    data, seen = interactions(), []

    def ranking(score, test, known, **options):
        seen.append((test, known))
        return {"recall@3": 0.5}

    monkeypatch.setattr("hgraph.train.recommender.full_ranking", ranking)
    train.fit_recommender(kgat(data), data, epochs=1, patience=None, **OPTIONS)
    [(test, known)] = seen
    assert test.equal(data.val)
    assert len(known) == 1
    assert known[0].equal(data.train)


def test_a_trained_model_is_ranked_with_the_attention_that_it_learned():
    data = interactions()
    model = kgat(data)
    train.fit_recommender(model, data, epochs=2, patience=None, **OPTIONS)
    first = model.start(model.structure(data))
    attention = nn.kg_attention(model.embedding, model.relation, model.relation_weight, first)
    assert not torch.allclose(attention, first.adj.weight)
    assert torch.equal(train.structure_of(model, data).adj.weight, attention)
    assert torch.equal(train.structure_of(model, data, trained=False).adj.weight, first.adj.weight)


def test_each_phase_has_its_own_l2(monkeypatch):
    data, seen = interactions(), []
    real = models.KGAT.pair_loss, models.KGAT.triple_loss

    def pair_loss(self, *given, l2):
        seen.append(("pairs", l2))
        return real[0](self, *given, l2=l2)

    def triple_loss(self, *given, l2):
        seen.append(("triples", l2))
        return real[1](self, *given, l2=l2)

    monkeypatch.setattr(models.KGAT, "pair_loss", pair_loss)
    monkeypatch.setattr(models.KGAT, "triple_loss", triple_loss)
    train.fit_recommender(kgat(data), data, epochs=1, l2=0.5, triple_l2=0.25, batch=8, triple_batch=8)
    assert set(seen) == {("pairs", 0.5), ("triples", 0.25)}


def test_cached_values_of_a_refresh_are_computed_once(monkeypatch):
    """Blocks by relation are cached for one structure, and not recomputed in each epoch."""
    data, seen = interactions(), []
    real = models.KGAT.refresh

    def refresh(self, structure):
        seen.append(structure)
        return real(self, structure)

    monkeypatch.setattr(models.KGAT, "refresh", refresh)
    train.fit_recommender(kgat(data), data, epochs=3, patience=None, **OPTIONS)
    assert len(seen) >= 3
    assert all(structure is seen[0] for structure in seen[:3])


def test_cpu_time_of_a_run_that_was_stopped_counts(tmp_path):
    data, file = interactions(), tmp_path / "run.safetensors"
    one = train.fit_recommender(kgat(data), data, epochs=2, checkpoint=file, patience=None, **OPTIONS)
    both = train.fit_recommender(kgat(data), data, epochs=4, checkpoint=file, patience=None, **OPTIONS)
    assert 0 < one.cpu_seconds < both.cpu_seconds


def test_some_users_validate_the_same_ones_every_time(monkeypatch):
    """Only their rows are ranked; the random numbers of training do not change."""
    data, seen = interactions(), []

    def ranking(score, test, known, **options):
        seen.append(test)
        return train.full_ranking(score, test, known, **options)

    monkeypatch.setattr("hgraph.train.recommender.full_ranking", ranking)
    found = {}
    for users, seed in ((None, 0), (3, 0), (3, 1), (100, 0)):
        seen.clear()
        fit = train.fit_recommender(
            kgat(data), data, epochs=4, patience=None, validate_users=users, seed=seed, **OPTIONS
        )
        assert len(seen) == 2
        assert seen[0].equal(seen[1])
        found[users, seed] = seen[0], [record["loss"] for record in fit.history]
    for wide in (None, 100):
        assert found[wide, 0][0].equal(data.val)
    some = [{u for u in range(U) if len(found[3, seed][0].select(torch.tensor([u])).indices)} for seed in (0, 1)]
    assert len(some[0]) == len(some[1]) == 3
    assert some[0] != some[1]
    for user in some[0]:
        row = torch.tensor([user])
        assert found[3, 0][0].select(row).equal(data.val.select(row))
    assert found[3, 0][1] == found[None, 0][1]


def test_the_two_optimizers_have_separate_moments(tmp_path):
    data, model = interactions(), kgat(interactions())
    train.fit_recommender(model, data, epochs=2, patience=None, checkpoint=tmp_path / "c", **OPTIONS)
    other = kgat(data)
    optimizers = train.recommender._Optimizers(other, 0.05)
    settings = {"seed": 0, "lr": 0.05, "batch": 4, "triple_batch": 16, "l2": 1e-5, "triple_l2": 1e-5}
    checkpoint.Checkpoint(tmp_path / "c", settings | {"every": 2, "k": 3, "validate_users": None}).restore(
        other, optimizers, []
    )
    pairs, triples = (o.state_dict()["state"] for o in (optimizers.pairs, optimizers.triples))
    assert pairs[0]["step"] == 2 * (data.train.num_edges // 4 + 1)
    assert triples[0]["step"] == 2 * (data.collaborative().num_edges // 16 + 1)
    names = [name for name, _ in model.named_parameters()]
    assert {names[i] for i in triples} == {"embedding", "relation", "relation_weight"}
    assert "relation" not in {names[i] for i in pairs}


def test_an_overdue_checkpoint_is_written_between_rankings(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint.Checkpoint, "save", lambda *given: saved.append(len(given[-1]["history"])))
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    train.fit_recommender(kgat(interactions()), interactions(), epochs=3, **OPTIONS | {"eval_every": 3})
    assert saved == [1, 2, 3]


def test_the_random_state_of_the_caller_does_not_change():
    before = torch.get_rng_state()
    data = interactions()
    train.fit_recommender(models.BPRMF(U, I, dim=4), data, epochs=1, **OPTIONS)
    with torch.random.fork_rng():
        pass
    assert not torch.equal(before, torch.get_rng_state())  # of making the model
    before = torch.get_rng_state()
    train.fit_recommender(kgat(data), data, epochs=1, **OPTIONS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": -1}, "epochs"),
        ({"eval_every": 0}, "eval_every"),
        ({"patience": 0}, "patience"),
        ({"validate_users": 1.5}, "validate_users: expected a whole number"),
        ({"k": 0}, "k: expected a whole number, 1 or more"),
        ({"validate_users": 0}, "validate_users: expected a whole number, 1 or more, got 0"),
    ],
)
def test_wrong_settings_are_named(changed, message):
    data = interactions()
    with pytest.raises(ArgumentError, match=message):
        train.fit_recommender(kgat(data), data, **{"epochs": 1, **OPTIONS, **changed})


def test_other_sizes_are_refused():
    with pytest.raises(ArgumentError, match="12 users and 9 items, the numbers of the data, got 3 and 9"):
        train.fit_recommender(models.BPRMF(3, I), interactions())


# ---------------------------------------------------------------------- recommendations


def test_recommendations_leave_out_known_items():
    data = interactions()
    model = kgat(data)
    train.fit_recommender(model, data, epochs=2, patience=None, **OPTIONS)
    found = train.recommend(model, data, [3, 0], k=4)
    taken = [zip(p.target.tolist(), p.indices.tolist(), strict=True) for p in (data.train, data.val, data.test)]
    taken = {pair for part in taken for pair in part}
    for user, items, scores in zip([3, 0], found.items.tolist(), found.scores.tolist(), strict=True):
        left = [i for i in range(I) if (user, i) not in taken]
        assert set(items[: len(left)]) <= set(left)
        assert scores == sorted(scores, reverse=True)
    every = train.recommend(model, data, range(U), k=I)  # more than are left: what was taken ends the list
    for user, items, scores in zip(range(U), every.items.tolist(), every.scores.tolist(), strict=True):
        assert [(user, i) in taken for i in items] == [score == -math.inf for score in scores]
        assert scores == sorted(scores, reverse=True)
    assert -math.inf in every.scores
    everything = train.recommend(model, data, [3], k=I, exclude=False)
    assert sorted(everything.items[0].tolist()) == list(range(I))
    for wrong in ([-1], [U], [[0]]):
        with pytest.raises(ArgumentError, match="users"):
            train.recommend(model, data, wrong)
    with pytest.raises(ArgumentError, match="k: expected 1 .. 9"):
        train.recommend(model, data, [0], k=10)


def test_explanations_are_the_paths_of_most_attention():
    kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert"), ("Dosadi", "by", "Herbert"), ("Emma", "by", "Austen")])
    order = torch.tensor([0, 2, 3, 1, 4])  # items first: Dune, Dosadi, Emma
    kg = kg.subgraph(order)
    data = Interactions.from_pairs(
        [[0, 1], [0, 2]], [[], []], [[], []], kg, num_users=2, num_items=3, user_names=["ann", "bob"]
    )
    model = kgat(data)
    structure = train.structure_of(model, data)
    why = train.explain(structure, 0, 1, num_users=2)
    assert len(why.paths) == 1
    line = why.text()
    assert "ann -interacts with-> Dune -by-> Herbert -inverse of by-> Dosadi" in line
    product = math.prod(float(structure.adj.weight[e]) for e in why.paths[0].edges)
    assert float(line.split()[0]) == pytest.approx(product, rel=1e-2)
    ax = why.draw(title="why")
    assert {t.get_text() for t in ax.texts} >= {"ann", "Dune", "Herbert", "Dosadi"}
    across = {t.get_text(): t.xy[0] if hasattr(t, "xy") else t.get_position()[0] for t in ax.texts}
    assert across["ann"] < across["Dune"] < across["Herbert"] < across["Dosadi"]
    assert train.explain(structure, 0, 2, num_users=2).text() == "no path found; a larger max_steps may find one"
    train.explain(structure, 0, 2, num_users=2).draw()
    with pytest.raises(ArgumentError, match="user: expected an id in 0 .. 1"):
        train.explain(structure, 2, 0, num_users=2)
    with pytest.raises(ArgumentError, match="item: expected an id in 0 .. 4"):
        train.explain(structure, 0, 5, num_users=2)
