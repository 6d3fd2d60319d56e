"""Label propagation, and Correct and Smooth, which improves a classifier (Huang et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hgraph.checks import real, whole
from hgraph.data.labels import labeled
from hgraph.errors import ArgumentError
from hgraph.nn.graph.smoothing import neighbor_sum
from hgraph.structure import Graph

__all__ = ["correct_and_smooth", "propagate_labels"]


def propagate_labels(
    graph: Graph, y: Tensor, train: Tensor, num_classes: int, *, num_hops: int = 50, alpha: float = 0.9
) -> Tensor:
    r"""Propagate the known labels over the graph, without training.

    Use it as a baseline that uses no features.

    .. math:: Y^{k+1} = \alpha D^{-1/2} A D^{-1/2} Y^k + (1 - \alpha) Y^0

    with :math:`Y^0` the one-hot labels of the training nodes and 0 elsewhere.

    Args:
        graph: a graph of N nodes.
        y: [N] classes; only those of the training nodes are read.
        train: [T] ids of the training nodes.
        num_classes: C.
        num_hops: number of steps.
        alpha: weight of the neighbors.

    Returns:
        [N, C] scores; a node that no label reaches has zeros.

    Raises:
        ArgumentError: a directed graph, ``y`` not of length N, labels outside 0 .. C-1, or alpha outside 0 .. 1.

    Source: Zhou et al., "Learning with Local and Global Consistency", NeurIPS 2003.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> propagate_labels(g, torch.tensor([1, 0, 0]), torch.tensor([0]), 2).argmax(1).tolist()
    [1, 1, 1]
    """
    start = _spread_start(graph, y, train, num_classes)
    return _spread(start, graph, num_hops, alpha, lambda z: z)


def correct_and_smooth(
    graph: Graph,
    probabilities: Tensor,
    y: Tensor,
    train: Tensor,
    *,
    num_hops: int = 50,
    correct_alpha: float = 0.9,
    smooth_alpha: float = 0.8,
) -> Tensor:
    r"""Propagate the residuals of the training nodes, add them to the predictions, then propagate the result.

    Use it after any classifier, also an MLP, on a graph where neighbors share labels.

    .. math:: E = S_\alpha(Y - P)_{\text{train}}, \qquad
              P' = P + s_i \frac{E_i}{\lVert E_i \rVert_1}, \qquad Z = S_{\alpha'}(Y_{\text{train}}, P'_{\text{other}})

    with :math:`S_\alpha` as in `propagate_labels` and s the mean length :math:`\lVert Y - P \rVert_1` on the training
    nodes (autoscale).

    Args:
        graph: a graph of N nodes.
        probabilities: [N, C], of the classifier.
        y: [N] classes; only those of the training nodes are read.
        train: [T] ids of the training nodes.
        num_hops: number of steps of each of the two propagations.
        correct_alpha: alpha of the propagation of the residuals.
        smooth_alpha: alpha of the propagation of the corrected predictions.

    Returns:
        [N, C] scores.

    Raises:
        ArgumentError: a directed graph, a wrong shape, labels outside 0 .. C-1, or alpha outside 0 .. 1.

    Source: Huang, He, Singh, Lim and Benson, "Combining Label Propagation and Simple Models Out-performs Graph Neural
    Networks", ICLR 2021, eq. 1 to 5.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    >>> correct_and_smooth(g, p, torch.tensor([1, 0, 0]), torch.tensor([0])).argmax(1).tolist()
    [1, 1, 1]
    """
    if probabilities.dim() != 2 or len(probabilities) != graph.num_nodes:
        raise ArgumentError("probabilities", f"shape [{graph.num_nodes}, C]", f"shape {list(probabilities.shape)}")
    known = _spread_start(graph, y, train, probabilities.shape[1], probabilities.dtype)
    error = torch.zeros_like(probabilities)
    error[train] = known[train] - probabilities[train]
    scale = error[train].abs().sum(1).mean() if len(train) else error.new_zeros(())
    spread = _spread(error, graph, num_hops, correct_alpha, lambda z: z.clamp(-1, 1))
    length = spread.abs().sum(1, keepdim=True)
    corrected = probabilities + torch.where(length > 0, scale * spread / length, 0.0)
    corrected[train] = known[train]
    return _spread(corrected, graph, num_hops, smooth_alpha, lambda z: z.clamp(0, 1))


def _spread_start(
    graph: Graph, y: Tensor, train: Tensor, num_classes: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    if y.dim() != 1 or len(y) != graph.num_nodes:
        raise ArgumentError("y", f"shape [{graph.num_nodes}]", f"shape {list(y.shape)}")
    if not bool(labeled(y[train]).all()):
        raise ArgumentError("train", "nodes with a label", "a node whose label is missing")
    if graph.directed:  # the norm has the in-degrees of both ends: nodes without in-edges would send nothing
        hint = "Use Graph.from_edge_index(graph.edge_index, num_nodes=graph.num_nodes, directed=False)"
        raise ArgumentError("graph", "an undirected graph", "edges without their reverse", hint)
    if len(train) and not 0 <= int(y[train].min()) <= int(y[train].max()) < num_classes:
        given = f"{int(y[train].min())} .. {int(y[train].max())}"
        raise ArgumentError("y", f"classes 0 .. {num_classes - 1} on the training nodes", given)
    start = torch.zeros(graph.num_nodes, num_classes, dtype=dtype, device=y.device)
    start[train] = F.one_hot(y[train].long(), num_classes).to(dtype)
    return start


def _spread(start: Tensor, graph: Graph, num_hops: int, alpha: float, after: Callable[[Tensor], Tensor]) -> Tensor:
    real("alpha", alpha, "a weight, 0 .. 1", 0.0, 1.0)
    z = start
    for _ in range(whole("num_hops", num_hops)):
        z = after(torch.lerp(start, neighbor_sum(z, graph), alpha))
    return z
