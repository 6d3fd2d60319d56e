"""KGAT (Wang et al., KDD 2019): parity with loops over triples, sizes, limits, cost, and a learning task."""

from __future__ import annotations

import math

import pytest
import torch

import hgraph.ops.edge
from hgraph import Interactions, KnowledgeGraph, models, nn, propagate, train
from hgraph.errors import ArgumentError
from hgraph.testing import random_knowledge_graph

N, R, D, K = 50, 4, 6, 5
BOOK_USERS, BOOK_ITEMS, BOOK_ENTITIES, BOOK_RELATIONS = 70_679, 24_915, 113_487, 80


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_graph(seed=0):
    """Repeated (head, tail) pairs and repeated triples; nodes from 40 on are not heads."""
    kg = random_knowledge_graph(40, 160, R, seed=seed)
    head, relation, tail = kg.triples.unbind(1)
    head, tail = torch.cat([head, head[:20]]), torch.cat([tail, tail[:20]])
    return KnowledgeGraph.from_triples(
        head=head, relation=torch.cat([relation, (relation[:20] + 1) % R]), tail=tail, num_nodes=N, num_relations=R,
        duplicates="keep",
    )  # fmt: skip


def attention_loop(kg, x, relation, weight):
    """Equations 3 and 4, triple by triple, as a dense matrix in which duplicates are summed."""
    x, relation, weight = x.detach(), relation.detach(), weight.detach()
    facts, dense = kg.triples.tolist(), torch.zeros(kg.num_nodes, kg.num_nodes).double()
    raw = [
        float((x[t] @ weight[r]) @ torch.tanh(x[h] @ weight[r] + relation[r])) for h, r, t in facts
    ]  # fmt: skip
    each = []
    for (h, _, t), score in zip(facts, raw, strict=True):
        total = math.fsum(math.exp(s - score) for (other, *_), s in zip(facts, raw, strict=True) if other == h)
        each.append(1 / total)
        dense[h, t] += 1 / total
    return torch.tensor(each, dtype=torch.float64), dense


# ---------------------------------------------------------------------- 1: attention


@pytest.mark.parametrize("seed", range(3))
def test_attention_equals_a_loop_over_triples(seed):
    kg, x, relation, weight = some_graph(seed), draw(N, D), draw(R, K, seed=1), draw(R, D, K, seed=2)
    each, dense = attention_loop(kg, x, relation, weight)
    found = nn.kg_attention(x, relation, weight, kg)
    torch.testing.assert_close(found, each, rtol=1e-10, atol=1e-12)
    adj = kg.adj.with_weight(found)
    torch.testing.assert_close(adj.dense(), dense, rtol=1e-10, atol=1e-12)
    sums = adj.target_degree()
    has = kg.degree() > 0
    torch.testing.assert_close(sums[has], torch.ones_like(sums[has]))
    assert not bool(sums[~has].any())
    assert bool((~has).any())


def test_a_head_without_triples_receives_nothing():
    kg = some_graph()
    layer = nn.KGATConv(D, 3).double()
    x = draw(N, D)
    self_only = torch.nn.functional.leaky_relu(x @ layer.weight + layer.bias, 0.2)
    self_only = self_only + torch.nn.functional.leaky_relu(layer.product_bias, 0.2)
    none = kg.degree() == 0
    weighted = kg.with_weight(nn.kg_attention(x, draw(R, K), draw(R, D, K), kg))
    torch.testing.assert_close(layer(x, weighted)[none], self_only[none])
    empty = KnowledgeGraph.from_triples(head=[], relation=[], tail=[], num_nodes=N, num_relations=R)
    assert nn.kg_attention(x, draw(R, K), draw(R, D, K), empty).shape == (0,)


def test_wrong_sizes_are_named():
    with pytest.raises(ArgumentError, match="relation: expected 4 rows, got 3"):
        nn.kg_attention(draw(N, D), draw(3, K), draw(R, D, K), some_graph())


# ---------------------------------------------------------------------- 2: aggregators


