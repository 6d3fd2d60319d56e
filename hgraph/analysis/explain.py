"""Explanations of a node's prediction: the edges, hyperedges, memberships or nodes that it depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.checks import whole
from hgraph.draw.marks import literal
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Graph, Hypergraph
from hgraph.train import eval_mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NodeExplanation", "counterfactual", "draw_explanation", "explain_node", "fidelity"]

Over = Literal["edges", "memberships", "hyperedges", "nodes"]
Structure = Graph | Hypergraph
_OVER = {Graph: ("edges", "nodes"), Hypergraph: ("memberships", "hyperedges", "nodes")}
_METHODS = ("gradient", "integrated", "mask", "removal")
_STEPS = {"mask": 200, "integrated": 64}
_RATE, _DRAWS = 0.1, 4
_SIZE, _ENTROPY = 0.05, 0.1  # weights of the two penalties on masks


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
    over = _checked(structure, over)
    if method not in _METHODS:
        raise ArgumentError("method", f"one of {', '.join(_METHODS)}", repr(method))
    whole("node", node, 0, structure.num_nodes - 1)
    steps = whole("steps", _STEPS.get(method, 1) if steps is None else steps, 1)
    with _frozen(model) as network:
        outputs = network(x, structure)[node]
        target = int(outputs.argmax()) if target is None else whole("target", target, 0, len(outputs) - 1)
        reached = _reached(network, x, structure, node, over)
        call = _Call(network, x, structure, node, target, over)
        if method == "removal":
            scores = call.by_removal(reached)
        elif method == "mask":
            scores = call.by_mask(reached, steps, seed)
        else:
            scores = call.by_gradient(steps if method == "integrated" else 1)
        if method != "removal" and not bool(scores[reached].any()) and bool(reached.any()) and over != "nodes":
            hint = 'Use method="removal", or over="nodes"'
            raise ArgumentError("method", f"a network whose output depends on the weights of {over}", method, hint)
    scores = torch.where(reached, scores.detach(), 0.0)
    return NodeExplanation(int(node), target, over, scores, reached, method, float(outputs[target]))


def fidelity(
    model: nn.Module, x: Tensor, structure: Structure, found: NodeExplanation, *, top_k: int
) -> dict[str, float]:
    r"""Measure an explanation: the class probability without its best parts, and with only these.

    Use it to compare the methods of `explain_node`.

    .. math:: \text{fidelity} = p(G) - p(G \setminus T), \qquad \text{sufficiency loss} = p(G) - p(T), \qquad
              \text{sparsity} = 1 - |T| / |R|

    with p the probability of the class, T the best k parts, and R all parts that the prediction can depend on. A good
    explanation has a high fidelity and a low sufficiency loss.

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
    ['fidelity', 'sparsity', 'sufficiency_loss']
    """
    top = torch.zeros_like(found.reached)
    top[found.top(whole("top_k", top_k, 0))] = True
    with _frozen(model) as network:
        call = _Call(network, x, structure, found.node, found.target, found.over)
        all_of_it, without, alone = (call.probability(keep) for keep in (None, ~top, top | ~found.reached))
    size = max(int(found.reached.sum()), 1)
    figures = {"fidelity": all_of_it - without, "sufficiency_loss": all_of_it - alone}
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
    over = _checked(structure, over)
    whole("node", node, 0, structure.num_nodes - 1)
    whole("max_size", max_size, 1)
    with _frozen(model) as network, torch.no_grad():
        target = int(network(x, structure)[node].argmax())
        reached = _reached(network, x, structure, node, over)
        call, removed = _Call(network, x, structure, node, target, over), list[int]()
        keep = torch.ones_like(reached)
        while len(removed) < min(max_size, int(reached.sum())):
            margins = {i: call.margin(_without(keep, i)) for i in (reached & keep).nonzero().flatten().tolist()}
            best = min(margins, key=margins.__getitem__)
            keep = _without(keep, best)
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


# ---------------------------------------------------------------------- methods


@dataclass(frozen=True)
class _Call:
    """A network, and the output that is explained."""

    network: nn.Module
    x: Tensor
    structure: Structure
    node: int
    target: int
    over: Over

    @property
    def count(self) -> int:
        return _count(self.structure, self.over)

    def outputs(self, multipliers: Tensor) -> Tensor:
        """The outputs [C] for the node, with multipliers of the parts."""
        x, structure = self.x, self.structure
        if self.over == "nodes":
            x = x * multipliers.unsqueeze(-1)
        elif isinstance(structure, Graph):
            structure = Graph(structure.adj.with_weight(_times(structure.adj.weight, multipliers)))
        elif self.over == "memberships":
            v2e = structure.v2e
            structure = dataclasses.replace(structure, v2e=v2e.with_weight(_times(v2e.weight, multipliers)))
        else:
            weight = _times(structure.hyperedge_weight, multipliers)
            structure = dataclasses.replace(structure, hyperedge_weight=weight)
        out: Tensor = self.network(x, structure)[self.node]
        return out

    def kept(self, keep: Tensor | None) -> Tensor:
        """The outputs [C] for the node, with only the parts in ``keep``."""
        x, structure = self.x, self.structure
        if keep is None:
            pass
        elif self.over == "nodes":
            x = torch.where(keep.unsqueeze(-1), x, 0.0)
        elif isinstance(structure, Graph):
            structure = Graph(structure.adj.keep(keep))
        else:
            v2e = structure.v2e
            keep = keep if self.over == "memberships" else keep[v2e.target.long()]
            structure = dataclasses.replace(structure, v2e=v2e.keep(keep))
        out: Tensor = self.network(x, structure)[self.node]
        return out

    @torch.no_grad()
    def probability(self, keep: Tensor | None) -> float:
        return float(self.kept(keep).softmax(-1)[self.target])

    @torch.no_grad()
    def margin(self, keep: Tensor) -> float:
        """The output of the class minus that of the best other one."""
        outputs = self.kept(keep)
        others = torch.cat([outputs[: self.target], outputs[self.target + 1 :]])
        return float(outputs[self.target] - others.max()) if len(others) else float("inf")

    def by_gradient(self, steps: int) -> Tensor:
        total = torch.zeros(self.count, device=self.x.device, dtype=self.x.dtype)
        for step in range(steps):
            at = (step + 0.5) / steps if steps > 1 else 1.0  # the midpoint rule
            multipliers = torch.full_like(total, at).requires_grad_()
            total += _slope(self.outputs(multipliers)[self.target], multipliers) / steps
        return total

    def by_mask(self, reached: Tensor, steps: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        theta = torch.randn(self.count, generator=generator).to(self.x) * 0.1 + 1
        theta.requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=_RATE)
        moved = False
        for _ in range(steps):
            mask = torch.where(reached, theta.sigmoid(), 1.0)
            own = mask[reached]
            loss = -F.log_softmax(self.outputs(mask), -1)[self.target]
            moved = moved or bool(_slope(loss, theta).any())
            entropy = -(own * own.clamp(min=1e-9).log() + (1 - own) * (1 - own).clamp(min=1e-9).log())
            if len(own):
                loss = loss + _SIZE * own.sum() + _ENTROPY * entropy.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return theta.sigmoid().detach() if moved else torch.zeros_like(theta)

    @torch.no_grad()
    def by_removal(self, reached: Tensor) -> Tensor:
        scores, keep = torch.zeros(self.count, device=self.x.device, dtype=self.x.dtype), torch.ones_like(reached)
        before = self.kept(None)[self.target]
        for i in reached.nonzero().flatten().tolist():
            scores[i] = before - self.kept(_without(keep, i))[self.target]
        return scores


def _slope(value: Tensor, at: Tensor) -> Tensor:
    """The gradient of a value, 0 where it does not depend on the tensor."""
    if not value.requires_grad:
        return torch.zeros_like(at)
    (slope,) = torch.autograd.grad(value, at, retain_graph=True, allow_unused=True)
    return torch.zeros_like(at) if slope is None else slope


def _times(weight: Tensor | None, multipliers: Tensor) -> Tensor:
    return multipliers if weight is None else weight.to(multipliers.dtype) * multipliers


def _without(keep: Tensor, part: int) -> Tensor:
    keep = keep.clone()
    keep[part] = False
    return keep


def _count(structure: Structure, over: Over) -> int:
    if over == "nodes":
        return structure.num_nodes
    if isinstance(structure, Graph):
        return structure.num_edges
    return structure.num_hyperedges if over == "hyperedges" else structure.v2e.num_edges


def _checked(structure: Any, over: Over | None) -> Over:
    """The kind of parts; None is the edges of a graph and the hyperedges of a hypergraph."""
    if not isinstance(structure, (Graph, Hypergraph)):
        raise ArgumentTypeError("structure", "a Graph or Hypergraph", type(structure).__name__)
    known: Any = _OVER[type(structure)]
    if over is not None and over not in known:
        raise ArgumentError("over", f"one of {', '.join(known)} for a {type(structure).__name__}", repr(over))
    return over or ("edges" if isinstance(structure, Graph) else "hyperedges")


def _reached(network: Callable[..., Tensor], x: Tensor, structure: Structure, node: int, over: Over) -> Tensor:
    """The parts at the nodes on whose features the outputs for the node depend."""
    nodes, made = torch.zeros(len(x), dtype=torch.bool, device=x.device), torch.Generator().manual_seed(0)
    for draw in range(_DRAWS):  # several inputs, because a ReLU may have no gradient at one of them
        moved = torch.randn(x.shape, generator=made).to(x) * x.std().nan_to_num() if draw else torch.zeros_like(x)
        with torch.enable_grad():
            given = (x.detach() + moved).requires_grad_()
            out = network(given, structure)[node]
            mixed = out @ torch.randn(len(out), generator=made).to(out)
        nodes |= (_slope(mixed, given) != 0).any(-1)
    nodes[node] = True
    if over == "nodes":
        return nodes
    if isinstance(structure, Graph):
        return nodes[structure.adj.target.long()] & nodes[structure.adj.indices.long()]
    v2e = structure.v2e
    members = nodes[v2e.indices.long()]
    if over == "memberships":
        return members
    found = torch.zeros(v2e.num_targets, dtype=torch.bool, device=x.device)
    found[v2e.target.long()[members]] = True
    return found


@contextmanager
def _frozen(model: nn.Module) -> Iterator[nn.Module]:
    """A module in eval mode whose parameters need no gradients."""
    needed = [p for p in model.parameters() if p.requires_grad]
    try:
        with eval_mode(model):
            for parameter in needed:
                parameter.requires_grad_(False)
            yield model
    finally:
        for parameter in needed:
            parameter.requires_grad_(True)
