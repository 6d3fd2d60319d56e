"""TransR over a knowledge graph (Lin et al., AAAI 2015), and KGAT's attention based on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.cache import cached
from hgraph.errors import ArgumentError
from hgraph.nn.graph.by_relation import inverse_counts
from hgraph.ops import edge_score, edge_softmax
from hgraph.structure import KnowledgeGraph

__all__ = ["kg_attention", "project", "relation_laplacian", "transr_energy", "transr_loss"]


def project(x: Tensor, weight: Tensor, relation: Tensor) -> Tensor:
    r"""Multiply each row by the matrix of its relation, :math:`y_b = x_b W_{r_b}`, without a B x d x k tensor.

    Use it to map entities into the spaces of their relations.

    Args:
        x: [B, d].
        weight: [R, d, k].
        relation: [B] integers in 0 .. R - 1.

    Returns:
        [B, k].

    Raises:
        ArgumentError: a relation without a matrix.

    >>> project(torch.ones(2, 1), torch.tensor([[[2.0]], [[3.0]]]), torch.tensor([1, 0])).tolist()
    [[3.0], [2.0]]
    """
    order = torch.argsort(relation, stable=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    counts = torch.bincount(relation, minlength=weight.shape[0]).tolist()
    return _project_runs(x.index_select(0, order), weight, counts).index_select(0, back)


def _project_runs(x: Tensor, weight: Tensor, counts: list[int]) -> Tensor:
    """Rows sorted by relation, with the given counts, through the matrix of their relation."""
    if len(counts) != len(weight):
        raise ArgumentError("relation", f"ids below {len(weight)}, the number of matrices", len(counts) - 1)
    matrices = weight.unbind(0)  # one gradient for all: indexing would allocate a full-size one for each relation
    runs = [run @ matrix for run, matrix in zip(x.split(counts), matrices, strict=True) if len(run)]
    return torch.cat(runs) if runs else x.new_zeros(0, weight.shape[2])


def transr_energy(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    r"""Implausibility of triples, from vectors in the space of their relations.

    Use it to rank triples: lower is more plausible.

    .. math:: g(h, r, t) = \lVert e_h W_r + e_r - e_t W_r \rVert_2^2

    Args:
        head: [B, k], projected by :func:`project`.
        relation: [B, k].
        tail: [B, k], projected.

    Returns:
        [B]; low is plausible.

    Source: Lin et al. 2015, eq. 8; Wang et al., "KGAT", KDD 2019, eq. 1.

    >>> transr_energy(torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([[5.0]])).tolist()
    [4.0]
    """
    return (head + relation - tail).square().sum(-1)


def transr_loss(
    x: Tensor,
    vectors: Tensor,
    weight: Tensor,
    head: Tensor,
    relation: Tensor,
    tail: Tensor,
    other: Tensor,
    *,
    l2: float = 0.0,
    normalize: bool = False,
) -> Tensor:
    r"""Pairwise loss of triples against triples with another tail, with an L2 term of the projected vectors.

    Use it to train entity and relation vectors on triples.

    .. math:: \frac1B \sum \mathrm{softplus}(g(h, r, t) - g(h, r, t'))
              + \frac{\lambda}{2B} \sum (\lVert e_h W_r \rVert^2 + \lVert e_r \rVert^2
              + \lVert e_t W_r \rVert^2 + \lVert e_{t'} W_r \rVert^2)

    Args:
        x: [N, d] of the nodes.
        vectors: [R, k] of the relations.
        weight: [R, d, k] of the relations.
        head: [B] ids of the triples' heads.
        relation: [B] their relations.
        tail: [B] their tails.
        other: [B] the negative tails.
        l2: lambda.
        normalize: whether to scale projected vectors and relation vectors to length one first.

    Returns:
        A scalar; 0 without triples.

    Raises:
        ArgumentError: a relation without a matrix.

    Source: Wang et al., "KGAT", KDD 2019, eq. 1 and 2.

    >>> ids = [torch.tensor([i]) for i in (0, 0, 1, 2)]
    >>> transr_loss(torch.tensor([[1.0], [2.0], [5.0]]), torch.ones(1, 1), torch.ones(1, 1, 1), *ids)
    tensor(0.0001)
    """
    order = torch.argsort(relation, stable=True)  # the mean does not depend on the order
    counts = torch.bincount(relation, minlength=weight.shape[0]).tolist()
    rows = x.index_select(0, torch.stack([head, tail, other], 1).index_select(0, order).flatten())
    projected = _project_runs(rows, weight, [3 * count for count in counts])
    r = vectors.index_select(0, relation.index_select(0, order))
    if normalize:
        projected, r = (F.normalize(x, dim=-1, eps=1e-6) for x in (projected, r))
    h, t, o = projected.view(-1, 3, projected.shape[1]).unbind(1)
    size = max(len(head), 1)
    loss = F.softplus(transr_energy(h, r, t) - transr_energy(h, r, o)).sum() / size
    return loss + l2 * (projected.square().sum() + r.square().sum()) / (2 * size) if l2 else loss


def kg_attention(x: Tensor, relation: Tensor, weight: Tensor, kg: KnowledgeGraph) -> Tensor:
    r"""Attention weights of each triple among all triples of its head, across relations.

    Use it to weight triples before `KGATConv`.

    .. math:: \pi(h, r, t) = (e_t W_r) \cdot \tanh(e_h W_r + e_r), \qquad
              \alpha_{hrt} = \operatorname{softmax}_{(r', t') \in \mathcal N_h} \pi(h, r', t')

    Triples are processed by relation and nodes projected once per relation: the memory is that of the nodes of the
    largest relation times k, and E. Parallel triples get separate weights.

    Args:
        x: [N, d] of the nodes.
        relation: [R, k] of the relations.
        weight: [R, d, k] of the relations.
        kg: N nodes, R relations; its weights are ignored.

    Returns:
        [E] in the order of the edges; the weights of each head with triples sum to 1.

    Source: Wang et al., "KGAT", eq. 4 and 5.

    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("a", "s", "b"), ("b", "r", "a")])
    >>> kg_attention(torch.ones(2, 3), torch.ones(2, 2), torch.zeros(2, 3, 2), kg).tolist()
    [0.5, 0.5, 1.0]
    """
    wanted = {"x": (kg.num_nodes, x), "relation": (kg.num_relations, relation), "weight": (kg.num_relations, weight)}
    for name, (count, tensor) in wanted.items():
        if len(tensor) != count:
            raise ArgumentError(name, f"{count} rows", len(tensor))
    scores = []
    for block in kg.blocks():
        matrix = weight[block.relation]
        query = torch.tanh(x.index_select(0, block.head) @ matrix + relation[block.relation])
        key = x.index_select(0, block.tail) @ matrix
        scores.append(edge_score(block.adj, query.unsqueeze(1), key.unsqueeze(1)).squeeze(1))
    if not scores:
        return x.new_zeros(0)
    place = cached(kg, "place_in_by_relation", lambda: torch.argsort(kg.by_relation.long()))
    return edge_softmax(kg.adj, torch.cat(scores).index_select(0, place))


def relation_laplacian(kg: KnowledgeGraph, *, dtype: torch.dtype | None = None) -> Tensor:
    r"""The sum over relations of row-normalized adjacencies, :math:`\sum_r D_r^{-1} A_r`, as a weight for each edge.

    Use it for edge weights that do not depend on embeddings.

    For a head with triples of q relations the row sums to q. KGAT's published code propagates over this matrix.

    Args:
        kg: the knowledge graph; its weights are ignored.
        dtype: of the result, that of the model; torch's default by default.

    Returns:
        [E].

    >>> relation_laplacian(KnowledgeGraph.from_names([("a", "r", "b"), ("a", "r", "c"), ("a", "s", "b")])).tolist()
    [0.5, 1.0, 0.5]
    """
    return inverse_counts(kg).to(torch.get_default_dtype() if dtype is None else dtype, copy=True)