@pytest.mark.parametrize("aggr", ["bi", "gcn", "sage"])
@pytest.mark.parametrize("weighted", [True, False])
def test_kgatconv_parity(aggr, weighted):
    kg, x = some_graph(), draw(N, D)
    adj = kg.adj.with_weight(draw(kg.num_edges, seed=5).abs()) if weighted else kg.adj.normalize("row")
    dense = adj.with_weight(adj.weight.double()).dense()
    layer = nn.KGATConv(D, 3, aggr=aggr).double()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed))

    def act(v):
        return torch.where(v > 0, v, 0.2 * v)

    m = dense @ x
    expected = {
        "bi": lambda: (
            act((x + m) @ layer.weight + layer.bias) + act((x * m) @ layer.product_weight + layer.product_bias)
        ),
        "gcn": lambda: act((x + m) @ layer.weight + layer.bias),
        "sage": lambda: act(x @ layer.weight[:D] + m @ layer.weight[D:] + layer.bias),
    }[aggr]()
    found = layer(x, kg.with_weight(adj.weight.double()) if weighted else kg)
    torch.testing.assert_close(found, expected, rtol=1e-6 if not weighted else 1e-10, atol=1e-6)


def small_model(**options):
    settings = {"dim": D, "relation_dim": K, "layer_channels": (4, 3), "dropout": 0.0} | options
    model = models.KGAT(10, 12, 40, R, **settings).double()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed) / 2)
    return model


@pytest.mark.parametrize("aggr", ["bi", "gcn", "sage"])
def test_kgat_parity(aggr):
    """Equations 5 and 6: the next layer gets unnormalized rows, the output normalized ones, layer 0 unchanged."""
    kg, model = some_graph(), small_model(aggr=aggr)
    kg = model.refresh(kg)
    dense = kg.adj.dense()
    torch.testing.assert_close(
        dense, attention_loop(kg, model.embedding, model.relation, model.relation_weight)[1], rtol=1e-9, atol=1e-12
    )
    x, rows = model.embedding, [model.embedding]
    for conv in model.convs:
        m = dense @ x
        first = torch.cat([x, m], 1) if aggr == "sage" else x + m
        out = torch.nn.functional.leaky_relu(first @ conv.weight + conv.bias, 0.2)
        if aggr == "bi":
            out = out + torch.nn.functional.leaky_relu((x * m) @ conv.product_weight + conv.product_bias, 0.2)
        x = out
        rows.append(x / x.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt())
    z = model(kg)
    torch.testing.assert_close(z, torch.cat(rows, 1), rtol=1e-10, atol=1e-10)
    assert z.shape == (N, D + 4 + 3)
    torch.testing.assert_close(model.score(z, torch.tensor([3])), z[3:4] @ z[10:22].T)


# ---------------------------------------------------------------------- 3: limits


def test_zero_projections_give_the_mean_over_out_edges():
    kg, x = some_graph(), draw(N, D)
    probs = nn.kg_attention(x, draw(R, K), torch.zeros(R, D, K).double(), kg)
    assert torch.allclose(probs, 1 / kg.degree()[kg.adj.target].double(), rtol=1e-12)
    layer = nn.KGATConv(D, 3).double()
    torch.testing.assert_close(layer(x, kg.with_weight(probs)), layer(x, kg))
    torch.testing.assert_close(propagate(kg.adj, x, weight=probs), propagate(kg.adj, x, reduce="mean"))


def test_one_relation_and_the_identity():
    kg, x = random_knowledge_graph(9, 25, 1, seed=3), draw(9, D)
    probs = nn.kg_attention(x, torch.zeros(1, D).double(), torch.eye(D).double()[None], kg)
    score = {(h, t): float(x[t] @ torch.tanh(x[h])) for h, _, t in kg.triples.tolist()}
    for (h, _, t), prob in zip(kg.triples.tolist(), probs.tolist(), strict=True):
        total = sum(math.exp(score[a, b]) for a, _, b in kg.triples.tolist() if a == h)
        assert prob == pytest.approx(math.exp(score[h, t]) / total)


