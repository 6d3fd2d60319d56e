"""Bases of layers with two weighted sums, nodes -> hyperedges -> nodes: `TwoStepLayer` and `TwoStepConv`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph._torch import is_eager
from hgraph.cache import CachedOperator, cached, can_cache_compiled
from hgraph.checks import check_channels
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph
from hgraph.structure.algebra import needs_check, refuse_degrees, refuse_degrees_of

__all__ = ["Steps", "TwoStepConv", "TwoStepLayer", "can_check", "checked", "steps_of", "weighted", "weighted_e2v"]


class Steps(NamedTuple):
    """The weighted structures G [M, N] and S [N, M] of the two steps, and the row sums G 1 [M, 1]."""

    gather: Adjacency
    scatter: Adjacency
    ones: Tensor


def steps_of(layer: type[TwoStepLayer], x: Tensor, hypergraph: Hypergraph) -> Steps:
    """The steps of a layer class in the dtype of x (at least float32), cached."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    fields = [*hypergraph.v2e.fields(), hypergraph.hyperedge_weight]
    if can_cache_compiled(fields):
        to_hyperedges, to_nodes, ones = layer._weights(fields, dtype)
        return Steps(hypergraph.v2e.with_weight(to_hyperedges), hypergraph.e2v.with_weight(to_nodes), ones)
    return cached(
        hypergraph, (layer, dtype), lambda: _steps(layer, checked(hypergraph, dtype, layer.node_power), dtype)
    )


def checked(
    hypergraph: Hypergraph, dtype: torch.dtype, node_power: float | None, hyperedge_power: float = -1.0
) -> Hypergraph:
    """The argument, after a check that these powers of its degrees are finite in this dtype.

    Only weights on a CPU without gradients are checked: on another device, it would synchronize.
    """
    given = [w for w in (hypergraph.v2e.weight, hypergraph.hyperedge_weight) if w is not None]
    if node_power is None or not given or not can_check(hypergraph):
        return hypergraph
    refuse_degrees_of(hypergraph.v2e, "row")
    steep = min(node_power, hyperedge_power) < -1  # then powers of usual numbers may be infinite too
    if steep or len(given) > 1 or needs_check(given[0].to(dtype)):  # a product may be tiny, although no factor is
        h = weighted(hypergraph, dtype)
        size = dataclasses.replace(
            h,
            v2e=h.v2e.with_weight(None if h.v2e.weight is None else h.v2e.weight.abs()),
            hyperedge_weight=None if h.hyperedge_weight is None else h.hyperedge_weight.abs(),
        )
        refuse_degrees(h.node_degree(), size.node_degree(), power=node_power)
        of_hyperedges = h.hyperedge_degree(), size.hyperedge_degree()
        refuse_degrees(*of_hyperedges, power=hyperedge_power, at_every="hyperedge")
    return hypergraph


def can_check(hypergraph: Hypergraph) -> bool:
    """Whether the weights can be read here: on a CPU, without gradients, compiler or transform."""
    weights = (hypergraph.v2e.weight, hypergraph.hyperedge_weight)
    on_cpu = hypergraph.device.type == "cpu"
    return on_cpu and is_eager() and not any(w is not None and w.requires_grad for w in weights)


def weighted(hypergraph: Hypergraph, dtype: torch.dtype) -> Hypergraph:
    """Return the hypergraph with incidence weights (default: ones) and hyperedge weights in this dtype.

    Degrees and their powers are then computed in that dtype: a float64 layer must not divide by float32 roots.
    """
    v2e = hypergraph.v2e
    ones = torch.ones(v2e.num_edges, dtype=dtype, device=v2e.device)

    def cast(weight: Tensor | None) -> Tensor | None:
        return None if weight is None else weight.to(dtype)

    return dataclasses.replace(
        hypergraph,
        v2e=v2e.with_weight(ones if v2e.weight is None else v2e.weight.to(dtype)),
        hyperedge_weight=cast(hypergraph.hyperedge_weight),
        node_weight=cast(hypergraph.node_weight),
    )


def weighted_e2v(hypergraph: Hypergraph) -> Adjacency:
    """``hypergraph.e2v`` with the weight w_e h(v, e) of both hyperedge and incidence; needs incidence weights."""
    e2v = hypergraph.e2v
    if hypergraph.hyperedge_weight is None:
        return e2v
    assert e2v.weight is not None  # noqa: S101 - see `weighted`
    return e2v.with_weight(hypergraph.hyperedge_weight[e2v.indices] * e2v.weight)


