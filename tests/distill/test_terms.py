"""Every term of an objective against loops over its sum, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hgraph.distill import (
    HighOrder,
    Labels,
    Lesson,
    MatchEmbedding,
    MatchSimilarity,
    NoisyFeatures,
    ReliableLabels,
    SoftLabels,
    WithPositions,
    activations,
    distill,
    extend_positions,
    glnn,
    krd,
    lighthgnn_plus,
    nosmog,
    penultimate,
    position_features,
    topology_score,
)
from hgraph.distill.objectives.high_order import hyperedge_reliability
from hgraph.errors import ArgumentError
from hgraph.models import HGNN, LEGCN, MLP
from hgraph.structure import Graph, Hypergraph
from hgraph.train import TrainingView, seeded, training_view

N, C = 7, 3


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


HYPEREDGES = [[0, 1, 2], [2, 3], [3, 4, 5, 6], [5], [5], [0, 6], []]


def lesson(hyperedges=HYPEREDGES, logits=None, teacher=None, student=None):
    hg = Hypergraph.from_lists(hyperedges, num_nodes=N)
    y, train = torch.arange(N) % C, torch.tensor([0, 4])
    part = TrainingView(hg, numbers(N, 5, seed=3), y, train, torch.tensor([1]))
    teacher_logits = numbers(N, C, seed=1) if logits is None else logits
    return Lesson(part, student or nn.Linear(5, C).double(), teacher, teacher_logits)


def kl(t, s, variant):
    if variant == "official":
        return sum(math.exp(a) * (a - math.log(b)) for a, b in zip(t, s, strict=True))
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(t, s, strict=True) if a)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_soft_labels_match_the_loop_and_the_closed_form_gradient(variant):
    z, bound = numbers(N, C, seed=2).requires_grad_(), lesson()
    loss = SoftLabels(variant=variant).bind(bound)(z)
    s, t = z.softmax(-1), bound.logits.softmax(-1)
    expected = sum(kl(t[v].tolist(), s[v].tolist(), variant) for v in range(N)) / N
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (grad,) = torch.autograd.grad(loss, z)
    closed = (s - t) / N if variant == "paper" else (s * t.exp().sum(-1, keepdim=True) - t.exp()) / N
    torch.testing.assert_close(grad, closed.detach(), rtol=1e-10, atol=1e-14)


def test_the_official_optimum_is_a_flattened_teacher():
    bound = lesson(logits=100 * torch.eye(7, dtype=torch.float64))
    z = torch.zeros(N, 7, dtype=torch.float64, requires_grad=True)
    loss = SoftLabels(variant="official").bind(bound)
    with torch.no_grad():
        flat = torch.eye(7, dtype=torch.float64)  # the logits whose softmax is softmax(t)
    (grad,) = torch.autograd.grad(loss(flat.requires_grad_()), flat)
    assert grad.abs().max() < 1e-12
    assert flat.softmax(-1)[0, 0].item() == pytest.approx(
        0.312, abs=5e-4
    )  # Feng et al., LightHGNN, ICLR 2024: the released loss
    assert torch.autograd.grad(loss(z), z)[0].abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_high_order_matches_the_loop_over_hyperedges(variant):
    z, bound = numbers(N, C, seed=2).requires_grad_(), lesson()
    loss = HighOrder(noise=0, variant=variant).bind(bound)(z)
    s, t = z.softmax(-1).detach(), bound.logits.softmax(-1)
    members = [m for m in HYPEREDGES if m]
    expected = sum(kl(t[m].mean(0).tolist(), s[m].mean(0).tolist(), variant) for m in members) / len(members)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(HighOrder(noise=0, variant=variant).bind(bound), z)


def test_high_order_of_singletons_is_the_soft_label_loss():
    z, bound = numbers(N, C, seed=2), lesson([[v] for v in range(N)])
    assert HighOrder(noise=0).bind(bound)(z).item() == pytest.approx(SoftLabels().bind(bound)(z).item(), rel=1e-12)


def test_high_order_of_one_hyperedge_of_all_matches_marginals_only():
    bound = lesson([list(range(N))])
    shuffled = bound.logits[torch.randperm(N, generator=torch.Generator().manual_seed(0))]
    assert HighOrder(noise=0).bind(bound)(shuffled).item() == pytest.approx(0, abs=1e-12)
    assert SoftLabels().bind(bound)(shuffled).item() > 0.1


def test_high_order_of_confident_students_and_teachers_is_finite():
    z = (1000.0 * torch.eye(C, dtype=torch.float64)[[0] * N]).requires_grad_()
    bound = lesson(logits=1000.0 * torch.eye(C, dtype=torch.float64)[[1] * N])
    loss = HighOrder(noise=0).bind(bound)(z)
    (grad,) = torch.autograd.grad(loss, z)
    assert loss.isfinite()
    assert grad.isfinite().all()


def test_a_step_without_sampled_hyperedges_adds_nothing():
    z, bound = numbers(N, C).requires_grad_(), lesson([[], []])
    loss = HighOrder(noise=0).bind(bound)(z)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, z)[0].any()


def test_reliability_matches_the_entropies():
    with seeded(0):
        linear = nn.Linear(5, C).double()
    bound = lesson(logits=None, teacher=lambda x: linear(x).detach())
    bound = Lesson(bound.part, bound.student, bound.teacher, linear(bound.part.x).detach())
    with seeded(5):
        rho = hyperedge_reliability(bound, noise=1.0)
    with seeded(5):
        noisy = bound.part.x * (1 + torch.randn_like(bound.part.x))

    def mean_entropy(x, members):
        t = linear(x).softmax(-1).detach()
        return sum(-sum(p * math.log(p) for p in t[v].tolist()) for v in members) / len(members) if members else 0.0

    delta = [abs(mean_entropy(noisy, m) - mean_entropy(bound.part.x, m)) for m in HYPEREDGES]
    expected = [1 - d / max(delta) for d in delta]
    torch.testing.assert_close(rho, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert (rho == 0).any()  # equal hyperedges have the same reliability
    assert (rho >= 0).all()
    assert (rho <= 1).all()


def test_a_teacher_that_ignores_noise_is_fully_reliable():
    logits = numbers(N, C, seed=1)
    bound = lesson(logits=logits, teacher=lambda x: logits)
    assert hyperedge_reliability(bound).tolist() == [1.0] * len(HYPEREDGES)


def test_sampled_hyperedges_have_the_loss_of_all_on_average():
    linear = nn.Linear(5, C).double()
    bound = lesson(teacher=lambda x: linear(x).detach())
    with seeded(1):
        loss = HighOrder().bind(bound)
        values = {loss(numbers(N, C, seed=2)).item() for _ in range(20)}
    assert len(values) > 3


def test_noise_needs_a_callable_teacher():
    for term in (HighOrder(), ReliableLabels()):
        with pytest.raises(ArgumentError, match="noisy features"):
            term.bind(lesson())


def test_high_order_of_a_graph_says_what_to_do():
    bound = lesson()
    graph = Graph.from_edge_index([[0], [1]], num_nodes=N, directed=False)
    part = TrainingView(graph, bound.part.x, bound.part.y, bound.part.train, bound.part.val)
    with pytest.raises(ArgumentError, match="neighborhood_hypergraph"):
        HighOrder().bind(Lesson(part, bound.student, None, bound.teacher_logits))


def test_topology_score_matches_the_loop():
    z, hg = numbers(N, 4, seed=4), Hypergraph.from_lists(HYPEREDGES, num_nodes=N)
    terms = [(z[m] - z[m].mean(0)).norm(dim=1).mean().item() for m in HYPEREDGES if m]
    assert topology_score(z, hg) == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    with pytest.raises(ArgumentError, match="at least one nonempty hyperedge"):
        topology_score(z, Hypergraph.from_lists([[]], num_nodes=N))


def test_noisy_features_move_against_the_student():
    student = nn.Linear(5, C).double()
    bound = lesson(student=student)
    x, t = bound.part.x.clone().requires_grad_(), bound.logits.softmax(-1)
    plain = F.kl_div(student(x).log_softmax(-1), t, reduction="batchmean")
    (slope,) = torch.autograd.grad(plain, x)
    expected = F.kl_div(student(x + 0.1 * slope.sign()).log_softmax(-1), t, reduction="batchmean")
    loss = NoisyFeatures(0.1).bind(bound)(student(x))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert loss > plain
    torch.testing.assert_close(
        torch.autograd.grad(loss, student.weight)[0], torch.autograd.grad(expected, student.weight)[0]
    )


# ---------------------------------------------------------------------- sums of terms


def test_terms_add_up_like_their_equation():
    z, bound = numbers(N, C, seed=2), lesson()
    parts = [term.bind(bound)(z) for term in (Labels(), SoftLabels(), HighOrder(noise=0))]
    objective = 0.3 * Labels() + 0.7 * (SoftLabels() + 2 * HighOrder(noise=0))
    expected = 0.3 * parts[0] + 0.7 * (parts[1] + 2 * parts[2])
    assert objective.bind(bound)(z).item() == pytest.approx(expected.item(), rel=1e-12)
    assert len(objective.terms) == 3
    assert len((0 * Labels() + SoftLabels()).terms) == 1


# ---------------------------------------------------------------------- whole distillations


class Custom(nn.Module):
    """A custom student."""

    def __init__(self):
        super().__init__()
        with seeded(1):
            self.first, self.second = nn.Linear(24, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.second(self.first(x).relu())


def students():
    with seeded(0):
        return {"MLP": MLP(24, 16, 3), "custom module": Custom()}


@pytest.mark.parametrize("make", [lighthgnn_plus, krd, nosmog, glnn], ids=lambda f: f.__name__)
def test_named_objectives_train_and_repeat(data, make):
    with seeded(0):
        teacher = HGNN(24, 8, 3)
    runs = [distill(teacher, students()["MLP"], data, objective=make(0.1), epochs=4).history for _ in range(2)]
    assert runs[0] == runs[1]
    assert distill(teacher, students()["MLP"], data, objective=make(0.1), epochs=4, seed=1).history != runs[0]


@pytest.mark.parametrize("width", [16, 5], ids=["same width", "projected"])
def test_embeddings_are_matched_and_hooks_are_removed(data, width):
    target, learner = numbers(240, width).float(), students()["custom module"]
    before = F.mse_loss(activations(learner, "first", data.x)[:, :width], target).item()
    names = list(learner.state_dict())
    result = distill(None, learner, data, objective=MatchEmbedding(target, "first"), epochs=40)
    assert result.history[-1]["loss"] < min(before, result.history[0]["loss"])
    assert list(learner.state_dict()) == names
    assert not learner.first._forward_hooks


def test_similarities_are_matched(data):
    target, learner = numbers(240, 4).float(), students()["custom module"]
    objective = MatchSimilarity(target, "first", sample=64)
    result = distill(None, learner, data, objective=objective, epochs=40)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    part = training_view(data)
    student, teacher = (F.normalize(z, dim=1) for z in (activations(learner, "first", part.x), target))
    loss = MatchSimilarity(target, "first", sample=240).bind(Lesson(part, learner, None, None))
    learner(part.x)
    expected = ((student @ student.T - teacher @ teacher.T) ** 2).mean()
    assert loss(target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_unknown_layers_are_named(data):
    with pytest.raises(ArgumentError, match="second"):
        distill(None, Custom(), data, objective=MatchEmbedding(torch.zeros(240, 3), "hidden"))
    with pytest.raises(ArgumentError, match="240"):
        distill(None, Custom(), data, objective=MatchEmbedding(torch.zeros(7, 3), "first"))


# ---------------------------------------------------------------------- positions


HYPER = Hypergraph.from_lists(
    [[0, 1, 2], [2, 3], [3, 4, 5], [0, 5]], num_nodes=N, hyperedge_weight=[1.0, 2.0, 0.5, 1.0]
)
PATH = Graph.from_edge_index([[0, 1, 2, 4], [1, 2, 3, 5]], num_nodes=N, directed=False)


def walk(structure):
    """One step of a random walk as a matrix."""
    if isinstance(structure, Graph):
        counts = structure.adj.dense().double()
    else:
        h, w = structure.incidence().double(), structure.hyperedge_weight.double()
        counts = h @ torch.diag(w / h.sum(0)) @ h.T
    return counts / counts.sum(1, keepdim=True).clamp(min=1e-300)


@pytest.mark.parametrize("structure", [HYPER, PATH], ids=["hypergraph", "graph"])
def test_positions_are_walked_random_vectors(structure):
    x = torch.randn(N, 5, generator=torch.Generator().manual_seed(3)).double()
    total = torch.zeros_like(x)
    for _ in range(3):
        x = walk(structure) @ x
        total += F.normalize(x)
    found = position_features(structure, 5, num_steps=3, seed=3)
    torch.testing.assert_close(found.double(), F.normalize(total), atol=1e-5, rtol=0)
    assert not found[6].any()
    assert torch.equal(found, position_features(structure, 5, num_steps=3, seed=3))
    assert not torch.equal(found, position_features(structure, 5, num_steps=3, seed=4))


def test_positions_tell_communities_apart():
    cliques = [[i, j] for c in (0, 5) for i in range(c, c + 5) for j in range(i + 1, c + 5)]
    p = position_features(Graph.from_edge_index(torch.tensor([*cliques, [4, 5]]).T, num_nodes=10, directed=False))
    within, across = p[0] @ p[3], p[0] @ p[8]
    assert within > across + 0.1


def test_later_nodes_get_the_mean_of_known_ones_around_them():
    known, p = torch.tensor([0, 2, 3]), numbers(3, 2, seed=1).float()
    found = extend_positions(PATH, p, known)
    torch.testing.assert_close(found[known], p)
    torch.testing.assert_close(found[1], (p[0] + p[1]) / 2)
    assert not found[4:].any()  # 4 and 5 know each other alone
    found = extend_positions(HYPER, p, known)
    torch.testing.assert_close(found[1], (p[0] + p[1]) / 2)
    torch.testing.assert_close(found[5], (p[2] + p[0]) / 2)
    torch.testing.assert_close(found[4], p[2])


@pytest.mark.parametrize("student", ["published", "words"])
def test_a_student_with_positions_takes_rows_without(student):
    options = {"norm": False, "unit_rows": True} if student == "words" else {}
    torch.manual_seed(0)
    wide = MLP(7, 6, 3, **options)
    wide(numbers(9, 7).float())  # statistics of the norm
    both = WithPositions(wide.eval(), num_features=4).eval()
    x = numbers(5, 4, seed=2).float()
    padded = torch.cat([x, torch.zeros(5, 3)], 1)
    torch.testing.assert_close(both(x), wide(padded))
    torch.testing.assert_close(both(padded + 1), wide(padded + 1))
    torch.testing.assert_close(both.folded()(x), both(x), atol=1e-5, rtol=1e-5)


def test_only_the_student_gets_positions(data):
    positions, widths = numbers(240, 3, seed=4).float(), []

    def teacher(x, structure):
        widths.append(x.shape[1])
        return torch.zeros(len(x), 3)

    student = WithPositions(nn.Linear(data.num_features + 3, 3), data.num_features)
    distill(teacher, student, data, objective=glnn(), positions=positions, epochs=1)
    assert set(widths) == {data.num_features}
    with pytest.raises(ArgumentError, match=r"positions: expected shape \[240, P\], got shape \[2, 3\]"):
        distill(teacher, student, data, positions=positions[:2], epochs=1)


def test_nosmog_matches_what_enters_the_last_layers(data):
    teacher = HGNN(data.num_features, 5, 3)
    part, student = training_view(data), students()["custom module"]
    expected = penultimate(teacher, part.x, part.structure)
    assert expected.shape == (240, 5)
    result = distill(teacher, student, data, objective=nosmog(), epochs=3)
    assert len(result.history) == 3
    assert not any(m._forward_pre_hooks for m in student.modules())
    with pytest.raises(ArgumentError, match="teacher: expected a network whose embedding can be read"):
        distill(torch.zeros(240, 3), student, data, objective=nosmog(), epochs=1)
    with pytest.raises(ArgumentError, match="module: expected a network of several layers"):
        penultimate(nn.Identity(), part.x)


def test_passes_inside_a_term_are_not_seen_by_others(data):
    """NoisyFeatures calls the student again; the similarity is of the pass that made the logits, in either order."""
    target, learner = numbers(240, 4).float(), students()["custom module"].eval()
    part, values = training_view(data), []
    for terms in ((NoisyFeatures(5.0), MatchSimilarity(target, sample=240)), (MatchSimilarity(target, sample=240),)):
        lesson = Lesson(part, learner, None, torch.zeros(240, 3))
        bound = [term.bind(lesson) for term in terms]
        logits = learner(part.x)
        values.append([loss(logits) for loss in bound][-1].item())
        for hook in lesson.hooks:
            hook.remove()
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize("objective", [krd, lighthgnn_plus], ids=["krd", "lighthgnn+"])
def test_teachers_are_asked_without_positions(data, objective):
    teacher, student = (
        HGNN(data.num_features, 5, 3),
        WithPositions(nn.Linear(data.num_features + 2, 3), data.num_features),
    )
    result = distill(teacher, student, data, objective=objective(), positions=numbers(240, 2).float(), epochs=2)
    assert len(result.history) == 2


def test_a_teacher_without_an_embedding_of_nodes_is_named(data):
    with pytest.raises(ArgumentError, match=r"teacher: expected a network with an embedding \[240, D\], got LEGCN"):
        distill(LEGCN(data.num_features, 4, 3), students()["custom module"], data, objective=nosmog(), epochs=1)