def test_no_layers_are_matrix_factorization():
    model = small_model(layer_channels=())
    mf = models.BPRMF(10, 12, dim=D).double()
    mf.load_state_dict({"embedding": model.embedding[:22]})
    kg, users, items, others = some_graph(), torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([5, 0])
    one = model.pair_loss(model.start(kg), users, items, others, l2=1e-2)
    assert torch.equal(one, mf.pair_loss(kg, users, items, others, l2=1e-2))


def test_the_laplacian_is_the_sum_of_the_relations():
    kg = some_graph()
    expected = torch.zeros(N, N)
    for r in range(R):
        a = kg.view(r).adj.dense()
        expected += a / a.sum(1, keepdim=True).clamp(min=1)
    weight = nn.relation_laplacian(kg)
    torch.testing.assert_close(kg.adj.with_weight(weight).dense(), expected)
    kinds = torch.tensor([len(kg.relation[kg.adj.target == v].unique()) for v in range(N)]).float()
    torch.testing.assert_close(kg.adj.with_weight(weight).target_degree(), kinds)
    model = small_model(attention="laplacian")
    exact = weight.double().reciprocal().round().reciprocal()  # one over whole numbers, in float64
    assert torch.equal(model.refresh(model.start(kg)).adj.weight, exact)


def test_training_may_start_from_matrix_factorization():
    model, mf = small_model(), models.BPRMF(10, 12, dim=D).double()
    before = model.embedding.detach().clone()
    model.take_factors(mf.embedding)
    assert torch.equal(model.embedding[:22], mf.embedding)
    assert torch.equal(model.embedding[22:], before[22:])
    with pytest.raises(ArgumentError, match=r"factors: expected shape \[22, 6\]"):
        model.take_factors(mf.embedding[:5])


def test_dropout_acts_on_layer_outputs():
    """The next layer gets the output after dropout, and layer 0 has no dropout."""
    model, kg = small_model(dropout=0.5, layer_channels=(5, 4)).train(), some_graph()
    attended = []
    model.convs[1].register_forward_pre_hook(lambda _, given: attended.append(given[0]))
    with train.seeded(0):
        z = model(model.start(kg))
    assert torch.equal(z[:, :D], model.embedding)
    prob = float((attended[0] == 0).double().mean())
    assert 0.35 < prob < 0.65
    assert torch.equal(attended[0] == 0, z[:, D : D + 5] == 0)
    last = float((z[:, D + 5 :] == 0).double().mean())
    assert 0.3 < last < 0.7
    assert not bool((model.eval()(model.start(kg)) == 0).any())


# ---------------------------------------------------------------------- 4: gradients


def test_gradients_of_both_losses():
    model, kg = small_model(), some_graph()
    head, relation, tail = kg.triples[[0, 30, 60, 90]].unbind(1)
    other = torch.tensor([1, 7, 12, 45])
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in model.parameters()]

    class Losses(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, which):
            if which == "facts":
                return self.model.triple_loss(head, relation, tail, other, l2=0.1)
            ids = torch.tensor([0, 4, 9]), torch.tensor([1, 5, 11]), torch.tensor([2, 0, 3])
            return self.model.pair_loss(weighted, *ids, l2=0.1)

    weighted, losses = model.refresh(kg), Losses()

    def call(which):
        return lambda *parameters: torch.func.functional_call(
            losses, {f"model.{n}": p for n, p in zip(names, parameters, strict=True)}, (which,)
        )

    assert torch.autograd.gradcheck(call("facts"), values, atol=1e-7)
    assert torch.autograd.gradcheck(call("pairs"), values, atol=1e-7)


