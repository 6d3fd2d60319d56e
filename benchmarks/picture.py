"""One plot per suite, with one panel per case: hgraph, other libraries and limits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hgraph.benchmarks.records import figures

HGRAPH, PEER, LIMIT = "#1b7f5c", "#9aa5b1", "#e0e4e8"


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Bars of the minimum, the fastest method first; the axis ends at 20 times hgraph.

    Longer bars are broken: they have two strokes and an arrow at the end.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if rows[0]["suite"] in ("growth", "combiner", "routing"):
        _growth(rows, path)
        return
    with mpl.rc_context({"font.size": 8}):
        cases = list(dict.fromkeys(row["case"] for row in rows))
        columns = min(3, len(cases))
        lines = math.ceil(len(cases) / columns)
        tallest = max(sum(row["case"] == case for row in rows) for case in cases)
        figure = Figure(figsize=(4.6 * columns, lines * (0.6 + 0.19 * tallest)), layout="constrained")
        for i, case in enumerate(cases):
            axes = figure.add_subplot(lines, columns, i + 1)
            _panel(axes, case, [row for row in rows if row["case"] == case and row["min"]])
        first = rows[0]
        figure.suptitle(
            f"{first['suite']}: minimum, {first['threads']} thread(s), {first['allocator']} allocator, "
            f"{first['date']}; green: hgraph, light: limits and other work; broken bars are cut", fontsize=9,
        )  # fmt: skip
        figure.savefig(path, dpi=90)


def _panel(axes: Any, case: str, rows: list[dict[str, str]]) -> None:
    rows = sorted(rows, key=lambda row: -float(row["min"]))
    ours = next((float(row["min"]) for row in rows if row["method"] == "hgraph"), None)
    end = 20 * ours if ours else max(float(row["min"]) for row in rows)
    for at, row in enumerate(rows):
        value, method = float(row["min"]), row["method"]
        color = HGRAPH if method.startswith("hgraph") else LIMIT if method.startswith("limit") else PEER
        axes.barh(at, min(value, end), color=color, edgecolor="#5c6670", linewidth=0.4)
        text = f" {figures(value)} {row['unit'].split()[0]}"
        if row["ratio_to_hgraph"] and method != "hgraph":
            text += f"  ({float(row['ratio_to_hgraph']):.2g}x)"
        inside = value > 0.55 * end
        if value > end:
            axes.plot([end], [at], marker=">", markersize=6, color=color, markeredgecolor="#5c6670", clip_on=False)
            for stroke in (0.955, 0.97):
                axes.plot([stroke * end, (stroke + 0.01) * end], [at - 0.45, at + 0.45], color="white", linewidth=1.6)
        right = 0.94 * end if value > end else value
        axes.text(right, at, text + " " * inside, va="center", ha="right" if inside else "left", fontsize=7)
    axes.set_yticks(range(len(rows)), [row["method"].removeprefix("limit: ") for row in rows])
    axes.set_title(case, fontsize=9, loc="left")
    axes.set_xlim(0, min(end, max(float(row["min"]) for row in rows)) * 1.05)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _growth(rows: list[dict[str, str]], path: Path) -> None:
    """Cost over the number of tokens, or cost per million edges, so that linear growth is a horizontal line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    edges = rows[0]["suite"] == "growth"
    units = list(dict.fromkeys(row["unit"] for row in rows))
    figure.set_figwidth(5 * len(units))
    for i, unit in enumerate(units):
        axes = figure.add_subplot(1, len(units), i + 1)
        for case in dict.fromkeys(row["case"] for row in rows if row["unit"] == unit):
            points = [(int(r["method"].split()[0]), float(r["min"])) for r in rows if r["case"] == case and r["min"]]
            costs = [(n, v / n * 1e6 if edges else v) for n, v in points]
            other = case.startswith(("SDPA", "limit"))  # the reference for hgraph
            style = {"color": "black", "linestyle": "--"} if other else {}
            axes.plot(*zip(*costs, strict=True), marker="o", label=case.split(",")[0], **style)
        per = " per million edges" if edges else ""
        axes.set(xscale="log", yscale="log", xlabel="edges" if edges else "tokens", ylabel=f"{unit.split()[0]}{per}")
        title = "time of one call" if unit == "ms" else "peak memory above the inputs"
        axes.set_title(title + ("" if edges or unit == "ms" else ", forward and backward"), loc="left", fontsize=10)
        axes.grid(visible=True, which="major", linewidth=0.3)
        axes.set_ylim(top=5 * axes.get_ylim()[1])  # space for the legend
        axes.legend(fontsize=7, loc="upper left", ncols=2)
    figure.savefig(path, dpi=90)
