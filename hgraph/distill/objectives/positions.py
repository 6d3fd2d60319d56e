"""Positions of nodes in a structure, as features for networks without a structure."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.structure import Graph, Hypergraph

__all__ = ["position_features"]


def position_features(structure: Graph | Hypergraph, dim: int = 16) -> Tensor:
    r"""Spectral coordinates of the nodes: the leading left singular vectors of the normalized incidence.

    .. math:: D_v^{-1/2} H D_e^{-1/2} = U \Sigma V^\top, \qquad p_v = \sqrt N \, U_{v, 1..dim}

    For graphs, H is the adjacency matrix. Signs are chosen so that the entry of largest magnitude of each column is
    positive. Isolated nodes and columns beyond the rank are zero.

    Args:
        structure: a graph or hypergraph; weights are ignored.
        dim: number of coordinates, at least 1.

    Returns:
        [N, dim] float32, on the device of the structure. The coordinates depend on this structure: append them to the
        features of a student only if they are available for new nodes too.

    Source: replaces DeepWalk in NOSMOG (Tian et al., ICLR 2023); deterministic, without random walks.

    >>> two = Hypergraph.from_lists([[0, 1], [2, 3]], num_nodes=5)
    >>> p = position_features(two, 2)
    >>> p.shape, bool(torch.allclose(p[0], p[1], atol=1e-5)), bool((p[4] == 0).all())
    (torch.Size([5, 2]), True, True)
    """
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise ArgumentError("dim", "1 or more", dim)
    import scipy.sparse as sp
    from scipy.sparse.linalg import svds

    adj = structure.adj if isinstance(structure, Graph) else structure.e2v
    rows, columns = adj.target.cpu().numpy(), adj.indices.cpu().numpy()
    incidence = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=adj.shape)
    scales = [np.asarray(incidence.sum(axis)).ravel() for axis in (1, 0)]
    left, right = (np.divide(1, np.sqrt(s), out=np.zeros_like(s), where=s > 0) for s in scales)
    scaled = sp.diags(left) @ incidence @ sp.diags(right)
    rank = min(dim, min(adj.shape) - 1)
    out = np.zeros((adj.num_targets, dim))
    if rank >= 1 and len(rows):
        start = (
            np.ones(min(adj.shape)) + np.arange(min(adj.shape)) % 7 / 7
        )  # a fixed start makes the result deterministic
        u, sigma, _ = svds(scaled, k=rank, v0=start)
        order = np.argsort(-sigma, kind="stable")
        u = u[:, order] * (sigma[order] > 1e-8)
        signs = np.sign(u[np.abs(u).argmax(0), np.arange(rank)])
        out[:, :rank] = u * np.where(signs == 0, 1, signs) * np.sqrt(adj.num_targets)
    return torch.from_numpy(out).float().to(adj.device)
