"""Computation of explanations: a node's output when parts of the structure are scaled or removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Graph, Hypergraph
from hgraph.train import eval_mode

__all__ = ["METHODS", "Explained", "Over", "Structure", "checked", "frozen", "reached", "without"]

Over = Literal["edges", "memberships", "hyperedges", "nodes"]
Structure = Graph | Hypergraph
METHODS = ("gradient", "integrated", "mask", "removal")
_OVER = {Graph: ("edges", "nodes"), Hypergraph: ("memberships", "hyperedges", "nodes")}
_RATE, _DRAWS = 0.1, 4
_SIZE, _ENTROPY = 0.05, 0.1  # weights of the two penalties on masks


@dataclass(frozen=True)
class Explained:
    """A network, and the output that is explained."""

    network: nn.Module
    x: Tensor
    structure: Structure
    node: int
    target: int
    over: Over

    @property
    def count(self) -> int:
        """The number of parts."""
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
        """The probability of the class with only the parts in ``keep``."""
        return float(self.kept(keep).softmax(-1)[self.target])

    @torch.no_grad()
    def margin(self, keep: Tensor) -> float:
        """The output of the class minus that of the best other one."""
        outputs = self.kept(keep)
        others = torch.cat([outputs[: self.target], outputs[self.target + 1 :]])
        return float(outputs[self.target] - others.max()) if len(others) else float("inf")

    def by_gradient(self, steps: int) -> Tensor:
        """The gradient with respect to the multipliers, at 1 (one step) or averaged from 0 to 1."""
        total = torch.zeros(self.count, device=self.x.device, dtype=self.x.dtype)
        for step in range(steps):
            at = (step + 0.5) / steps if steps > 1 else 1.0  # the midpoint rule
            multipliers = torch.full_like(total, at).requires_grad_()
            total += _slope(self.outputs(multipliers)[self.target], multipliers) / steps
        return total

    def by_mask(self, reached: Tensor, steps: int, seed: int) -> Tensor:
        """Learned masks that are small and keep the class probable; all 0 if the output does not depend on them."""
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
        """The output minus the output without the part, for each part."""
        scores, keep = torch.zeros(self.count, device=self.x.device, dtype=self.x.dtype), torch.ones_like(reached)
        before = self.kept(None)[self.target]
        for i in reached.nonzero().flatten().tolist():
            scores[i] = before - self.kept(without(keep, i))[self.target]
        return scores


def _slope(value: Tensor, at: Tensor) -> Tensor:
    """The gradient of a value, 0 where it does not depend on the tensor."""
    if not value.requires_grad:
        return torch.zeros_like(at)
    (slope,) = torch.autograd.grad(value, at, retain_graph=True, allow_unused=True)
    return torch.zeros_like(at) if slope is None else slope


def _times(weight: Tensor | None, multipliers: Tensor) -> Tensor:
    return multipliers if weight is None else weight.to(multipliers.dtype) * multipliers


def without(keep: Tensor, part: int) -> Tensor:
    """The mask without one more part."""
    keep = keep.clone()
    keep[part] = False
    return keep


def _count(structure: Structure, over: Over) -> int:
    if over == "nodes":
        return structure.num_nodes
    if isinstance(structure, Graph):
        return structure.num_edges
    return structure.num_hyperedges if over == "hyperedges" else structure.v2e.num_edges


def checked(structure: Any, over: Over | None) -> Over:
    """Check the kind of parts; None means the edges of a graph or the hyperedges of a hypergraph."""
    if not isinstance(structure, (Graph, Hypergraph)):
        raise ArgumentTypeError("structure", "a Graph or Hypergraph", type(structure).__name__)
    known: Any = _OVER[type(structure)]
    if over is not None and over not in known:
        raise ArgumentError("over", f"one of {', '.join(known)} for a {type(structure).__name__}", repr(over))
    return over or ("edges" if isinstance(structure, Graph) else "hyperedges")


def reached(network: Callable[..., Tensor], x: Tensor, structure: Structure, node: int, over: Over) -> Tensor:
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
def frozen(model: nn.Module) -> Iterator[nn.Module]:
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
