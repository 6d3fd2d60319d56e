"""Knowledge graph embeddings: TransE, TransR, DistMult, ComplEx, RotatE."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.errors import ArgumentError
from hgraph.models.recommend.base import half_square, xavier
from hgraph.nn import project, transr_energy
from hgraph.nn.distances import squared_distances

__all__ = ["ComplEx", "DistMult", "RotatE", "TransE", "TransR", "TripleModel"]


class TripleModel(nn.Module):
    r"""Base of models that score triples by comparing a query for the tail with t, or a query for the head with h.

    .. math:: s(h, r, t) = \mathrm{match}(\mathrm{tail\_query}(h, r), t) = \mathrm{match}(\mathrm{head\_query}(t, r), h)
              + \mathrm{const}(r, t)

    So the scores of all tails (or all heads) for a batch are one matrix product.

    Args:
        num_nodes: N.
        num_relations: R.
        dim: d, dimension of a node.
        relation_dim: dimension of a relation.
    """

    distance = False  # whether match is a distance

    def __init__(self, num_nodes: int, num_relations: int, dim: int, relation_dim: int) -> None:
        super().__init__()
        self.num_nodes, self.num_relations = num_nodes, num_relations
        self.entity = nn.Parameter(torch.randn(num_nodes, dim) / dim**0.5)
        self.relation = nn.Parameter(torch.randn(num_relations, relation_dim) / dim**0.5)

    def tail_query(self, x: Tensor, r: Tensor) -> Tensor:
        """[B, d] the vectors to compare with tails, from heads [B, d] and relations [B, .]."""
        raise NotImplementedError

    def head_query(self, x: Tensor, r: Tensor) -> Tensor:
        """[B, d] the vectors to compare with heads, from tails [B, d] and relations [B, .]."""
        raise NotImplementedError

    def match(self, query: Tensor, rows: Tensor) -> Tensor:
        """[B, N] scores of queries [B, d] with rows [N, d]: inner products, or negative squared distances."""
        return -squared_distances(query, rows) if self.distance else query @ rows.T

    def score(self, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        """[B] plausibility of triples given as ids [B]; higher is more plausible."""
        query = self.tail_query(self.entity.index_select(0, head), self.relation.index_select(0, relation))
        rows = self.entity.index_select(0, tail)
        return -(query - rows).square().sum(-1) if self.distance else (query * rows).sum(-1)

    def score_tails(self, head: Tensor, relation: Tensor, among: Tensor | None = None) -> Tensor:
        """[B, N] scores of every node as the tail; or [B, K], only of nodes ``among`` [K]."""
        rows = self.entity.index_select(0, head), self.relation.index_select(0, relation)
        return self.match(self.tail_query(*rows), self._rows(among))

    def score_heads(self, relation: Tensor, tail: Tensor, among: Tensor | None = None) -> Tensor:
        """[B, N] scores of every node as the head, up to a constant for each (r, t); or [B, K]."""
        rows = self.entity.index_select(0, tail), self.relation.index_select(0, relation)
        return self.match(self.head_query(*rows), self._rows(among))

    def _rows(self, among: Tensor | None) -> Tensor:
        return self.entity if among is None else self.entity.index_select(0, among)

    def loss(
        self, head: Tensor, relation: Tensor, tail: Tensor, l2: float = 0.0, *, among: Tensor | None = None
    ) -> Tensor:
        r"""Cross-entropy of the tail among all nodes, and of the head, with an L2 term of the triple's rows.

        With ``among`` [K] the candidates are these nodes and those of the batch.

        .. math:: -\frac1{2B} \sum \log \operatorname{softmax}_t s(h, r, \cdot) + \log \operatorname{softmax}_h
                  s(\cdot, r, t) + \frac{\lambda}{2B} \sum (\lVert h \rVert^2 + \lVert r \rVert^2 + \lVert t \rVert^2)
        """
        at_head, at_tail = head, tail
        if among is not None:  # distinct candidates, and the positions of the targets among them
            among, place = torch.unique(torch.cat([head, tail, among]), return_inverse=True)
            at_head, at_tail = place[: len(head)], place[len(head) : 2 * len(head)]
        tails, heads = self.score_tails(head, relation, among), self.score_heads(relation, tail, among)
        loss = (F.cross_entropy(tails, at_tail) + F.cross_entropy(heads, at_head)) / 2
        h, t = self.entity.index_select(0, head), self.entity.index_select(0, tail)
        rows = (h, self.relation.index_select(0, relation), t)
        return loss + l2 * half_square(*rows) / max(len(head), 1) if l2 else loss


class TransE(TripleModel):
    r"""A relation translates the head to the tail.

    Use it as the first baseline of triple completion.

    .. math:: s(h, r, t) = -\lVert e_h + e_r - e_t \rVert_1 \quad\text{or}\quad -\lVert e_h + e_r - e_t \rVert_2^2

    Squared distances rank tails by :math:`2 e_h \cdot e_t + 2 e_r \cdot e_t - \lVert e_t \rVert^2`: the terms of head
    and relation are added and do not interact, so on data that needs interactions p = 2 stays near chance level.

    Args:
        num_nodes: N.
        num_relations: R.
        dim: d.
        p: 1 sums absolute differences; 2 sums squared ones, which takes a single matrix product.

    Shapes:
        ids [B] of heads, relations and tails -> [B] (``score``), [B, N] (``score_tails``, ``score_heads``).

    Source: Bordes et al., "Translating Embeddings for Modeling Multi-relational Data", NIPS 2013, section 2;
    node vectors are not normalized.

    >>> model = TransE(3, 1, dim=1)
    >>> model.entity.data, model.relation.data = torch.tensor([[0.0], [1.0], [3.0]]), torch.ones(1, 1)
    >>> model.score(torch.tensor([0]), torch.tensor([0]), torch.tensor([2])).tolist()  # -|0 + 1 - 3|
    [-2.0]
    """

    distance = True

    def __init__(self, num_nodes: int, num_relations: int, *, dim: int = 64, p: Literal[1, 2] = 1) -> None:
        if p not in (1, 2):
            raise ArgumentError("p", "1 or 2", p)
        super().__init__(num_nodes, num_relations, dim, dim)
        self.p = p

    def match(self, query: Tensor, rows: Tensor) -> Tensor:
        return super().match(query, rows) if self.p == 2 else -torch.cdist(query, rows, p=1.0)

    def score(self, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        h, r, t = (
            x.index_select(0, i) for x, i in ((self.entity, head), (self.relation, relation), (self.entity, tail))
        )
        return -(h + r - t).abs().pow(self.p).sum(-1)

    def tail_query(self, x: Tensor, r: Tensor) -> Tensor:
        return x + r

    def head_query(self, x: Tensor, r: Tensor) -> Tensor:
        return x - r


class TransR(TripleModel):
    r"""A relation translates the head to the tail in its own space.

    Use it when an entity plays different roles in different relations.

    .. math:: s(h, r, t) = -\lVert e_h W_r + e_r - e_t W_r \rVert_2^2

    All nodes are projected once for each relation of a batch: N x k at a time, never B x d x k.

    Args:
        num_nodes: N.
        num_relations: R.
        dim: d.
        relation_dim: k, dimension of the relation space.

    Shapes:
        ids [B] of heads, relations and tails -> [B] (``score``), [B, N] (``score_tails``, ``score_heads``).

    Source: Lin et al., "Learning Entity and Relation Embeddings for Knowledge Graph Completion", AAAI 2015, eq. 7, 8.

    >>> model, head, relation = TransR(3, 2, dim=4, relation_dim=2), torch.tensor([0, 1]), torch.tensor([1, 0])
    >>> model.score(head, relation, torch.tensor([2, 2])).shape, model.score_tails(head, relation).shape
    (torch.Size([2]), torch.Size([2, 3]))
    """

    def __init__(self, num_nodes: int, num_relations: int, *, dim: int = 64, relation_dim: int = 64) -> None:
        super().__init__(num_nodes, num_relations, dim, relation_dim)
        self.relation_weight = xavier(num_relations, dim, relation_dim)

    def score(self, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        rows = self.entity.index_select(0, torch.cat([head, tail]))
        h, t = project(rows, self.relation_weight, relation.repeat(2)).chunk(2)
        return -transr_energy(h, self.relation.index_select(0, relation), t)

    def score_tails(self, head: Tensor, relation: Tensor, among: Tensor | None = None) -> Tensor:
        x = project(self.entity.index_select(0, head), self.relation_weight, relation)
        return self._by_relation(x + self.relation.index_select(0, relation), relation, self._rows(among))

    def score_heads(self, relation: Tensor, tail: Tensor, among: Tensor | None = None) -> Tensor:
        x = project(self.entity.index_select(0, tail), self.relation_weight, relation)
        return self._by_relation(x - self.relation.index_select(0, relation), relation, self._rows(among))

    def _by_relation(self, query: Tensor, relation: Tensor, rows: Tensor) -> Tensor:
        order = torch.argsort(relation, stable=True)
        parts = query.index_select(0, order).split(torch.bincount(relation, minlength=self.num_relations).tolist())
        matrices = self.relation_weight.unbind(0)
        found = [-squared_distances(q, rows @ w) for q, w in zip(parts, matrices, strict=True) if len(q)]
        return torch.cat(found).index_select(0, torch.argsort(order)) if found else query.new_zeros(0, len(rows))


class DistMult(TripleModel):
    r"""A relation weights the coordinates of the product of head and tail.

    Use it for symmetric relations.

    .. math:: s(h, r, t) = \sum_k e_{hk}\, e_{rk}\, e_{tk}

    Args:
        num_nodes: N.
        num_relations: R.
        dim: d.

    Shapes:
        ids [B] of heads, relations and tails -> [B] (``score``), [B, N] (``score_tails``, ``score_heads``).

    Source: Yang et al., "Embedding Entities and Relations for Learning and Inference in Knowledge Bases", ICLR 2015,
    eq. 2 with a diagonal matrix.

    >>> model = DistMult(2, 1, dim=2)
    >>> model.entity.data, model.relation.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.5]])
    >>> model.score(torch.tensor([0]), torch.tensor([0]), torch.tensor([1])).tolist()  # 1 * 1 * 3 + 2 * 0.5 * 4
    [7.0]
    """

    def __init__(self, num_nodes: int, num_relations: int, *, dim: int = 64) -> None:
        super().__init__(num_nodes, num_relations, dim, dim)

    def tail_query(self, x: Tensor, r: Tensor) -> Tensor:
        return x * r

    def head_query(self, x: Tensor, r: Tensor) -> Tensor:
        return x * r


class ComplEx(TripleModel):
    r"""Like `DistMult`, with complex numbers: a relation need not be symmetric.

    Use it when some relations are symmetric and others are not.

    .. math:: s(h, r, t) = \mathrm{Re} \sum_k e_{hk}\, e_{rk}\, \overline{e_{tk}}

    Args:
        num_nodes: N.
        num_relations: R.
        dim: d, even: d / 2 real parts, then d / 2 imaginary parts.

    Shapes:
        ids [B] of heads, relations and tails -> [B] (``score``), [B, N] (``score_tails``, ``score_heads``).

    Source: Trouillon et al., "Complex Embeddings for Simple Link Prediction", ICML 2016, eq. 9 and 11.

    >>> model = ComplEx(2, 1, dim=2)
    >>> model.entity.data, model.relation.data = torch.eye(2), torch.tensor([[0.0, 1.0]])  # 1 and i; i
    >>> model.score(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([1, 0])).tolist()
    [1.0, -1.0]
    """

    def __init__(self, num_nodes: int, num_relations: int, *, dim: int = 64) -> None:
        super().__init__(num_nodes, num_relations, _even(dim), dim)

    def tail_query(self, x: Tensor, r: Tensor) -> Tensor:
        return complex_product(x, *r.chunk(2, -1))

    def head_query(self, x: Tensor, r: Tensor) -> Tensor:
        real, imaginary = r.chunk(2, -1)
        return complex_product(x, real, -imaginary)


class RotatE(TripleModel):
    r"""A relation rotates each complex coordinate of the head by an angle.

    Use it when relations are inverses or compositions of others.

    .. math:: s(h, r, t) = -\lVert e_h \circ e^{i \theta_r} - e_t \rVert_2^2

    Args:
        num_nodes: N.
        num_relations: R.
        dim: d, even: d / 2 real parts, then d / 2 imaginary parts.

    Shapes:
        ids [B] of heads, relations and tails -> [B] (``score``), [B, N] (``score_tails``, ``score_heads``).

    Source: Sun et al., "RotatE: Knowledge Graph Embedding by Relational Rotation in Complex Space", ICLR 2019, eq. 2.
    The distance is squared; the published code sums the absolute values of the coordinates.

    >>> model = RotatE(2, 1, dim=2)
    >>> model.entity.data, model.relation.data = torch.eye(2), torch.tensor([[torch.pi / 2]])  # nodes 1 and i
    >>> model.score_tails(torch.tensor([0]), torch.tensor([0])).argmax().item()  # a quarter turn from 1 is i
    1
    """

    distance = True

    def __init__(self, num_nodes: int, num_relations: int, *, dim: int = 64) -> None:
        super().__init__(num_nodes, num_relations, _even(dim), dim // 2)
        nn.init.uniform_(self.relation, -torch.pi, torch.pi)

    def tail_query(self, x: Tensor, r: Tensor) -> Tensor:
        return complex_product(x, torch.cos(r), torch.sin(r))

    def head_query(self, x: Tensor, r: Tensor) -> Tensor:
        return complex_product(x, torch.cos(r), -torch.sin(r))


def complex_product(x: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """The product of complex vectors; x holds its real parts, then its imaginary parts."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * real - b * imaginary, a * imaginary + b * real], -1)


def _even(dim: int) -> int:
    if dim < 2 or dim % 2:
        raise ArgumentError("dim", "an even number, for real and imaginary parts", dim)
    return dim