def test_the_ranking_loss_has_no_gradient_to_the_attention():
    model, kg = small_model(), some_graph()
    weighted = model.refresh(model.start(kg))
    assert not weighted.adj.weight.requires_grad
    model.pair_loss(weighted, torch.tensor([0]), torch.tensor([1]), torch.tensor([2])).backward()
    assert model.relation.grad is None
    assert model.relation_weight.grad is None
    assert model.embedding.grad.abs().sum() > 0
    model.zero_grad()
    model.triple_loss(*kg.triples[:3].unbind(1), torch.tensor([4, 5, 6])).backward()
    assert all(p.grad is None for conv in model.convs for p in conv.parameters())
    assert model.relation_weight.grad.abs().sum() > 0


def test_the_triple_loss_is_the_sum_over_triples():
    """Equations 1 and 2, with unsorted relations, one of them without triples; the loss without triples is 0."""
    x, vectors, weight = draw(7, D), draw(R, K, seed=1), draw(R, D, K, seed=2)
    head, tail, other = torch.tensor([0, 6, 3, 0, 2]), torch.tensor([1, 1, 3, 5, 4]), torch.tensor([2, 0, 6, 5, 1])
    relation = torch.tensor([2, 0, 2, 0, 3])

    def energy(h, r, t):
        return float((x[h] @ weight[r] + vectors[r] - x[t] @ weight[r]).square().sum())

    facts = list(zip(head.tolist(), relation.tolist(), tail.tolist(), other.tolist(), strict=True))
    expected = sum(math.log1p(math.exp(energy(h, r, t) - energy(h, r, o))) for h, r, t, o in facts) / 5
    squares = sum(
        float(vectors[r].square().sum()) + sum(float((x[v] @ weight[r]).square().sum()) for v in (h, t, o))
        for h, r, t, o in facts
    )
    assert float(nn.transr_loss(x, vectors, weight, head, relation, tail, other)) == pytest.approx(expected, rel=1e-12)
    found = nn.transr_loss(x, vectors, weight, head, relation, tail, other, l2=0.3)
    assert float(found) == pytest.approx(expected + 0.3 * squares / 10, rel=1e-12)
    with pytest.raises(ArgumentError, match="relation: expected ids below 4"):
        nn.transr_loss(x, vectors, weight, head, relation + 1, tail, other)
    none = head[:0]
    assert float(nn.transr_loss(x, vectors, weight, none, none, none, none, l2=0.3)) == 0


def test_energy_and_projection():
    x, weight, relation = draw(7, D), draw(R, D, K, seed=1), torch.tensor([3, 0, 3, 1, 0, 0, 3])
    found = nn.project(x, weight, relation)
    for b in range(7):
        torch.testing.assert_close(found[b], x[b] @ weight[relation[b]])
    assert nn.project(x[:0], weight, relation[:0]).shape == (0, K)
    assert torch.autograd.gradcheck(
        lambda x, w: nn.project(x, w, relation), (x.requires_grad_(), weight.requires_grad_())
    )
    h, r, t = draw(4, K), draw(4, K, seed=1), draw(4, K, seed=2)
    expected = torch.stack([sum((h[b, i] + r[b, i] - t[b, i]) ** 2 for i in range(K)) for b in range(4)])
    torch.testing.assert_close(nn.transr_energy(h, r, t), expected)


# ---------------------------------------------------------------------- 5: published sizes


def test_published_sizes():
    """Amazon-book: 12,132,960; 12,146,384 with the GraphSAGE weights that the published code does not use."""
    with torch.device("meta"):
        model = models.KGAT(BOOK_USERS, BOOK_ITEMS, BOOK_ENTITIES, BOOK_RELATIONS)
        unused = [nn.KGATConv(a, b, aggr="sage") for a, b in ((64, 64), (64, 32), (32, 16))]

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(model) == 12_132_960
    assert count(model) + sum(map(count, unused)) == 12_146_384
    assert (model.dropout.p, model.attention, [c.out_channels for c in model.convs]) == (0.1, "refresh", [64, 32, 16])


# ---------------------------------------------------------------------- 6: cost


