"""Recommenders against their papers' sums written as loops; losses and rows of all of them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from hgraph.data import Interactions
from hgraph.models import BPRMF, CFKG, CKE, FM, GCMC, KGAT, KGCN, NFM, LightGCN, RippleNet, TwoTower
from hgraph.structure import KnowledgeGraph
from hgraph.testing.precision_clauses import RoundingMode
from tests.models.cases import ENTITIES, RECOMMENDERS, RELATIONS, I, U, interactions


def made(model, seed=0):
    """The model in float64 with every parameter random."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def scores(model, data):
    structure = model.refresh(model.start(model.structure(data)))
    return model.score(model(structure), torch.arange(U))


def same_up_to_users(a, b):
    """Equal up to a constant per user, which does not change the ranking."""
    difference = a - b
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------------- parity


@torch.no_grad()
def test_bprmf_parity():
    model, data = made(BPRMF(U, I, dim=4)), interactions()
    for u in range(U):
        for i in range(I):
            expected = sum(float(a) * float(b) for a, b in zip(model.embedding[u], model.embedding[U + i], strict=True))
            assert float(scores(model, data)[u, i]) == pytest.approx(expected, abs=1e-12)


@torch.no_grad()
def test_lightgcn_parity():
    model, data = made(LightGCN(U, I, dim=4, num_layers=2)), interactions()
    near = {v: [] for v in range(U + I)}
    for u, i in zip(data.train.target.tolist(), data.train.indices.tolist(), strict=True):
        near[u].append(U + i)
        near[U + i].append(u)
    layers = [model.embedding.detach()]
    for _ in range(2):
        layers.append(torch.stack([
            sum((layers[-1][w] / math.sqrt(len(near[v]) * len(near[w])) for w in near[v]), torch.zeros(4).double())
            for v in range(U + I)
        ]))  # fmt: skip
    torch.testing.assert_close(model(model.structure(data)), sum(layers) / 3, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_fm_parity():
    model, data = made(FM(U, I, ENTITIES, dim=4)), interactions()
    facts = data.kg.triples.tolist()
    expected = torch.zeros(U, I).double()
    for u in range(U):
        for i in range(I):
            # the collaborative graph has each triple in both directions
            items = {i} | {t for h, _, t in facts if h == i} | {h for h, _, t in facts if t == i}
            vectors = [model.embedding[u], *(model.embedding[U + f] for f in sorted(items))]
            total = sum(model.linear[f, 0] for f in items)
            for a in range(len(vectors)):
                for b in range(a + 1, len(vectors)):
                    total = total + vectors[a] @ vectors[b]
            expected[u, i] = total.detach()
    same_up_to_users(scores(model, data), expected)


@torch.no_grad()
def test_cke_parity():
    model, data = made(CKE(U, I, ENTITIES, RELATIONS, dim=4, relation_dim=3)), interactions()
    expected = model.embedding[:U] @ (model.embedding[U:] + model.entity[:I]).T
    torch.testing.assert_close(scores(model, data), expected, rtol=1e-12, atol=1e-12)
    head, relation, tail, other = (torch.tensor(x) for x in ([0, 3, 1], [2, 0, 2], [4, 2, 0], [1, 1, 5]))
    total = 0.0
    for h, r, t, o in zip(head, relation, tail, other, strict=True):
        vectors = [model.entity[v] @ model.relation_weight[r] for v in (h, t, o)]
        a, b, c, e = (x / x.square().sum().sqrt() for x in (*vectors, model.relation[r]))
        near, far = ((a + e - x).square().sum() for x in (b, c))
        total += math.log1p(math.exp(float(near - far)))
    loss = model.triple_loss(head, relation, tail, other)
    assert float(loss) == pytest.approx(total / 3, rel=1e-10)
    assert float(model.triple_loss(head, relation, tail, other, l2=0.1) - loss) == pytest.approx(0.1 * 4 / 2)


@pytest.mark.parametrize("relations", [1, 9, 40])
@pytest.mark.parametrize("model", [KGAT, CKE])
def test_initial_matrices_of_relations_as_published(model, relations):
    """Glorot-uniform with the number of relations counted in both fans."""
    torch.manual_seed(0)
    weight = model(U, I, ENTITIES, relations, dim=20, relation_dim=30).relation_weight
    assert weight.shape == (relations, 20, 30)
    bound = (6 / (relations * (20 + 30))) ** 0.5
    assert 0.98 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("clusters", [1, 2])
def test_distances_keep_their_digits(clusters):
    """Rows far from 0, at +100 or at +100 and -100; what float32 rounds there is 4e-6 of each coordinate."""
    model = CFKG(U, I, ENTITIES, 2, dim=8)
    place = 100.0 - 200.0 * (torch.arange(U + ENTITIES) % clusters)
    with torch.no_grad():
        table = torch.randn(U + ENTITIES, 8, generator=torch.Generator().manual_seed(0)).mul_(0.5)
        model.embedding.copy_(table + place.unsqueeze(1))
    exact = scores(copy.deepcopy(model).double(), interactions())
    assert exact.abs().amin() < 10
    torch.testing.assert_close(scores(model, interactions()).double(), exact, rtol=1e-5, atol=1e-4)
    users, taken, other = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]), torch.tensor([3, 4, 5])
    loss = model.pair_loss(interactions().collaborative(), users, taken, other)
    u, i, j = (model.embedding[ids].double() for ids in (users, U + taken, U + other))
    near, far = ((u + model.relation[0] - x).square().sum(-1) for x in (i, j))
    torch.testing.assert_close(loss.double(), F.softplus(near - far).mean(), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_cfkg_parity():
    model, data = made(CFKG(U, I, ENTITIES, 2 * RELATIONS + 2, dim=4)), interactions()
    table = model.embedding
    expected = torch.stack([
        -(table[u] + model.relation[0] - table[U : U + I]).square().sum(-1) for u in range(U)
    ])  # fmt: skip
    torch.testing.assert_close(scores(model, data), expected, rtol=1e-12, atol=1e-12)
    head, relation, tail, other = (torch.tensor(x) for x in ([0, 7], [2, 0], [9, 2], [1, 6]))
    near, far = ((table[head] + model.relation[relation] - table[end]).square().sum(-1) for end in (tail, other))
    loss = model.triple_loss(head, relation, tail, other)
    torch.testing.assert_close(loss, F.softplus(near - far).mean(), rtol=1e-12, atol=1e-12)
    squares = sum(float(x.square().sum()) for x in (table[head], table[tail], table[other], model.relation[relation]))
    more = model.triple_loss(head, relation, tail, other, l2=0.2)
    assert float(more - loss) == pytest.approx(0.2 * squares / 4)


@torch.no_grad()
def test_nfm_parity():
    model, data = made(NFM(U, I, ENTITIES, dim=4, hidden_channels=5)), interactions()
    facts = data.kg.triples.tolist()
    expected = torch.zeros(U, I).double()
    for u in range(U):
        for i in range(I):
            items = {i} | {t for h, _, t in facts if h == i} | {h for h, _, t in facts if t == i}
            vectors = [model.embedding[u], *(model.embedding[U + f] for f in sorted(items))]
            pooled = torch.zeros(4).double()
            for a in range(len(vectors)):
                for b in range(a + 1, len(vectors)):
                    pooled = pooled + vectors[a] * vectors[b]
            hidden = (model.hidden.weight @ pooled + model.hidden.bias).clamp(min=0)
            expected[u, i] = model.out.weight[0] @ hidden + sum(model.linear[f, 0] for f in items)
    torch.testing.assert_close(scores(model, data), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_gcmc_parity():
    model, data = made(GCMC(U, I, ENTITIES, 2 * RELATIONS + 2, dim=4)), interactions()
    edges = data.collaborative().triples.tolist()
    degree = [sum(h == v for h, _, _ in edges) for v in range(U + ENTITIES)]
    table = []
    for v in range(U + I):
        attended = torch.zeros(4).double()
        for h, r, t in edges:
            if h == v:
                attended += model.embedding[t] @ model.conv.weight[r, 0] / math.sqrt(degree[h] * degree[t])
        table.append((attended.clamp(min=0) @ model.dense).clamp(min=0))
    expected = torch.stack([torch.stack([table[u] @ model.form @ table[U + i] for i in range(I)]) for u in range(U)])
    torch.testing.assert_close(scores(model, data), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_layers", [1, 2])
@torch.no_grad()
def test_kgcn_parity(num_layers):
    data = interactions()
    model = made(KGCN(U, I, ENTITIES, 2 * RELATIONS, dim=4, num_layers=num_layers, fanout=3))
    kg = model.start(model.structure(data))
    facts, known = kg.triples.tolist(), model.structure(data).triples.tolist()
    counts = [sum(h == v for h, _, _ in known) for v in range(ENTITIES)]
    assert [sum(h == v for h, _, _ in facts) for v in range(ENTITIES)] == [min(c, 3) for c in counts]
    assert all(fact in known for fact in facts)
    assert max(counts) > 3

    def around(u, v, layer):
        """The features of entity v for user u after some layers."""
        if layer == 0:
            return model.entity[v]
        own = [(r, t) for h, r, t in facts if h == v]
        probs = torch.softmax(torch.stack([model.user[u] @ model.relation[r] for r, _ in own]), 0) if own else []
        attended = sum((s * around(u, t, layer - 1) for s, (_, t) in zip(probs, own, strict=True)), torch.zeros(4))
        linear = model.layers[layer - 1]
        out = linear.weight @ (around(u, v, layer - 1) + attended) + linear.bias
        return torch.tanh(out) if layer == num_layers else out.clamp(min=0)

    expected = torch.stack(
        [torch.stack([model.user[u] @ around(u, i, num_layers) for i in range(I)]) for u in range(U)]
    )
    torch.testing.assert_close(scores(model, data), expected, rtol=1e-10, atol=1e-10)
    check_click_loss(model, kg, [model.user, model.entity, model.entity])


def check_click_loss(model, structure, tables, beside=0.0, squares_beside=0.0):
    """The loss of a few pairs, from the scores, with the L2 term of rows of these tables."""
    users, taken, other = torch.tensor([0, 2, 4]), torch.tensor([1, 0, 3]), torch.tensor([2, 5, 1])
    table = model.score(model(structure), torch.arange(U))
    taken_, other_ = table[users, taken], table[users, other]
    expected = sum(math.log1p(math.exp(float(x))) for x in [*-taken_, *other_]) / 6
    loss = model.pair_loss(structure, users, taken, other)
    assert float(loss) == pytest.approx(expected + beside, rel=1e-10)
    squares = sum(
        float(t[ids].square().sum()) for t, ids in zip(tables, (users, taken, other), strict=True) if t is not None
    )
    more = model.pair_loss(structure, users, taken, other, l2=0.3)
    assert float(more - loss) == pytest.approx(0.3 * (squares + squares_beside) / 6)


@torch.no_grad()
def test_ripplenet_parity():
    data = interactions()
    model = made(RippleNet(U, I, ENTITIES, RELATIONS, dim=4, memory=5))
    z = model(model.structure(data))
    facts = data.kg.triples.tolist()
    assert bool(z.some.any())
    expected, plausible, squares = torch.zeros(U, I).double(), 0.0, 0.0
    for u in range(U):
        taken = data.train.indices[data.train.target == u].tolist()
        if not any(h in taken for h, _, _ in facts):
            assert not z.some[u]
            plausible += 10 * 0.5 / 30 * (u in (0, 2, 4))
            continue
        heads, sets = set(taken), []
        for hop in range(2):
            here = [tuple(int(ids[u, hop, m]) for ids in z[:3]) for m in range(5)]
            if any(h in heads for h, _, _ in facts):
                assert all(list(fact) in facts and fact[0] in heads for fact in here)
            else:
                assert here == sets[-1]
            sets.append(here)
            heads = {t for _, _, t in here}
        for i in range(I):
            query, total = model.entity[i], torch.zeros(4).double()
            for here in sets:
                keys = [model.entity[h] @ model.relation_weight[r] for h, r, _ in here]
                probs = torch.softmax(torch.stack([query @ key for key in keys]), 0)
                query = sum(s * model.entity[t] for s, (_, _, t) in zip(probs, here, strict=True))
                total = total + query
            expected[u, i] = model.entity[i] @ total
        if u in (0, 2, 4):
            for h, r, t in (fact for here in sets for fact in here):
                plausible += float(torch.sigmoid(model.entity[h] @ model.relation_weight[r] @ model.entity[t])) / 30
                squares += float(model.entity[t].square().sum()) / 5
    torch.testing.assert_close(scores(model, data), expected, rtol=1e-10, atol=1e-10)
    check_click_loss(model, model.structure(data), [None, model.entity, model.entity], -0.01 * plausible, squares)


@torch.no_grad()
def test_twotower_parity():
    model, data = made(TwoTower(U, I, ENTITIES, dim=4, hidden_channels=6, out_channels=3)), interactions()
    facts = data.kg.triples.tolist()

    def tower(layers, x):
        hidden = (x @ layers[0].weight.T + layers[0].bias).clamp(min=0)
        return hidden @ layers[2].weight.T + layers[2].bias

    for i in range(I):
        near = {t for h, _, t in facts if h == i} | {h for h, _, t in facts if t == i}
        mean = sum((model.attribute[a] for a in near), torch.zeros(4).double()) / max(len(near), 1)
        row = tower(model.item_tower, torch.cat([model.item[i], mean]))
        for u in range(U):
            expected = float(tower(model.user_tower, model.user[u]) @ row)
            assert float(scores(model, data)[u, i]) == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------------- every recommender


ALL = pytest.mark.parametrize("case", RECOMMENDERS.values(), ids=RECOMMENDERS)
# the others have their own losses
WITH_ROWS = {name: case for name, case in RECOMMENDERS.items() if name not in ("KGCN", "RippleNet")}
ROWS = pytest.mark.parametrize("case", WITH_ROWS.values(), ids=WITH_ROWS)


@ALL
def test_held_out_pairs_do_not_change_scores(case):
    model, data = case.module().model, interactions()
    pairs = [torch.stack([p.target, p.indices]) for p in (data.train, data.val, data.test)]
    other = Interactions.from_pairs(pairs[0], pairs[2], pairs[1], data.kg, num_users=U, num_items=I)
    assert torch.equal(scores(model, data), scores(model, other))


@ROWS
def test_the_ranking_loss(case):
    model, data = case.module(dtype=torch.float64).model, interactions()
    structure = model.start(model.structure(data))
    z = model(structure).detach()
    users, taken, other = torch.tensor([0, 3]), torch.tensor([1, 4]), torch.tensor([2, 0])
    rows = [(z[u], z[U + i], z[U + j]) for u, i, j in zip(users, taken, other, strict=True)]
    score = model.score(z, torch.arange(U)).detach()
    gaps = [float(score[u, i] - score[u, j]) for u, i, j in zip(users, taken, other, strict=True)]
    expected = sum(math.log1p(math.exp(-gap)) for gap in gaps) / 2
    loss = model.pair_loss(structure, users, taken, other).detach()
    assert float(loss) == pytest.approx(expected, rel=1e-10)
    squares = sum(float(x.square().sum()) for row in rows for x in row)
    assert float(model.pair_loss(structure, users, taken, other, l2=0.3).detach() - loss) == pytest.approx(
        0.3 * squares / 4
    )


@ROWS
def test_rows_are_those_of_z(case):
    """The rows of a training step are those of the ranking, with gradients and repeated ids."""
    model, data = case.module(dtype=torch.float64).model, interactions()
    structure, ids = model.start(model.structure(data)), torch.tensor([0, 3, U + 1, U + 1, U])
    expected = model(structure).index_select(0, ids)
    found = model.rows(structure, ids)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    own = [p for p in model.parameters() if p.requires_grad]
    weight = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    both = [torch.autograd.grad((z * weight).sum(), own, allow_unused=True) for z in (found, expected)]
    for one, other in zip(*both, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_nfm_drops_the_pooled_vector_in_training():
    """As in the paper, in addition to the hidden layer."""
    torch.manual_seed(0)  # some of the 16 numbers are dropped
    model, data, attended = NFM(U, I, ENTITIES, dim=8, dropout=0.5), interactions(), []
    model.hidden.register_forward_pre_hook(lambda _, given: attended.append(given[0]))
    structure, pair = model.structure(data), (torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([2, 5]))
    model.train().pair_loss(structure, *pair)
    model.eval().pair_loss(structure, *pair)
    assert all(bool((pooled == 0).any()) for pooled in attended[:2])
    assert not any(bool((pooled == 0).any()) for pooled in attended[2:])


def test_ripplenet_works_without_triples():
    """There are no messages, and the loss still has a gradient."""
    data = interactions()
    none = KnowledgeGraph.from_triples(head=[], relation=[], tail=[], num_nodes=data.kg.num_nodes, num_relations=0)
    parts = [torch.stack([p.target, p.indices]) for p in (data.train, data.val, data.test)]
    data = Interactions.from_pairs(*parts, none, num_users=U, num_items=I)
    model = RippleNet(U, I, ENTITIES, 0, dim=4)
    assert torch.equal(scores(model, data), torch.zeros(U, I))
    ids = torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([2, 5])
    model.pair_loss(model.structure(data), *ids, l2=0.1).backward()
    assert bool(model.entity.grad.abs().sum() > 0)


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_structures_of_a_float64_model_are_made_in_float64(name):
    model, data = RECOMMENDERS[name].module(dtype=torch.float64).model, interactions()
    structure = model.structure(data)
    with RoundingMode() as rounding, torch.no_grad():
        structure = model.refresh(model.start(structure))
        model.score(model(structure), torch.arange(U))
    assert not rounding.found
