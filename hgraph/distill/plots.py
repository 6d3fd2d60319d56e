"""The two plots of a distillation report, drawn without matplotlib's global state."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from hgraph.distill.compare import Comparison
from hgraph.train import FitResult

__all__ = ["accuracy_latency", "learning_curve"]

# Okabe and Ito's colours, which colour-blind readers tell apart
_COLOURS = {"mlp": "#7F7F7F", "teacher": "#0072B2", "student": "#D55E00"}
_INK, _FAINT = "#333333", "#E3E3E3"


def learning_curve(fits: Mapping[str, FitResult], names: Mapping[str, str], title: str) -> bytes:
    """A PNG of validation accuracy over epochs, the kept epoch of each model as a dot.

    Where a split has no validation part, the training loss is drawn instead.

    Args:
        fits: the trainings of ``mlp``, ``teacher`` and ``student``, or some of them.
        names: what to call them.
        title: the line above the plot.
    """
    scored = all("validation" in r for fit in fits.values() for r in fit.history)
    figure, axes = _canvas(title, right=0.79)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy (%)" if scored else "training loss")
    ends: dict[str, float] = {}
    seen: list[float] = []
    last = 1
    for key, fit in fits.items():
        history = fit.history
        if not history:
            continue
        epochs = [r["epoch"] for r in history]
        values = [100 * r["validation"] if scored else r["loss"] for r in history]
        axes.plot(epochs, values, color=_COLOURS[key], linewidth=1.6)
        best = fit.best_epoch - 1
        axes.plot(epochs[best], values[best], "o", color=_COLOURS[key], markersize=6, markeredgecolor="white")
        seen += values
        ends[key], last = values[-1], max(last, int(epochs[-1]))
    axes.set_xlim(0, last)
    if scored:  # the first steps would squeeze the rest into a strip
        seen.sort()
        low, high = seen[len(seen) // 20], seen[-1]
        margin = max(1.0, 0.08 * (high - low))
        axes.set_ylim(max(0.0, low - margin), high + margin)
    low, high = axes.get_ylim()
    for key, at in _spread(ends, 0.12 * (high - low)).items():
        note = names[key]
        if scored:
            note += f"\nepoch {fits[key].best_epoch}: {100 * fits[key].best['validation']:.1f} %"
        axes.annotate(
            note, (1.0, at), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            color=_COLOURS[key], va="center", fontsize=9, annotation_clip=False, linespacing=1.3,
        )  # fmt: skip
    return _png(figure)


def accuracy_latency(comparison: Comparison, names: dict[str, str], title: str) -> bytes:
    """A PNG of test accuracy over the latency of one vertex (logarithmic), one labelled point a model.

    Args:
        comparison: the three models.
        names: what to call them.
        title: the line above the plot.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = _canvas(title, right=0.95)
    models = dict(comparison.items())
    xs = {key: 1e3 * m.latency_one_s for key, m in models.items()}
    ys = {key: 100 * m.test_accuracy for key, m in models.items()}
    axes.set_xscale("log")
    axes.set_xlim(min(xs.values()) / 3, max(xs.values()) * 3)
    margin = max(2.0, 0.25 * (max(ys.values()) - min(ys.values())))
    low, high = max(0.0, min(ys.values()) - margin), min(101.0, max(ys.values()) + margin)
    axes.set_ylim(low, high)
    axes.set_xlabel("latency of one vertex (ms, logarithmic)")
    axes.set_ylabel("test accuracy (%)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    middle = (min(xs.values()) * max(xs.values())) ** 0.5
    for side in (True, False):  # labels on one side must not cover each other
        keys = [key for key in models if (xs[key] <= middle) == side]
        for key, at in _spread({key: ys[key] for key in keys}, 0.13 * (high - low)).items():
            axes.plot(xs[key], ys[key], "o", color=_COLOURS[key], markersize=9, markeredgecolor="white", zorder=4)
            note = f"{names[key]}\n{ys[key]:.1f} %, {xs[key]:.3g} ms"
            axes.annotate(
                note, (xs[key], at), (9 if side else -9, 0), textcoords="offset points", color=_COLOURS[key],
                ha="left" if side else "right", va="center", fontsize=9, linespacing=1.3, zorder=3,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
    return _png(figure)


def _canvas(title: str, right: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.10, 0.14, right - 0.10, 0.75))
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#AAAAAA")
    axes.tick_params(which="both", labelcolor=_INK, color="#AAAAAA", labelsize=9, length=3)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _spread(values: dict[str, float], gap: float) -> dict[str, float]:
    """The same heights moved apart, as little as needed, until neighbours are a gap from each other."""
    keys = sorted(values, key=values.__getitem__)
    heights = [values[key] for key in keys]
    for _ in range(50):
        for i in range(len(heights) - 1):
            short = gap - (heights[i + 1] - heights[i])
            if short > 1e-9 * gap:
                heights[i], heights[i + 1] = heights[i] - short / 2, heights[i + 1] + short / 2
    return dict(zip(keys, heights, strict=True))


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