def test_attention_projects_nodes_by_relation_and_stores_no_edge_features(monkeypatch):
    """No tensor of size E x k is allocated outside the chunks of the operator; nodes are projected, not edges."""
    kg = random_knowledge_graph(300, 20_000, 3, seed=1)
    sizes = []
    real = torch.Tensor.__matmul__

    def watched(a, b):
        out = real(a, b)
        sizes.append(out.shape[0])
        return out

    scored, score = [], hgraph.ops.edge_score

    def counted(adj, query, key):
        scored.append(adj.num_edges)
        return score(adj, query, key)

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    monkeypatch.setattr("hgraph.nn.recommend.transr.edge_score", counted)
    nn.kg_attention(torch.randn(300, 8), torch.randn(3, 8), torch.randn(3, 8, 8), kg)
    assert len(sizes) == 6
    assert max(sizes) <= 300
    assert len(scored) == 3
    assert sum(scored) == kg.num_edges  # every score is the verb's, which keeps no row for an edge


# ---------------------------------------------------------------------- 7: learning


def synthetic(seed, *, users=400, items=300, attributes=30, taken=5, shuffled=False):
    """Items with three attributes and three noise entities; users take items of the two attributes they prefer."""
    g = torch.Generator().manual_seed(seed)
    third = attributes // 3
    own = torch.stack([torch.randint(third, (items,), generator=g) + r * third for r in range(3)], 1)
    noise = torch.randint(attributes, (items, 3), generator=g) + attributes
    parts: tuple[list, list] = ([], [])
    for user in range(users):
        preferred = torch.randperm(attributes, generator=g)[:2]
        like = torch.isin(own, preferred).any(1).nonzero().flatten()
        chosen = like[torch.randperm(len(like), generator=g)[: 2 * taken]].tolist()
        parts[0].extend((user, i) for i in chosen[:taken])
        parts[1].extend((user, i) for i in chosen[taken:])
    head = torch.randperm(items, generator=g) if shuffled else torch.arange(items)
    kg = KnowledgeGraph.from_triples(
        head=head.repeat_interleave(6), relation=torch.arange(6).repeat(items),
        tail=torch.cat([own, noise], 1).flatten() + items, num_nodes=items + 2 * attributes, num_relations=6,
    )  # fmt: skip
    train_pairs, test_pairs = (torch.tensor(p).T for p in parts)
    none = torch.empty(2, 0, dtype=torch.long)
    return Interactions.from_pairs(train_pairs, none, test_pairs, kg, num_users=users, num_items=items)


def recall(model, data, seed, epochs):
    options = {"lr": 0.01, "batch": 400, "eval_every": 1000, "patience": None, "progress": False}
    train.fit_recommender(model, data, epochs=epochs, seed=seed, **options)
    score = train.scorer(model, train.structure_of(model, data))
    return train.full_ranking(score, data.test, [data.train], ks=[20])["recall@20"]


def gains(seeds, epochs):
    """Mean recall@20 of matrix factorization, KGAT-2, and KGAT-2 with a shuffled graph."""
    found = []
    for seed in seeds:
        row = []
        for kind, shuffled in (("mf", False), ("kgat", False), ("kgat", True)):
            data = synthetic(seed, shuffled=shuffled)
            with train.seeded(seed):
                if kind == "mf":
                    model = models.BPRMF(data.num_users, data.num_items, dim=32)
                else:
                    sizes = data.num_users, data.num_items, data.kg.num_nodes, data.collaborative().num_relations
                    model = models.KGAT(*sizes, dim=32, relation_dim=32, layer_channels=(32, 16))
            row.append(recall(model, data, seed, epochs))
        found.append(row)
    return torch.tensor(found).double().mean(0).tolist()


def test_the_knowledge_graph_helps():
    """One seed; the full task is below."""
    mf, kgat, control = gains([0], 60)
    assert kgat >= 1.2 * mf
    assert control - mf <= 0.5 * (kgat - mf)


@pytest.mark.slow
def test_the_knowledge_graph_helps_over_three_seeds():
    """At least 20 % over BPR-MF, and a shuffled graph loses at least half of the gain."""
    mf, kgat, control = gains(range(3), 60)
    assert kgat >= 1.2 * mf
    assert control - mf <= 0.5 * (kgat - mf)
