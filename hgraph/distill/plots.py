"""The plot of a distillation report: accuracy vs. latency."""

from __future__ import annotations

import math

from hgraph.distill.compare import Comparison
from hgraph.train.plots import COLORS, canvas, png, spread

__all__ = ["accuracy_latency"]


def accuracy_latency(comparison: Comparison, names: dict[str, str], title: str) -> bytes:
    """A PNG of the main test metric over the latency for one node (log scale), one labeled point per model.

    Args:
        comparison: the three models.
        names: display names by key.
        title: title of the plot.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = canvas(title, right=0.95)
    models, task = dict(comparison.items()), comparison.student.task
    percent = "%" in task.format(task.main, 0.5)
    xs = {key: 1e3 * m.latency_one_s for key, m in models.items()}
    ys = {key: (100 if percent else 1) * (m.main or 0.0) for key, m in models.items()}
    axes.set_xscale("log")
    axes.set_xlim(min(xs.values()) / 3, max(xs.values()) * 3)
    least = 2.0 if percent else 0.1 * max(ys.values())
    margin = max(least, 0.25 * (max(ys.values()) - min(ys.values()))) or 1.0
    low, high = max(0.0, min(ys.values()) - margin), min(101.0 if percent else math.inf, max(ys.values()) + margin)
    axes.set_ylim(low, high)
    axes.set_xlabel("latency for one node (ms, log scale)")
    axes.set_ylabel(f"test {task.name_of(task.main)}" + " (%)" * percent)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    middle = (min(xs.values()) * max(xs.values())) ** 0.5
    for side in (True, False):  # labels on the same side must not overlap
        keys = [key for key in models if (xs[key] <= middle) == side]
        for key, at in spread({key: ys[key] for key in keys}, 0.13 * (high - low)).items():
            axes.plot(xs[key], ys[key], "o", color=COLORS[key], markersize=9, markeredgecolor="white", zorder=4)
            note = f"{names[key]}\n{task.format(task.main, models[key].main)}, {xs[key]:.3g} ms"
            axes.annotate(
                note, (xs[key], at), (9 if side else -9, 0), textcoords="offset points", color=COLORS[key],
                ha="left" if side else "right", va="center", fontsize=9, linespacing=1.3, zorder=3,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
    return png(figure)
