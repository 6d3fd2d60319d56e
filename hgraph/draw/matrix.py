"""Plots of matrices: one cell per entry for small structures, edge densities for large ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hgraph.draw.marks import INK, PALETTE, new_axes
from hgraph.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hgraph.structure.adjacency import Adjacency

__all__ = ["draw_adjacency", "percent_ticks"]


def draw_adjacency(
    adj: Adjacency, ax: Axes | None = None, *, bins: int = 256, cmap: str | None = None, title: str | None = None
) -> Axes:
    """The matrix as a picture: rows are targets, columns sources.

    Up to ``bins`` rows and columns every entry is a cell (parallel edges added up); beyond that a pixel is a
    rectangle of entries and shows the fraction that are edges.

    Args:
        adj: the structure.
        ax: axes to draw into, or None for new ones.
        bins: the maximum number of pixel rows and columns.
        cmap: a matplotlib color map; the default is safe for color-blind readers.
        title: the title; by default the sizes.

    Returns:
        The axes.
    """
    from matplotlib.ticker import MaxNLocator

    if bins < 1:
        raise ArgumentError("bins", "a number of pixels >= 1", bins)
    ax = new_axes(ax, size=(5.2, 4.6))
    rows, columns = adj.shape
    title = f"{rows:,} targets x {columns:,} sources, {adj.num_edges:,} edges" if title is None else title
    binned = max(adj.shape) > bins
    if binned:
        title += f"\na pixel is about {-(-rows // bins)} x {-(-columns // bins)} entries"
    if rows and columns:
        image, style = _matrix_image(adj, bins)
        picture = ax.imshow(
            image, interpolation="nearest", aspect="auto" if max(adj.shape) > 4 * min(adj.shape) else "equal",
            extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), **(style | ({"cmap": cmap} if cmap else {})),
        )  # fmt: skip
        if binned or adj.weight is not None:
            bar = ax.figure.colorbar(picture, ax=ax, shrink=0.8, pad=0.03)
            if binned:
                percent_ticks(bar.ax.yaxis)
            bar.set_label("fraction of entries that are edges" if binned else "weight", color=INK)
            bar.outline.set_visible(False)
    ax.set_xlabel("source")
    ax.set_ylabel("target")
    ax.set_title(title, fontsize=10, color=INK)
    for axis, length in ((ax.xaxis, columns), (ax.yaxis, rows)):
        axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        if not length:
            axis.set_ticks([])  # no rows or columns to label
    ax.tick_params(length=0, labelsize=8, labelcolor=INK)
    ax.spines[:].set_color("#D0D0D0")
    return ax


def percent_ticks(axis: Any) -> None:
    """Fractions on a logarithmic color bar as 0.2 %, 1 %, 5 %, also between decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:.3g} %"))
    axis.set_minor_formatter(NullFormatter())


def _matrix_image(adj: Adjacency, bins: int) -> tuple[np.ndarray, dict[str, Any]]:
    """The pixels and their colors: cells of small structures, edge densities of large ones."""
    from matplotlib.colors import ListedColormap, LogNorm

    shape = np.minimum(adj.shape, bins)
    row = adj.target.cpu().numpy().astype(np.int64) * shape[0] // adj.num_targets
    column = adj.indices.cpu().numpy().astype(np.int64) * shape[1] // adj.num_sources
    where, cells = row * shape[1] + column, int(shape.prod())
    if max(adj.shape) > bins:
        entries = [np.bincount(np.arange(n) * k // n, minlength=k) for n, k in zip(adj.shape, shape, strict=True)]
        share = np.bincount(where, minlength=cells).reshape(shape) / np.outer(*entries)
        image = np.ma.masked_equal(share, 0)
        low, high = (float(image.min()), float(image.max())) if image.count() else (0.1, 1.0)
        return image, {"cmap": "cividis_r", "norm": LogNorm(low * 0.6, max(high, low * 1.01))}
    weight = None if adj.weight is None else adj.weight.detach().double().cpu().numpy()
    total = np.bincount(where, weight, minlength=cells).reshape(shape)
    image = np.ma.masked_array(total, np.bincount(where, minlength=cells).reshape(shape) == 0)
    if weight is None:
        return image, {"cmap": ListedColormap([PALETTE[0]])}
    bound = float(np.abs(total).max()) or 1.0
    if total.min() < 0:
        return image, {"cmap": "PuOr", "vmin": -bound, "vmax": bound}
    return image, {"cmap": "cividis_r", "vmin": 0, "vmax": bound}
