"""The plots of a run: their sizes and the numbers in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hgraph.data import Data
from hgraph.structure import Graph, Hypergraph
from hgraph.train import plots


def drawn(monkeypatch):
    """Collect the figures instead of writing them."""
    figures = []
    png = plots.png
    monkeypatch.setattr(plots, "png", lambda figure, **options: figures.append(figure) or png(figure, **options))
    return figures


@pytest.mark.parametrize("classes", [1, 2, 7, 30, 60])
def test_confusion_matrix_counts(monkeypatch, classes):
    figures = drawn(monkeypatch)
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(200, classes, generator=generator), torch.randint(0, classes, (200,), generator=generator)
    picture = plots.confusion_matrix(logits, y, [f"class {c}" for c in range(classes)], "title")
    assert picture.startswith(b"\x89PNG")
    axes = figures[0].axes[0]
    if classes <= 20:
        found = torch.tensor([int(t.get_text().replace(",", "")) for t in axes.texts]).view(classes, classes)
        expected = torch.zeros(classes, classes, dtype=torch.long)
        for truth, answer in zip(y.tolist(), logits.argmax(1).tolist(), strict=True):
            expected[truth, answer] += 1
        assert torch.equal(found, expected)


def test_reliability_bars_are_accuracies(monkeypatch):
    figures = drawn(monkeypatch)
    logits = torch.tensor([[0.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])  # confidences .5, 1, 1, 1
    plots.reliability_diagram(logits, torch.tensor([1, 0, 1, 1]), "title")
    bars = {round(b.get_x() + b.get_width() / 2): round(b.get_height(), 1) for b in figures[0].axes[0].patches}
    assert bars == {45: 0.0, 95: 66.7}
    assert [t.get_text() for t in figures[0].axes[0].texts] == ["1", "3"]


def test_the_structure_s_legend_shows_the_names_of_classes(monkeypatch):
    """Without class names, their numbers; unlabeled nodes are in neither legend."""
    figures = drawn(monkeypatch)
    hg, y = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4), torch.tensor([1, 0, 1, -1])
    for meta in ({"class_names": ("poetry", "crime")}, {}):
        assert plots.structure_picture(Data(hg, torch.eye(4), y, meta=meta)).startswith(b"\x89PNG")
    texts = [{t.get_text() for t in figure.axes[0].get_legend().get_texts()} for figure in figures]
    assert texts == [{"missing", "poetry", "crime"}, {"missing", "class 0", "class 1"}]


def test_a_learning_curve_shows_the_validated_epochs(monkeypatch):
    from hgraph.train import FitResult

    figures = drawn(monkeypatch)
    history = [{"epoch": e, "loss": 9.0 - e} | ({"validation": e / 10} if e % 2 == 0 else {}) for e in range(1, 6)]
    plots.learning_curve({"teacher": FitResult(history, 4, 1.0)}, {"teacher": "kgat"}, "title", "recall@20")
    axes = figures[0].axes[0]
    assert axes.get_ylabel() == "validation recall@20 (%)"
    line, dot = axes.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([2, 4], [20.0, 40.0])
    assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([4], [40.0])
    assert "best epoch 4" in axes.texts[0].get_text()
    plots.learning_curve({"teacher": FitResult([{"epoch": 1, "loss": 2.0}], 1, 1.0)}, {"teacher": "kgat"}, "title")
    assert figures[1].axes[0].get_ylabel() == "training loss"


@pytest.mark.parametrize("name", [r"$\x$", "US$ to CA$", "a$", r"\$b$"])
def test_names_with_dollar_signs_are_no_formulas(name):
    """They are shown as they are; a class "$...$" once ended a finished training in an error."""
    logits, y = torch.eye(2), torch.tensor([0, 1])
    plain = plots.confusion_matrix(logits, y, ["a", "b"], "t")
    for picture in (
        plots.confusion_matrix(logits, y, [name, "b"], "t"),
        plots.confusion_matrix(logits, y, ["a", "b"], name),
    ):
        assert picture != plain
    graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    for names in ([name, name], [name[:3], name[:3]]):
        ax = graph.draw(labels=np.array([name, "b"]), names=names)
        ax.figure.canvas.draw()
        texts = [text for text in ax.texts if text.get_text()]
        assert [text._preprocess_math(text.get_text()) for text in texts] == [(n, False) for n in names]
