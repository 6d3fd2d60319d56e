"""Fixed diffusion of features over a hypergraph, before a network that needs no structure."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hgraph.cache import cached, cached_for
from hgraph.checks import structure as check_structure
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.power_mean import check_power, power_mean
from hgraph.nn.hypergraph.two_step import weighted, weighted_e2v
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph
from hgraph.structure.algebra import inverse_power

__all__ = ["diffuse", "diffuse_nonlinear", "smoothing"]


def smoothing(hypergraph: Hypergraph, dtype: torch.dtype, *, by_size: bool = True) -> Callable[[Tensor], Tensor]:
    r"""The symmetric operator of an expansion with self-loops, as a function of features [..., N, F].

    .. math:: A = D^{-1/2} (K + I) D^{-1/2}, \qquad K = H W D_e^{-1} H^\top \text{ or } K = H W H^\top

    with D the row sums of K + I. Its eigenvalues are at most 1. K is never formed.

    Args:
        hypergraph: the structure; its weights are used.
        dtype: dtype of the features.
        by_size: whether hyperedges are divided by their size, the first K (star expansion); else the second (clique
            expansion).
    """
    wide = torch.promote_types(dtype, torch.float32)

    def compute() -> tuple[Adjacency, Adjacency, Tensor]:
        h = weighted(hypergraph, wide)
        v2e, e2v = h.v2e.normalize("row") if by_size else h.v2e, weighted_e2v(h)
        assert v2e.weight is not None and e2v.weight is not None  # noqa: S101, PT018 - every incidence has a weight
        reached = propagate(v2e, v2e.weight.new_ones(h.num_nodes, 1))
        degree = 1 + propagate(e2v, reached).squeeze(-1)
        root = inverse_power(degree, -0.5)
        to_hyperedges = v2e.with_weight(v2e.weight * root[v2e.indices])
        to_nodes = e2v.with_weight(e2v.weight * root[e2v.target])
        return to_hyperedges, to_nodes, inverse_power(degree, -1.0).unsqueeze(-1)

    gather, scatter, own = cached(hypergraph, ("smoothing", wide, by_size), compute)
    return lambda x: propagate(scatter, propagate(gather, x)) + own.to(x.dtype) * x


def diffuse(x: Tensor, hypergraph: Hypergraph, num_steps: int, alpha: float) -> Tensor:
    r"""Smooth features over the star expansion, with an initial residual in every step.

    Use it once, before an MLP: then messages cost no training time.

    .. math:: Z^0 = X, \qquad Z^{l+1} = (1 - \alpha)\, A_S Z^l + \alpha X

    with :math:`A_S` of `smoothing`. For features without gradients the result is cached.

    Args:
        x: [..., N, F] features.
        hypergraph: the structure.
        num_steps: L.
        alpha: weight of the initial features X in each step.

    Returns:
        [..., N, F].

    Raises:
        ArgumentError: alpha outside 0 .. 1, a negative number of steps, or a wrong shape.

    Source: Tang, Liu, Jiang, Chen and Dong, "Training-Free Message Passing for Learning on Hypergraphs", ICLR 2025.

    >>> hg = Hypergraph.from_lists([[0, 1]], num_nodes=2)
    >>> diffuse(torch.tensor([[1.0], [0.0]]), hg, num_steps=1, alpha=0.0).flatten().tolist()
    [0.75, 0.25]
    """
    _check(x, hypergraph, num_steps, alpha)

    def compute() -> Tensor:
        smooth, z = smoothing(hypergraph, x.dtype), x
        for _ in range(num_steps):
            z = (1 - alpha) * smooth(z) + alpha * x
        return z

    return cached_for(hypergraph, x, ("linear", num_steps, alpha), compute)


def diffuse_nonlinear(x: Tensor, hypergraph: Hypergraph, *, power: float, num_steps: int, alpha: float) -> Tensor:
    r"""Features diffused by generalized means over hyperedges, rescaled in every step.

    Use it once, before a network of rows, where the mean over a hyperedge says too little.

    .. math:: z_e = \Big(\frac{1}{d_e} \sum_v h(v, e) \Big(\frac{f_v}{\sqrt{d_v}}\Big)^p\Big)^{1/p}, \qquad
              G_v = \frac{1 - \alpha}{\sqrt{d_v}} \sum_e w_e h(v, e)\, z_e + \alpha\, u_v, \qquad
              F \leftarrow \frac{G}{\varphi(G)}, \qquad \varphi(F) = 2 \sqrt{\textstyle\sum_e \lVert z_e \rVert^2}

    from :math:`F = U = X / \varphi(X)`. A node without a hyperedge keeps its part of U. For features without gradients
    the result is cached.

    Args:
        x: [..., N, F] features, not negative unless p is 1, see `power_mean`.
        hypergraph: the structure.
        power: p, other than 0, of size 50 at most; large values come close to the maximum over a hyperedge.
        num_steps: number of steps; the error shrinks by 1 - alpha per step.
        alpha: weight of U.

    Returns:
        [..., N, F].

    Raises:
        ArgumentError: p = 0 or too large, alpha outside 0 .. 1, a negative number of steps, or a wrong shape.

    Source: Prokopchik, Benson and Tudisco, "Nonlinear Feature Diffusion on Hypergraphs", ICML 2022.

    >>> hg = Hypergraph.from_lists([[0, 1]], num_nodes=2)
    >>> diffuse_nonlinear(torch.tensor([[1.0], [0.0]]), hg, power=1, num_steps=50, alpha=0.5).flatten().tolist()
    [0.75, 0.25]
    """
    _check(x, hypergraph, num_steps, alpha)
    check_power(power)

    def compute() -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        gather, scatter, root = cached(hypergraph, ("hypernd", wide), lambda: _roots(weighted(hypergraph, wide)))

        def means(f: Tensor) -> Tensor:
            return power_mean(gather, f * root, power)

        def scaled(f: Tensor) -> Tensor:
            size = 2 * means(f).square().sum((-2, -1), keepdim=True).sqrt()
            return f / torch.where(size == 0, 1.0, size)

        u = f = scaled(x.to(wide))
        for _ in range(num_steps):
            f = scaled((1 - alpha) * root * propagate(scatter, means(f)) + alpha * u)
        return f.to(x.dtype)

    return cached_for(hypergraph, x, ("nonlinear", power, num_steps, alpha), compute)


def _roots(h: Hypergraph) -> tuple[Adjacency, Adjacency, Tensor]:
    """The averages of hyperedges, the weighted sums of nodes, and 1 / sqrt(degree) [N, 1]."""
    return h.v2e.normalize("row"), weighted_e2v(h), inverse_power(h.node_degree(), -0.5).unsqueeze(-1)


def _check(x: Tensor, hypergraph: Hypergraph, num_steps: int, alpha: float) -> None:
    check_structure(hypergraph, Hypergraph)
    if x.dim() < 2 or x.shape[-2] != hypergraph.num_nodes:
        raise ArgumentError("x", f"shape [..., {hypergraph.num_nodes}, F]", f"shape {list(x.shape)}")
    if num_steps < 0:
        raise ArgumentError("num_steps", "0 or more", num_steps)
    if not 0 <= alpha <= 1:
        raise ArgumentError("alpha", "a weight from 0 to 1", alpha)
