"""Explanations of a node's prediction: the edges, hyperedges, memberships or nodes that it depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from hgraph.analysis.parts import METHODS, Explained, Over, Structure, checked, frozen, reached, without
from hgraph.checks import whole
from hgraph.draw.marks import literal
from hgraph.errors import ArgumentError
from hgraph.structure import Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NodeExplanation", "counterfactual", "draw_explanation", "explain_node", "fidelity"]

_STEPS = {"mask": 200, "integrated": 64}


@dataclass(frozen=True)
class NodeExplanation:
    """Scores of the parts of a structure, for one prediction.

    Args:
        node: the node.
        target: the class whose output is explained.
        over: the parts that are scored: ``"edges"`` (in the order of ``graph.adj``), ``"memberships"`` (in the order of
            ``hypergraph.v2e``), ``"hyperedges"`` or ``"nodes"``.
        scores: one per part; positive scores support the class, and 0 means that the prediction does not depend on it.
        reached: booleans, one per part: whether it contains nodes on whose features the output depends. All other
            scores are 0.
        method: the method that computed the scores.
        output: the network's output for the class.

    >>> found = NodeExplanation(0, 1, "edges", torch.tensor([0.1, 0.9]), torch.tensor([True, True]), "mask", 2.0)
    >>> found.top(1).tolist()
    [1]
    """

    node: int
    target: int
    over: Over
    scores: Tensor
    reached: Tensor
    method: str
    output: float

    def top(self, count: int) -> Tensor:
        """The parts with the highest scores, best first, at most ``count``, among those that reach the node."""
        order = torch.sort(self.scores.masked_fill(~self.reached, float("-inf")), descending=True, stable=True).indices
        return order[: min(count, int(self.reached.sum()))]


def explain_node(
    model: nn.Module,
    x: Tensor,
    structure: Structure,
    node: int,
    *,
    over: Over | None = None,
    method: Literal["gradient", "integrated", "mask", "removal"] = "integrated",
    target: int | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> NodeExplanation:
    r"""Score the parts of a structure by how much the output for a node depends on them.

    Use it to see why a network predicts a class; `fidelity` measures how good an explanation is.

    Let multipliers :math:`m_i = 1` scale the weights of edges, memberships or hyperedges, or the features of nodes,
    and let f be the output for the class:

    - ``"gradient"``: :math:`\partial f / \partial m_i`;
    - ``"integrated"``: :math:`\int_0^1 \partial f(\alpha m) / \partial m_i \, d\alpha`. The scores sum to f(1) - f(0).
      They say little about layers that take means, whose value does not depend on the scale of all weights;
    - ``"mask"``: learned masks :math:`m_i = \sigma(\theta_i)`, trained to keep the class probable, to be small, and to
      be close to 0 or 1;
    - ``"removal"``: f minus its value without the part, with one forward pass per part. It works for every layer, even
      one that ignores weights.

    Args:
        model: a network of (x, structure) to outputs [N, C]; it is used in eval mode and not changed.
        x: [N, F] features.
        structure: a `Graph` or `Hypergraph`.
        node: the node whose prediction is explained.
        over: the parts that are scored; None means the edges of a graph or the hyperedges of a hypergraph.
        method: see above.
        target: the class; None means the predicted class.
        steps: number of training steps of masks (default 200) or of points of the integral (default 64).
        seed: seed of the initial masks.

    Raises:
        ArgumentError: no such node, class, method or kind of parts, or a network that ignores the weights of edges.
        ArgumentTypeError: neither a `Graph` nor a `Hypergraph`.

    Source: Ying et al., "GNNExplainer: Generating Explanations for Graph Neural Networks", NeurIPS 2019, eq. 5 (masks);
    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, eq. 1 (integrated gradients).

    >>> from hgraph.models import GCN
    >>> graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=4, directed=False)
    >>> explain_node(GCN(3, 8, 2), torch.randn(4, 3), graph, 0, method="removal").scores.shape
    torch.Size([4])
    """
    over = checked(structure, over)
    if method not in METHODS:
        raise ArgumentError("method", f"one of {', '.join(METHODS)}", repr(method))
    whole("node", node, 0, structure.num_nodes - 1)
    steps = whole("steps", _STEPS.get(method, 1) if steps is None else steps, 1)
    with frozen(model) as network:
        outputs = network(x, structure)[node]
        target = int(outputs.argmax()) if target is None else whole("target", target, 0, len(outputs) - 1)
        near = reached(network, x, structure, node, over)
        call = Explained(network, x, structure, node, target, over)
        if method == "removal":
            scores = call.by_removal(near)
        elif method == "mask":
            scores = call.by_mask(near, steps, seed)
        else:
            scores = call.by_gradient(steps if method == "integrated" else 1)
        if method != "removal" and not bool(scores[near].any()) and bool(near.any()) and over != "nodes":
            hint = 'Use method="removal", or over="nodes"'
            raise ArgumentError("method", f"a network whose output depends on the weights of {over}", method, hint)
    scores = torch.where(near, scores.detach(), 0.0)
    return NodeExplanation(int(node), target, over, scores, near, method, float(outputs[target]))


def fidelity(
    model: nn.Module, x: Tensor, structure: Structure, found: NodeExplanation, *, top_k: int
) -> dict[str, float]:
    r"""Measure an explanation: the class probability without its best parts, and with only these.

    Use it to compare the methods of `explain_node`.

    .. math:: \text{fidelity} = p(G) - p(G \setminus T), \qquad \text{sufficiency loss} = p(G) - p(T), \qquad
              \text{sparsity} = 1 - |T| / |R|

    with p the probability of the class, T the best k parts, and R all parts that the prediction can depend on. A good
    explanation has a high fidelity and a low sufficiency loss. ``"probability"`` is p(G).

    Args:
        model: as in `explain_node`.
        x: as in `explain_node`.
        structure: as in `explain_node`.
        found: the explanation.
        top_k: k, number of parts.

    Source: Yuan et al., "Explainability in Graph Neural Networks: A Taxonomic Survey", TPAMI 2023, eq. 4 to 8.

    >>> from hgraph.models import GCN
    >>> graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=4, directed=False)
    >>> model, x = GCN(3, 8, 2), torch.randn(4, 3)
    >>> sorted(fidelity(model, x, graph, explain_node(model, x, graph, 0), top_k=2))
    ['fidelity', 'probability', 'sparsity', 'sufficiency_loss']
    """
    top = torch.zeros_like(found.reached)
    top[found.top(whole("top_k", top_k, 0))] = True
    with frozen(model) as network:
        call = Explained(network, x, structure, found.node, found.target, found.over)
        all_of_it, less, alone = (call.probability(keep) for keep in (None, ~top, top | ~found.reached))
    size = max(int(found.reached.sum()), 1)
    figures = {"probability": all_of_it, "fidelity": all_of_it - less, "sufficiency_loss": all_of_it - alone}
    return figures | {"sparsity": 1 - int(top.sum()) / size}


def counterfactual(
    model: nn.Module,
    x: Tensor,
    structure: Structure,
    node: int,
    *,
    over: Over | None = None,
    max_size: int = 10,
) -> Tensor | None:
    """Find parts whose removal changes the predicted class, greedily; None if ``max_size`` of them are not enough.

    Use it to find out what would have to change for another prediction.

    Each step removes the part that most reduces the margin between the class and the best other class.

    Args:
        model: as in `explain_node`.
        x: as in `explain_node`.
        structure: as in `explain_node`.
        node: as in `explain_node`.
        over: as in `explain_node`.
        max_size: the largest number of parts.

    Returns:
        Ids of the parts, in the order of their removal.

    >>> from hgraph.models import GCN
    >>> graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=4, directed=False)
    >>> removed = counterfactual(GCN(3, 8, 2), torch.randn(4, 3), graph, 0)
    >>> removed is None or len(removed) <= 4
    True
    """
    over = checked(structure, over)
    whole("node", node, 0, structure.num_nodes - 1)
    whole("max_size", max_size, 1)
    with frozen(model) as network, torch.no_grad():
        target = int(network(x, structure)[node].argmax())
        near = reached(network, x, structure, node, over)
        call, removed = Explained(network, x, structure, node, target, over), list[int]()
        keep = torch.ones_like(near)
        while len(removed) < min(max_size, int(near.sum())):
            margins = {i: call.margin(without(keep, i)) for i in (near & keep).nonzero().flatten().tolist()}
            best = min(margins, key=margins.__getitem__)
            keep = without(keep, best)
            removed.append(best)
            if margins[best] < 0:
                return torch.tensor(removed)
    return None


def draw_explanation(
    structure: Structure,
    found: NodeExplanation,
    *,
    top_k: int = 8,
    names: Sequence[str] | None = None,
    labels: Tensor | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the node with the parts of highest positive score; widths of edges and hyperedges show their scores.

    Use it together with the numbers; the title says how many parts are drawn.

    Args:
        structure: the structure of the explanation.
        found: the explanation.
        top_k: the largest number of parts.
        names: [N] names of the nodes; None uses their numbers.
        labels: [N] classes, for the colors; None uses one color.
        ax: axes to draw into, or None for new ones.

    >>> from hgraph.models import GCN
    >>> graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=4, directed=False)
    >>> ax = draw_explanation(graph, explain_node(GCN(3, 8, 2), torch.randn(4, 3), graph, 0))
    >>> ax.get_title().startswith("node 0, class")
    True
    """
    top = found.top(top_k)
    top = top[found.scores[top] > 0]
    chosen = torch.zeros_like(found.reached)
    chosen[top] = True
    part, nodes = _part(structure, found, chosen)
    names = [str(i) for i in range(structure.num_nodes)] if names is None else names
    options: dict[str, Any] = {"names": [str(names[i]) for i in nodes.tolist()]}
    if labels is not None:
        options["labels"] = labels[nodes]
    ax = part.draw(ax, **options)
    shown = f"{len(top)} of {int(found.reached.sum())} {found.over}"
    ax.set_title(literal(f"node {names[found.node]}, class {found.target}: {shown} ({found.method})"), fontsize=10)
    return ax


def _part(structure: Structure, found: NodeExplanation, chosen: Tensor) -> tuple[Structure, Tensor]:
    """The chosen parts with their scores as weights, on their nodes only, and the ids of these nodes."""
    scores, touched = found.scores.float(), torch.zeros(structure.num_nodes, dtype=torch.bool, device=chosen.device)
    touched[found.node] = True
    if found.over == "nodes":
        touched |= chosen
    elif isinstance(structure, Graph):
        adj = structure.adj.with_weight(scores).keep(chosen)
        structure = Graph(adj)
        touched[adj.target.long()] = touched[adj.indices.long()] = True
    else:
        v2e = structure.v2e
        v2e = v2e.keep(chosen if found.over == "memberships" else chosen[v2e.target.long()])
        weight = scores if found.over == "hyperedges" else structure.hyperedge_weight
        structure = dataclasses.replace(structure, v2e=v2e, hyperedge_weight=weight)
        touched[v2e.indices.long()] = True
    nodes = touched.nonzero().flatten()
    if isinstance(structure, Graph):
        return structure.subgraph(nodes), nodes
    part = structure.subhypergraph(nodes)
    return part, nodes
