"""Models of triples against their papers' sums over numbers."""

from __future__ import annotations

import cmath
import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from hgraph.errors import ArgumentError
from hgraph.models import ComplEx, DistMult, RotatE, TransE, TransR

N, R = 7, 3
H, REL, T = (torch.tensor(ids) for ids in ([0, 3, 6, 3], [2, 0, 2, 1], [1, 1, 6, 0]))


def made(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@torch.no_grad()
def check(model, plain):
    """Scores of all facts against ``plain(head, relation, tail)`` of lists of numbers and the relation's id."""
    expected = torch.tensor([
        [[plain(model.entity[h].tolist(), r, model.entity[t].tolist()) for t in range(N)] for r in range(R)]
        for h in range(N)
    ], dtype=torch.float64)  # fmt: skip
    h, r, t = torch.tensor(list(itertools.product(range(N), range(R), range(N)))).T
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(model.score(h, r, t), expected.flatten(), **close)
    torch.testing.assert_close(model.score_tails(H, REL), expected[H, REL], **close)
    difference = model.score_heads(REL, T) - expected[:, REL, T].T
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, N), **close)
    tails, heads = (F.cross_entropy(x, y) for x, y in ((expected[H, REL], T), (expected[:, REL, T].T, H)))
    loss = model.loss(H, REL, T)
    torch.testing.assert_close(loss, (tails + heads) / 2, **close)
    squares = sum(float(x.square().sum()) for x in (model.entity[H], model.relation[REL], model.entity[T]))
    assert float(model.loss(H, REL, T, l2=0.2) - loss) == pytest.approx(0.2 * squares / 8)


@pytest.mark.parametrize("p", [1, 2])
def test_transe_parity(p):
    model = made(TransE(N, R, dim=4, p=p))
    moves = model.relation.tolist()
    check(model, lambda h, r, t: -sum(abs(a + b - c) ** p for a, b, c in zip(h, moves[r], t, strict=True)))


def test_squared_distances_add_up_what_head_and_relation_say():
    """For two heads one relation's scores differ from another's by the same, so 1 is the default."""
    found = {}
    for p in (1, 2):
        model = made(TransE(N, R, dim=4, p=p))
        heads, tails = torch.arange(N).repeat_interleave(2), torch.tensor([0, 1]).repeat(N)
        scores = model.score_tails(heads, tails).detach().view(N, 2, N)
        gap = scores[:, 0] - scores[:, 1]  # relation 0 less relation 1
        gap = gap - gap[:, :1]  # up to a number for each head and relation
        found[p] = float((gap - gap[:1]).abs().max())
    assert found[2] < 1e-12
    assert found[1] > 0.1
    with pytest.raises(ArgumentError, match="p: expected 1 or 2"):
        TransE(N, R, p=3)


def test_distmult_parity():
    model = made(DistMult(N, R, dim=4))
    weights = model.relation.tolist()
    check(model, lambda h, r, t: sum(a * b * c for a, b, c in zip(h, weights[r], t, strict=True)))


def complexes(x):
    half = len(x) // 2
    return [complex(a, b) for a, b in zip(x[:half], x[half:], strict=True)]


def test_complex_parity():
    model = made(ComplEx(N, R, dim=4))
    weights = [complexes(row) for row in model.relation.tolist()]

    def plain(h, r, t):
        triples = zip(complexes(h), weights[r], complexes(t), strict=True)
        return sum(a * b * c.conjugate() for a, b, c in triples).real

    check(model, plain)


def test_rotate_parity():
    model = made(RotatE(N, R, dim=4))
    angles = model.relation.tolist()

    def plain(h, r, t):
        triples = zip(complexes(h), angles[r], complexes(t), strict=True)
        return -sum(abs(a * cmath.exp(1j * b) - c) ** 2 for a, b, c in triples)

    check(model, plain)


def test_transr_parity():
    model = made(TransR(N, R, dim=4, relation_dim=3))
    moves, matrices = model.relation.tolist(), model.relation_weight.tolist()

    def plain(h, r, t):
        total = 0.0
        for k in range(3):
            a, b = (sum(x[j] * matrices[r][j][k] for j in range(4)) for x in (h, t))
            total -= (a + moves[r][k] - b) ** 2
        return total

    check(model, plain)


@pytest.mark.parametrize("clusters", [1, 2])
@pytest.mark.parametrize("kind", ["TransE", "RotatE"])
def test_squared_distances_keep_their_digits(kind, clusters):
    """Nodes far from 0, at +100 or at +100 and -100; gradients, too."""
    torch.manual_seed(0)
    model = TransE(40, R, dim=8, p=2) if kind == "TransE" else RotatE(40, R, dim=8)
    place = 100.0 - 200.0 * (torch.arange(40) % clusters)
    with torch.no_grad():
        model.entity.add_(place.unsqueeze(1))
        model.relation.mul_(0.01)
    exact = copy.deepcopy(model).double()
    head, relation, tail = torch.arange(20), torch.arange(20) % R, torch.arange(20, 40)
    for found, expected in (
        (model.score_tails(head, relation), exact.score_tails(head, relation)),
        (model.score_heads(relation, tail), exact.score_heads(relation, tail)),
    ):
        assert expected.abs().amin() < 20
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=5e-4)
    by_pair = exact.score(head.repeat_interleave(40), relation.repeat_interleave(40), torch.arange(40).repeat(20))
    torch.testing.assert_close(exact.score_tails(head, relation).flatten(), by_pair, rtol=1e-12, atol=1e-10)
    for each in (model, exact):
        (each.score_tails(head, relation).exp()).sum().backward()
    torch.testing.assert_close(model.entity.grad.double(), exact.entity.grad, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------- limit cases and errors


def test_limit_cases():
    """Real parts alone make ComplEx DistMult; no turn makes RotatE TransE without moves; W = 1 makes TransR TransE."""
    x, r = torch.randn(N, 2).double(), torch.randn(R, 2).double()
    complex_, dist = ComplEx(N, R, dim=4).double(), DistMult(N, R, dim=2).double()
    rotate, plain = RotatE(N, R, dim=4).double(), TransE(N, R, dim=4, p=2).double()
    transr = TransR(N, R, dim=4, relation_dim=4).double()
    with torch.no_grad():
        complex_.entity.copy_(F.pad(x, (0, 2)))
        complex_.relation.copy_(F.pad(r, (0, 2)))
        dist.entity.copy_(x)
        dist.relation.copy_(r)
        rotate.relation.zero_()
        plain.relation.zero_()
        plain.entity.copy_(rotate.entity)
        transr.entity.copy_(plain.entity)
        transr.relation.copy_(plain.relation)
        transr.relation_weight.copy_(torch.eye(4).expand(R, 4, 4))
    for a, b in ((complex_, dist), (rotate, plain), (transr, plain)):
        torch.testing.assert_close(a.score_tails(H, REL), b.score_tails(H, REL), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", [ComplEx, RotatE])
def test_odd_widths_are_refused(model):
    with pytest.raises(ArgumentError, match="an even number"):
        model(N, R, dim=5)


def test_a_rotation_keeps_lengths():
    model = RotatE(N, R, dim=6)
    rows = model.tail_query(model.entity, model.relation[[0]].expand(N, -1))
    torch.testing.assert_close(rows.norm(dim=1), model.entity.norm(dim=1))
    assert float(model.relation.detach().abs().max()) <= math.pi
