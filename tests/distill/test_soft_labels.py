"""The soft-label loss against a loop and its closed-form gradient, and properties of distillation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hgraph.data import Data
from hgraph.distill import Labels, SoftLabels, distill, glnn, lighthgnn, soft_label_loss
from hgraph.errors import ArgumentError
from hgraph.train import accuracy, fit, seeded, training_view


def loop(z, t, temperature=1.0):
    """T^2 / N sum_v sum_c t ln(t / s), written like the equation."""
    total = 0.0
    for zv, tv in zip(z.tolist(), t.tolist(), strict=True):
        norm = sum(math.exp(a / temperature) for a in zv)
        for a, p in zip(zv, tv, strict=True):
            total += p * math.log(p / (math.exp(a / temperature) / norm)) if p else 0.0
    return temperature**2 * total / len(z)


def sample(n=9, c=5):
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(n, c, dtype=torch.float64, generator=generator)
    t = (2 * torch.randn(n, c, dtype=torch.float64, generator=generator)).softmax(-1)
    t[0] = F.one_hot(torch.tensor(1), c)  # probabilities that are exactly zero
    t[1] = torch.tensor([0.5, 0.5, 0, 0, 0])
    return z.requires_grad_(), t


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_value_and_gradient_in_closed_form(temperature):
    z, t = sample()
    value = soft_label_loss(z, t, temperature=temperature)
    assert value.item() == pytest.approx(loop(z.detach(), t, temperature), abs=1e-12)
    (gradient,) = torch.autograd.grad(value, z)
    s = (z / temperature).softmax(-1)
    torch.testing.assert_close(gradient, temperature * (s - t) / len(z), atol=1e-14, rtol=0)


def test_gradcheck():
    z, t = sample()
    assert torch.autograd.gradcheck(lambda a: soft_label_loss(a, t, temperature=2.0), z)


def test_it_is_not_the_form_with_log_target():
    z, t = sample()
    released = F.kl_div(z.log_softmax(-1), t, reduction="batchmean", log_target=True)
    assert abs(released.item() - soft_label_loss(z, t).item()) > 0.1
    torch.testing.assert_close(soft_label_loss(z, t), F.kl_div(z.log_softmax(-1), t, reduction="batchmean"))


def test_zero_exactly_at_the_teacher_and_positive_elsewhere():
    _, t = sample()
    z = t[2:].log()  # rows without zeros
    assert soft_label_loss(z, t[2:]).item() == pytest.approx(0, abs=1e-15)
    assert soft_label_loss(z + torch.randn_like(z), t[2:]).item() > 0


def test_zero_probabilities_give_finite_gradients_under_extreme_logits():
    z = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = soft_label_loss(z, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(z.grad).all()


def test_no_gradient_reaches_the_teacher():
    t = torch.full((2, 2), 0.5, requires_grad=True)
    soft_label_loss(torch.zeros(2, 2, requires_grad=True), t).backward()
    assert t.grad is None


def test_wrong_shapes_and_temperatures_are_refused():
    with pytest.raises(ArgumentError, match="teacher_probabilities"):
        soft_label_loss(torch.zeros(3, 2), torch.zeros(2, 2))
    with pytest.raises(ArgumentError, match="N at least 1"):
        soft_label_loss(torch.zeros(0, 2), torch.zeros(0, 2))
    with pytest.raises(ArgumentError, match="temperature"):
        soft_label_loss(torch.zeros(1, 2), torch.zeros(1, 2), temperature=0.0)


# ---------------------------------------------------------------------- distill


class Student(nn.Sequential):
    """A small MLP that counts its calls and refuses anything but features."""

    def __init__(self, seed=0):
        with seeded(seed):
            super().__init__(nn.Linear(24, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, x):
        assert isinstance(x, torch.Tensor)
        return super().forward(x)


class MeanTeacher(nn.Module):
    """A linear map, then the mean over the hyperedges of a node of the mean over their members."""

    def __init__(self, seed=0):
        super().__init__()
        with seeded(seed):
            self.linear = nn.Linear(24, 3)

    def forward(self, x, structure):
        h = structure.incidence()
        mean = h / h.sum(1, keepdim=True)
        return mean @ ((h / h.sum(0)).T @ self.linear(x))


def trained_teacher(data: Data, split="default") -> MeanTeacher:
    part, teacher = training_view(data, split), MeanTeacher()
    fit(
        teacher, (part.x, part.structure), lambda z: F.cross_entropy(z[part.train], part.y[part.train]),
        validate=lambda z: accuracy(z[part.val], part.y[part.val]), epochs=60, lr=0.05,
    )  # fmt: skip
    return teacher


def states_equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_student_beats_the_same_network_on_labels(data):
    test = data.split().test
    student, baseline = Student(), Student()
    distill(trained_teacher(data), student, data, epochs=100)
    distill(None, baseline, data, objective=Labels(), epochs=100)
    gain = accuracy(student(data.x)[test], data.y[test]) - accuracy(baseline(data.x)[test], data.y[test])
    assert gain > 0.05


def test_lam_one_is_plain_supervised_training(data):
    part = training_view(data)
    plain, by_lam, with_teacher = Student(), Student(), Student()
    expected = fit(
        plain, (part.x,), lambda z: F.cross_entropy(z[part.train], part.y[part.train]),
        validate=lambda z: accuracy(z[part.val], part.y[part.val]), epochs=8,
    )  # fmt: skip
    assert distill(None, by_lam, data, objective=Labels(), epochs=8).history == expected.history
    assert (
        distill(torch.randn(240, 3), with_teacher, data, objective=lighthgnn(lam=1.0), epochs=8).history
        == expected.history
    )
    assert states_equal(plain, by_lam)
    assert states_equal(plain, with_teacher)


@pytest.mark.parametrize(("lam", "temperature"), [(0.0, 1.0), (0.3, 1.0), (0.0, 3.0), (0.6, 2.0)])
def test_the_loss_is_the_weighted_sum(data, lam, temperature):
    part, student = training_view(data), nn.Linear(24, 3)
    z = student(data.x)
    logits = torch.randn(240, 3, generator=torch.Generator().manual_seed(1))
    labels = F.cross_entropy(z[part.train], part.y[part.train]).item()
    soft = loop(z.detach().double(), (logits.double() / temperature).softmax(-1), temperature)
    result = distill(logits, student, data, objective=glnn(lam, temperature=temperature), epochs=1)
    assert result.history[0]["loss"] == pytest.approx(lam * labels + (1 - lam) * soft, rel=1e-5)


def test_the_student_never_touches_the_structure(data):
    """Neither training on logits nor prediction depends on the structure."""
    split, logits = data.split(), torch.randn(240, 3, generator=torch.Generator().manual_seed(1))

    class Untouchable:
        num_nodes = 240

        def __getattr__(self, name):
            raise AssertionError(f"touched .{name}")

    bare = Data(
        Untouchable(), data.x, data.y, {"default": type(split)(Untouchable(), split.train, split.val, split.test)}
    )
    a, b = Student(), Student()
    distill(logits, a, data, epochs=5)
    distill(logits, b, bare, epochs=5)
    assert states_equal(a, b)


def test_the_teacher_runs_once_in_eval_mode_without_gradients(data):
    calls = []

    class Teacher(nn.Module):
        def forward(self, x, structure):
            calls.append((self.training, torch.is_grad_enabled(), structure is data.split().structure))
            return torch.zeros(len(x), 3)

    teacher = Teacher()
    distill(teacher, Student(), data, epochs=3)
    assert calls == [(False, False, True)]
    assert teacher.training


def test_production_sees_observed_nodes_only(data):
    """Features, labels and hyperedges of unseen nodes have no effect."""
    split = data.split("production")
    unseen = split.unseen
    assert len(unseen)
    x, y = data.x.clone(), data.y.clone()
    x[unseen], y[unseen] = 1e6, 0
    changed = Data(data.structure, x, y, data.splits)
    a, b = Student(), Student()
    teacher = trained_teacher(data, "production")
    assert states_equal(teacher, trained_teacher(changed, "production"))
    distill(teacher, a, data, split="production", epochs=5)
    distill(teacher, b, changed, split="production", epochs=5)
    assert states_equal(a, b)
    with pytest.raises(ArgumentError, match="unseen nodes"):
        distill(torch.zeros(240, 3), Student(), data, split="production")


def test_observed_renumbers_train_and_val(data):
    part, split = training_view(data, "production"), data.split("production")
    assert torch.equal(split.observed[part.train], split.train)
    assert torch.equal(part.x[part.val], data.x[split.val])
    assert torch.equal(part.y[part.train], data.y[split.train])


@pytest.mark.parametrize(
    ("teacher", "options", "match"),
    [
        (None, {"objective": lighthgnn(0.5)}, "teacher"),
        (None, {}, "teacher"),
        (torch.zeros(240, 3), {"objective": 0.0 * Labels()}, "objective"),
        (torch.full((240, 3), torch.nan), {}, "finite"),
        (torch.zeros(239, 3), {}, r"\[240, C\]"),
        (torch.zeros(240, 3), {"split": "other"}, "split"),
    ],
)
def test_wrong_arguments_are_named(data, teacher, options, match):
    with pytest.raises(ArgumentError, match=match):
        distill(teacher, Student(), data, **options)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: lighthgnn(1.5), "lam"),
        (lambda: SoftLabels(temperature=-1.0), "temperature"),
        (lambda: SoftLabels(variant="released"), "variant"),
        (lambda: -1.0 * Labels(), "factor"),
    ],
)
def test_wrong_objectives_are_refused_when_made(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
