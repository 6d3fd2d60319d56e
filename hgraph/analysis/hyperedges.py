"""Record the soft hyperedges of a model during a forward, and draw them over the input image."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import SoftHyperedges
from hgraph.structure import SoftHypergraph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_hyperedges", "record_hyperedges"]

_INK = "#222222"
_MOST = 10.0  # upper end of the color scale, as a multiple of the uniform weight


@contextmanager
def record_hyperedges(model: nn.Module) -> Iterator[dict[str, SoftHypergraph]]:
    """Record the soft hyperedges that the layers of a model compute inside the block.

    Args:
        model: any module with `hgraph.nn.SoftHyperedges` in it, such as SoftHGNN, SoftHGNNSeS, HyperACE and YOLOv13.

    Yields:
        A dict from the generators' names in the model to their last hyperedges, detached; for a
        SoftHGNNSeS the selected ones.

    Raises:
        ArgumentError: no such layer in the model.

    >>> from hgraph.nn import SoftHGNN
    >>> layer = SoftHGNN(8, num_hyperedges=3)
    >>> with record_hyperedges(layer) as found:
    ...     _ = layer(torch.randn(1, 6, 8))
    >>> found
    {'edge_generator': SoftHypergraph(batch [1], 6 nodes, 3 hyperedges, float32, cpu)}
    """
    makers = {name: m for name, m in model.named_modules() if isinstance(m, SoftHyperedges)}
    if not makers:
        raise ArgumentError("model", "a model with SoftHyperedges", type(model).__name__)
    found: dict[str, SoftHypergraph] = {}

    def watched(name: str, maker: SoftHyperedges) -> Any:
        made_by = maker.hyperedges

        @functools.wraps(made_by)
        def hyperedges(score: Tensor, mask: Tensor | None = None) -> SoftHypergraph:
            soft = made_by(score, mask)
            found[name] = soft._map(torch.Tensor.detach)
            return soft

        return hyperedges

    try:
        for name, maker in makers.items():
            maker.hyperedges = watched(name, maker)  # type: ignore[method-assign]
        yield found
    finally:
        for maker in makers.values():
            del maker.hyperedges  # restores the method of the class


def draw_hyperedges(
    soft: SoftHypergraph,
    image: Tensor,
    *,
    grid: tuple[int, int] | None = None,
    sample: int = 0,
    columns: int = 4,
    names: list[str] | None = None,
) -> Figure:
    r"""Draw the participation of each pixel of an image in each hyperedge.

    One panel per hyperedge: the image in gray, overlaid with :math:`N A_{nm}`, the participation as a multiple of
    the uniform one. All panels have one color scale; pixels at or below the uniform weight are not colored.

    Args:
        soft: hyperedges over the cells of a grid, row by row, of one image or a batch (heads are averaged).
        image: [3, H, W] or [1, H, W] or [H, W], values 0 .. 1: the input image, at any size.
        grid: (rows, columns) of cells; None assumes a square.
        sample: index in the batch.
        columns: panels per row.
        names: labels of the hyperedges, instead of their numbers.

    Returns:
        The figure; save it with ``figure.savefig("hyperedges.png")``.

    Raises:
        ArgumentError: inconsistent sizes.
        ArgumentTypeError: not soft hyperedges or not an image.

    >>> soft = SoftHypergraph.from_participation(torch.rand(1, 16, 3).softmax(1))
    >>> len(draw_hyperedges(soft, torch.rand(3, 32, 32)).axes)    # the image, three hyperedges, the colors
    5
    """
    times, (rows, cols) = _relative(soft, grid, sample)
    gray = _gray(image)
    count = len(times)
    if names is not None and len(names) != count:
        raise ArgumentError("names", f"{count} strings (one per hyperedge)", len(names))
    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise ArgumentError("columns", "1 or more", repr(columns))
    lines = -(-(count + 1) // columns)
    side = gray.shape[0] / gray.shape[1]
    figure = _figure((2.6 * min(columns, count + 1) + 0.8, 2.6 * side * lines + 0.35 * lines))
    panels = figure.subplots(lines, min(columns, count + 1), squeeze=False).ravel()
    frame = (-0.5, cols - 0.5, rows - 0.5, -0.5)  # in cells, for both image and participation
    panels[0].imshow(_shown(image), extent=frame, cmap="gray", vmin=0, vmax=1, aspect="auto")
    panels[0].set_title("image", fontsize=9, color=_INK)
    from matplotlib.colors import LogNorm

    scale = LogNorm(1.0, float(np.clip(times.max(initial=1.0), 2.0, _MOST)))
    for m, (panel, each) in enumerate(zip(panels[1:], times, strict=False)):
        panel.imshow(gray, extent=frame, cmap="gray", vmin=-0.2, vmax=1.6, aspect="auto")
        above = np.maximum(each, 1.0)
        strength = np.clip(np.asarray(scale(above)), 0, 1)
        panel.imshow(above, extent=frame, cmap="plasma", norm=scale, alpha=0.85 * strength**0.5, aspect="auto")
        name = f"hyperedge {m}" if names is None else names[m]
        half = _cells_of_half(each)
        panel.set_title(f"{name}: half in {100 * half:.2g} %", fontsize=9, color=_INK)
    for panel in panels:
        panel.set_axis_off()
        panel.set_box_aspect(side)
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    bar = figure.colorbar(ScalarMappable(scale, "plasma"), ax=list(panels), shrink=0.7, pad=0.02, extend="max")
    bar.ax.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10]))
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_label("times the uniform weight", color=_INK, fontsize=9)
    bar.outline.set_visible(False)
    return figure


def _relative(soft: Any, grid: tuple[int, int] | None, sample: int) -> tuple[np.ndarray, tuple[int, int]]:
    """N A [M, rows, columns] of one sample."""
    if not isinstance(soft, SoftHypergraph):
        raise ArgumentTypeError("soft", "a SoftHypergraph", type(soft).__name__, "Use record_hyperedges(model)")
    weight = soft.v2e.weight.detach().double().cpu()
    if weight.dim() > 4:
        raise ArgumentError("soft", "at most batch and head dimensions before M and N", f"shape {list(weight.shape)}")
    if weight.dim() > 2:
        if not 0 <= sample < len(weight):
            raise ArgumentError("sample", f"0 .. {len(weight) - 1}", sample)
        weight = weight[sample]
    weight = weight.mean(0) if weight.dim() == 3 else weight
    n = weight.shape[-1]
    side = int(n**0.5)
    rows, cols = (side, side) if grid is None else grid
    if rows * cols != n:
        raise ArgumentError("grid", f"rows and columns of {n} cells", f"{rows} x {cols}", "Pass grid=(rows, columns)")
    return (weight * n).view(-1, rows, cols).numpy(), (rows, cols)


def _shown(image: Tensor) -> np.ndarray:
    """[H, W] or [H, W, 3], values 0 .. 1."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        got = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise ArgumentTypeError("image", "a floating-point tensor, values 0 .. 1", got)
    image = image.detach().float().cpu().clamp(0, 1)
    if image.dim() == 3 and image.shape[0] in (1, 3):
        return (image[0] if image.shape[0] == 1 else image.permute(1, 2, 0)).numpy()
    if image.dim() != 2:
        raise ArgumentError("image", "shape [3, H, W], [1, H, W] or [H, W]", f"shape {list(image.shape)}")
    return image.numpy()


def _gray(image: Tensor) -> np.ndarray:
    shown = _shown(image)
    return shown if shown.ndim == 2 else shown @ np.array([0.299, 0.587, 0.114])


def _cells_of_half(each: np.ndarray) -> float:
    """The fraction of cells, the strongest first, that together have half of a hyperedge's weight."""
    order = np.sort(each.ravel())[::-1].cumsum()
    return float((np.searchsorted(order, order[-1] / 2) + 1) / each.size) if order[-1] > 0 else 1.0


def _figure(size: tuple[float, float]) -> Figure:
    """A plain figure without a window or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
