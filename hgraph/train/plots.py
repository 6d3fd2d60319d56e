"""Plots of a run, drawn without matplotlib's global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hgraph.data.labels import target_kind
from hgraph.draw.marks import literal
from hgraph.train.metrics import scored_rows

if TYPE_CHECKING:
    from hgraph.data import Data
    from hgraph.train.loop import FitResult
    from hgraph.train.tasks import NodeTask

__all__ = [
    "CAPTIONS",
    "COLORS",
    "canvas",
    "confusion_matrix",
    "learning_curve",
    "png",
    "predicted_over_true",
    "reliability_diagram",
    "spread",
    "structure_picture",
    "task_plots",
]

# colors of Okabe and Ito, which color-blind readers can distinguish
COLORS = {"mlp": "#7F7F7F", "teacher": "#0072B2", "student": "#D55E00"}
_INK, _FAINT = "#333333", "#E3E3E3"
_MAX_DRAWN = 100  # nodes
_MAX_NAMED = 25  # nodes whose names fit beside them
CAPTIONS = {
    "confusion_matrix.png": "Confusion matrix: true and predicted classes",
    "reliability.png": "Reliability diagram: accuracy vs. confidence",
    "predicted_over_true.png": "Predicted vs. true values",
}


def task_plots(
    task: NodeTask, outputs: Tensor, y: Tensor, names: Sequence[str], title: str, color: str = COLORS["teacher"]
) -> dict[str, bytes]:
    """The plots of predictions that suit the task, by the names of their files, see ``CAPTIONS``.

    Args:
        task: the task of the labels.
        outputs: [N, C].
        y: [N] or [N, C] labels.
        names: the names of the classes.
        title: the title.
        color: color of bars and dots.
    """
    if task.kind == "regression":
        return {"predicted_over_true.png": predicted_over_true(task.activate(outputs), y, title, color=color)}
    if task.kind == "classification":
        return {
            "confusion_matrix.png": confusion_matrix(outputs, y, names, title),
            "reliability.png": reliability_diagram(outputs, y, title, color=color),
        }
    return {}


def learning_curve(
    fits: Mapping[str, FitResult],
    names: Mapping[str, str],
    title: str,
    score: str = "accuracy",
    *,
    task: NodeTask | None = None,
) -> bytes:
    """A PNG of the validation score over epochs, with a dot at the best epoch of each model.

    Without validation scores, the training loss is drawn instead.

    Args:
        fits: the results of ``mlp``, ``teacher`` and ``student``, or some of them.
        names: their names in the plot.
        title: the title.
        score: name of the validation score, a number in 0 .. 1.
        task: the task of the labels, whose score is drawn; a loss or an error in its unit.
    """
    from matplotlib.ticker import MaxNLocator

    score = score if task is None else task.select
    lower = task is not None and task.shown(1.0) < 0  # smaller is better, and it is no fraction
    factor, unit = (-1, "") if lower else (100, "%")
    scored = all(any("validation" in r for r in fit.history) for fit in fits.values() if fit.history)
    figure, axes = canvas(title, right=0.75)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"validation {score}" + " (%)" * (not lower) if scored else "training loss")
    ends: dict[str, float] = {}
    seen: list[float] = []
    last = 1
    for key, fit in fits.items():
        if not fit.history:
            continue
        records = [r for r in fit.history if not scored or "validation" in r]
        epochs = [r["epoch"] for r in records]
        values = [factor * r["validation"] if scored else r["loss"] for r in records]
        axes.plot(epochs, values, color=COLORS[key], linewidth=1.6)
        best = epochs.index(fit.best_epoch)
        axes.plot(epochs[best], values[best], "o", color=COLORS[key], markersize=6, markeredgecolor="white")
        seen += values
        ends[key], last = values[-1], max(last, int(epochs[-1]))
    axes.set_xlim(0, last)
    if scored and not lower:  # without the first steps, which have much lower scores
        seen.sort()
        low, high = seen[len(seen) // 20], seen[-1]
        margin = max(1.0, 0.08 * (high - low))
        axes.set_ylim(max(0.0, low - margin), high + margin)
    low, high = axes.get_ylim()
    for key, at in spread(ends, 0.12 * (high - low)).items():
        note = names[key]
        if scored:
            best_value = factor * fits[key].best["validation"]
            note += f"\nbest epoch {fits[key].best_epoch}: " + (
                f"{best_value:.1f} {unit}" if unit else _short(best_value)
            )
        axes.annotate(
            note, (1.0, at), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            color=COLORS[key], va="center", fontsize=9, annotation_clip=False, linespacing=1.3,
        )  # fmt: skip
    return png(figure)


def reliability_diagram(
    logits: Tensor, y: Tensor, title: str, *, bins: int = 10, color: str = COLORS["teacher"]
) -> bytes:
    """A PNG of accuracy vs. confidence in bins of equal width, with the number of predictions per bin.

    Args:
        logits: [N, C].
        y: [N] class numbers; unlabeled rows are left out.
        title: the title.
        bins: number of bins of confidence.
        color: color of the bars.
    """
    logits, y = scored_rows(logits, y)
    confidence, predicted = logits.detach().double().softmax(-1).max(-1)
    member = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    count = torch.bincount(member, minlength=bins).tolist()
    right = torch.bincount(member[predicted == y], minlength=bins).tolist()
    figure, axes = canvas(title, right=0.96)
    bars = [
        (100 * (b + 0.5) / bins, 100 * r / n, int(n)) for b, (r, n) in enumerate(zip(right, count, strict=True)) if n
    ]
    axes.plot([0, 100], [0, 100], color="#AAAAAA", linewidth=1, linestyle="--")
    axes.bar([b[0] for b in bars], [b[1] for b in bars], width=92 / bins, color=color)
    for at, height, n in bars:
        axes.annotate(f"{n:,}", (at, height), (0, 3), textcoords="offset points", ha="center", fontsize=8, color=_INK)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("confidence (%); numbers of predictions above bars")
    axes.set_ylabel("accuracy (%)")
    return png(figure)


def confusion_matrix(logits: Tensor, y: Tensor, names: Sequence[str], title: str) -> bytes:
    """A PNG of the confusion matrix: true classes in rows, predicted classes in columns.

    Args:
        logits: [N, C].
        y: [N] class numbers; unlabeled rows are left out.
        names: C names.
        title: the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    logits, y = scored_rows(logits, y)
    classes = logits.shape[1]
    table = torch.bincount(y * classes + logits.argmax(-1), minlength=classes**2).view(classes, classes)
    fraction = table / table.sum(1, keepdim=True).clamp(min=1)
    side = min(12.0, 2.6 + 0.5 * classes)
    figure = Figure(figsize=(max(side + 1.2, 6.4), side), dpi=150, layout="constrained")  # wide enough for the title
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(fraction.numpy(), cmap="Blues", vmin=0, vmax=1)
    if classes <= 20:  # few enough classes to read numbers
        for row in range(classes):
            for column in range(classes):
                ink = "white" if fraction[row, column] > 0.6 else _INK
                axes.text(column, row, f"{table[row, column]:,}", ha="center", va="center", fontsize=8, color=ink)
    short = [literal(name if len(name) <= 16 else name[:15] + "…") for name in names]
    if classes <= 40:
        axes.set_xticks(range(classes), short, rotation=90 if max(map(len, short)) > 2 else 0, fontsize=8)
        axes.set_yticks(range(classes), short, fontsize=8)
    axes.set_xlabel("predicted", color=_INK)
    axes.set_ylabel("true", color=_INK)
    figure.suptitle(literal(title), x=0.02, ha="left", fontsize=10, color=_INK)
    axes.tick_params(length=0, labelcolor=_INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return png(figure)


def predicted_over_true(predicted: Tensor, y: Tensor, title: str, *, color: str = COLORS["teacher"]) -> bytes:
    """A PNG of predicted over true numbers, with the line of exact predictions.

    Args:
        predicted: [N, T] numbers in the unit of the labels.
        y: [N] or [N, T] numbers; missing ones (NaN) are left out.
        title: the title.
        color: color of the dots.
    """
    known = ~y.isnan()
    true, found = y[known].tolist(), predicted.reshape(y.shape)[known].tolist()
    figure, axes = canvas(title, right=0.96)
    ends = [min(true), max(true)]
    axes.plot(ends, ends, color="#AAAAAA", linewidth=1, linestyle="--")
    axes.plot(true, found, "o", color=color, markersize=4, alpha=0.6, markeredgecolor="none")
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    return png(figure)


def structure_picture(data: Data) -> bytes:
    """A PNG of a small structure, or of the degrees and sizes of a larger one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from hgraph.structure import Graph, Hypergraph, KnowledgeGraph, statistics

    structure = data.structure.to("cpu")
    if isinstance(structure, KnowledgeGraph):  # data of a network that reads relations
        structure = Graph(structure.adj)
    y: Tensor | None = data.y.cpu()
    if target_kind(data.y) != "classification":
        y = None  # colors and homophily are for one class per node
    if data.num_nodes > _MAX_DRAWN:
        figure = statistics(structure, y).draw()
    else:
        figure = Figure(figsize=(7.5, 5), dpi=150, layout="constrained")
        options: dict[str, Any] = {"labels": None if y is None else _classes(y, data.meta.get("class_names"))}
        if data.num_nodes <= _MAX_NAMED and data.meta.get("node_names"):
            options["names"] = data.meta["node_names"]
            if isinstance(structure, Hypergraph) and structure.num_hyperedges <= _MAX_NAMED:
                options["hyperedge_names"] = data.meta.get("hyperedge_names")
        structure.draw(figure.subplots(), **options)
    FigureCanvasAgg(figure)
    return png(figure, bbox_inches="tight")  # the legend beside the axes belongs to the picture


def _classes(y: Tensor, names: Sequence[Any] | None) -> Any:
    """The label of each node in the legend: the name of its class if classes have names, -1 if it is unlabeled."""
    if names is None:
        return y
    return np.array([str(names[c]) if c >= 0 else -1 for c in y.tolist()], dtype=object)


def canvas(title: str, right: float) -> tuple[Any, Any]:
    """A figure and its axes in the common style; ``right`` is the right end of the axes, 0 .. 1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.13, 0.14, right - 0.13, 0.75))
    axes.set_title(literal(title), loc="left", fontsize=11, color=_INK)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#AAAAAA")
    axes.tick_params(which="both", labelcolor=_INK, color="#AAAAAA", labelsize=9, length=3)
    axes.tick_params(axis="y", length=0)
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _short(value: float) -> str:
    """A number for an axis or a note: 0.25, 12.5, 250,000."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def spread(values: dict[str, float], gap: float) -> dict[str, float]:
    """Move heights apart, as little as needed, until neighbors are at least ``gap`` apart."""
    keys = sorted(values, key=values.__getitem__)
    heights = [values[key] for key in keys]
    for _ in range(50):
        for i in range(len(heights) - 1):
            short = gap - (heights[i + 1] - heights[i])
            if short > 1e-9 * gap:
                heights[i], heights[i + 1] = heights[i] - short / 2, heights[i + 1] + short / 2
    return dict(zip(keys, heights, strict=True))


def png(figure: Any, **options: Any) -> bytes:
    """The figure as bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, **options)
    return buffer.getvalue()