def _steps(layer: type[TwoStepLayer], hypergraph: Hypergraph, dtype: torch.dtype) -> Steps:
    gather, scatter = layer.operators(weighted(hypergraph, dtype))
    return Steps(gather, scatter, gather.target_degree().unsqueeze(-1))


def _recipe(layer: type[TwoStepLayer]) -> Any:
    """The edge weights of both steps, and G 1, as a cached operator."""

    def recipe(fields: Sequence[Tensor | None], dtype: torch.dtype) -> list[Tensor | None]:
        hypergraph = Hypergraph(Adjacency(*fields[:-1]), fields[-1])  # type: ignore[arg-type]
        steps = _steps(layer, hypergraph, dtype)
        return [steps.gather.weight, steps.scatter.weight, steps.ones]

    return recipe


class TwoStepLayer(nn.Module):
    """Base of layers with two sums whose weights do not depend on features: a subclass defines the weights.

    Use it for layers that do more between the sums than `TwoStepConv`: define `operators` and call `steps` in the
    forward. Caching, precision and compilation are handled here. Set ``node_power`` if the weights divide by node
    degrees: degrees that cannot be divided by are then refused.
    """

    node_power: ClassVar[float | None] = None  # power of the node degrees in `operators`; None if it does not use them
    _weights: ClassVar[CachedOperator]

    def __init_subclass__(cls, **options: Any) -> None:
        """Give each subclass its own operator for compiled code."""
        super().__init_subclass__(**options)
        cls._weights = CachedOperator(f"{cls.__module__}.{cls.__qualname__}", _recipe(cls))

    @staticmethod
    def operators(hypergraph: Hypergraph) -> tuple[Adjacency, Adjacency]:
        """G and S with all factors in their edge weights, in the dtype of the weights of ``hypergraph``.

        They have the edges of ``hypergraph.v2e`` and ``hypergraph.e2v``. The argument always has incidence
        weights (ones for unweighted hypergraphs).
        """
        raise NotImplementedError

    def steps(self, x: Tensor, hypergraph: Hypergraph) -> Steps:
        """Both weighted structures for features in the dtype of x, cached."""
        return steps_of(type(self), x, hypergraph)


class TwoStepConv(TwoStepLayer):
    r"""Base of convolutions: a linear map, then two sums whose weights do not depend on features.

    Use it for custom convolutions: define `operators`; the cheaper order of product and sums is chosen here.

    .. math:: X' = S \, G \, (X \Theta + b)

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node.
        bias: whether to add b before the sums.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    >>> class Sums(TwoStepConv):  # G = H^T, S = H: sum over nodes that share a hyperedge
    ...     @staticmethod
    ...     def operators(hypergraph):
    ...         return hypergraph.v2e, hypergraph.e2v
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> Sums(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.linear = nn.Linear(in_channels, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does."""
        self.linear.reset_parameters()

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        r""":math:`S G (X \Theta + b)`.

        If there are at most as many hyperedges as nodes and messages get no wider, computes :math:`S (G X \Theta + (G
        1) b)`: the product then has M rows, and the first step needs no gradient for constant features.
        """
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        steps = self.steps(x, hypergraph)
        gather, scatter = steps.gather, steps.scatter
        if self.out_channels < self.in_channels or gather.num_targets > gather.num_sources:
            return propagate(scatter, propagate(gather, self.linear(x)))
        return self._from_gathered(propagate(gather, x), steps)

    def prepare(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        r"""The parameter-free part, :math:`G X` [..., M, F].

        Compute it once for constant features: ``from_prepared(prepare(x, hypergraph), hypergraph)`` equals the layer.
        """
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        return propagate(self.steps(x, hypergraph).gather, x)

    def from_prepared(self, prepared: Tensor, hypergraph: Hypergraph) -> Tensor:
        """The convolution, from the result of `prepare`."""
        return self._from_gathered(prepared, self.steps(prepared, hypergraph))

    def _from_gathered(self, gathered: Tensor, steps: Steps) -> Tensor:
        y = F.linear(gathered, self.linear.weight)
        if self.linear.bias is not None:
            y = torch.addcmul(y, steps.ones.to(y.dtype), self.linear.bias.to(y.dtype))
        return propagate(steps.scatter, y)
