"""`SoftAdjacency` and `SoftHypergraph`: dense, learned, differentiable participation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.base import Structure
from hgraph.structure.choice import topk_mask
from hgraph.structure.validate import check_integers, require

__all__ = ["SoftAdjacency", "SoftHypergraph"]


@dataclass(frozen=True, eq=False)
class SoftAdjacency(Structure):
    """A dense T x S structure whose entries are differentiable weights, with leading batch dimensions.

    Use it when a network computes the edge weights and gradients must reach them. Memory is O(T S).

    The operators treat it as an `Adjacency` in which every target receives from every source that the mask allows:
    ``propagate(soft, x)`` is the batched product ``weight @ x``.

    Args:
        weight: [..., T, S], the weight of source s for target t; 0 where the mask is False.
        mask: None, or booleans that broadcast to the weight's shape ([..., 1, S] for padded sources); False means
            no edge.

    >>> soft = SoftAdjacency.from_weight(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    >>> soft.num_targets, soft.topk(1).weight.tolist()
    (2, [[0.5, 0.0], [1.0, 0.0]])
    """

    weight: Tensor
    mask: Tensor | None = None

    @classmethod
    def from_weight(cls, weight: Tensor, *, mask: Tensor | None = None) -> SoftAdjacency:
        """Check a participation matrix [..., T, S] and wrap it; weights where ``mask`` is False become 0.

        Raises:
            ArgumentError: fewer than two dimensions, or a mask that does not broadcast to the weight.
            ArgumentTypeError: not a floating-point tensor, or a mask that is not boolean.
        """
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise ArgumentTypeError("weight", "a floating-point tensor", _kind(weight))
        if weight.dim() < 2:
            raise ArgumentError("weight", "shape [..., T, S]", f"shape {list(weight.shape)}")
        return cls(weight) if mask is None else cls(weight)._where(mask)

    @property
    def num_targets(self) -> int:
        """T, the number of rows."""
        return self.weight.shape[-2]

    @property
    def num_sources(self) -> int:
        """S, the number of columns."""
        return self.weight.shape[-1]

    @property
    def shape(self) -> tuple[int, int]:
        """(T, S)."""
        return self.num_targets, self.num_sources

    def transpose(self) -> SoftAdjacency:
        """The S x T structure with the transposed weights."""
        return SoftAdjacency(self.weight.mT, None if self.mask is None else self.mask.mT)

    def masked(self, keep: Tensor) -> SoftAdjacency:
        """Mask out the sources where ``keep``, boolean [..., S], is False: they get weight 0 and no gradient."""
        if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
            raise ArgumentTypeError("keep", f"a boolean mask [..., {self.num_sources}]", _kind(keep))
        if keep.dim() < 1 or keep.shape[-1] != self.num_sources:
            raise ArgumentError("keep", f"a boolean mask [..., {self.num_sources}]", f"shape {list(keep.shape)}")
        return self._where(keep.unsqueeze(-2))

    def topk(self, top_k: int) -> SoftAdjacency:
        """Only the k largest weights of each row remain edges; gradients flow through these.

        >>> SoftAdjacency.from_weight(torch.tensor([[0.2, 0.7, 0.1]])).topk(2).mask
        tensor([[ True,  True, False]])
        """
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= self.num_sources:
            raise ArgumentError("top_k", f"1 .. {self.num_sources}", top_k)
        weight = self.weight if self.mask is None else self.weight.masked_fill(~self.mask, float("-inf"))
        return self._where(topk_mask(weight, top_k))

    def _where(self, mask: Tensor) -> SoftAdjacency:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise ArgumentTypeError("mask", "a boolean tensor", _kind(mask))
        expected = f"a shape that broadcasts to {list(self.weight.shape)}"
        if mask.dim() > self.weight.dim():
            raise ArgumentError("mask", expected, f"shape {list(mask.shape)}")
        for own, size in zip(reversed(mask.shape), reversed(self.weight.shape), strict=False):
            if own not in (1, size):
                raise ArgumentError("mask", expected, f"shape {list(mask.shape)}")
        mask = mask if self.mask is None else mask & self.mask
        return SoftAdjacency(torch.where(mask, self.weight, 0.0), mask)

    def equal(self, other: SoftAdjacency) -> bool:
        """Whether both hold the same weights, bit for bit, and the same edges."""
        if not isinstance(other, SoftAdjacency) or not torch.equal(self.weight, other.weight.to(self.device)):
            return False
        own, others = (torch.ones(1, dtype=torch.bool) if a.mask is None else a.mask.cpu() for a in (self, other))
        return torch.equal(own.broadcast_to(self.weight.shape), others.broadcast_to(self.weight.shape))

    def check_fields(self) -> None:
        """Check that weights are floats, and that the mask fits the sources.

        Raises:
            DataError: the fields are inconsistent.
        """
        weight, mask = self.weight, self.mask
        require(weight.is_floating_point() and weight.dim() >= 2, "weight is not a float tensor [..., T, S]")
        require(mask is None or mask.dtype == torch.bool, "mask is not boolean")
        if mask is not None:
            try:
                fits = torch.broadcast_shapes(mask.shape, weight.shape) == weight.shape
            except RuntimeError:
                fits = False
            require(fits, "mask does not broadcast to the weight")

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        text = "" if self.mask is None else "masked, "
        return f"SoftAdjacency({list(self.weight.shape)}, {text}{self.weight.dtype}, {self.device})".replace(
            "torch.", ""
        )


@dataclass(frozen=True, eq=False)
class SoftHypergraph(Structure):
    r"""N nodes and M hyperedges where every node belongs to every hyperedge with some weight; may be batched.

    Use it when a network learns which nodes belong to which hyperedge.

    Messages go nodes -> hyperedges along ``v2e`` and back along ``e2v``, as over a `Hypergraph`.

    Args:
        v2e: [..., M, N], the weight of node n in hyperedge m.
        e2v: [..., N, M], the weight of hyperedge m for node n.
        index: None, or [..., M] integers: the hyperedges selected from a pool, if each sample selects its own.

    >>> soft = SoftHypergraph.from_participation(torch.tensor([[0.5, 0.0], [0.5, 0.25], [0.0, 0.75]]))
    >>> soft.num_nodes, soft.num_hyperedges, soft.select(torch.tensor([1])).participation.flatten().tolist()
    (3, 2, [0.0, 0.25, 0.75])
    """

    v2e: SoftAdjacency
    e2v: SoftAdjacency
    index: Tensor | None = None

    @classmethod
    def from_participation(cls, participation: Tensor, *, mask: Tensor | None = None) -> SoftHypergraph:
        """Build both directions from one participation matrix A [..., N, M]; ``mask`` [..., N] is False for padding.

        Raises:
            ArgumentError: fewer than two dimensions, or a mask of the wrong shape.
            ArgumentTypeError: not a floating-point tensor, or a mask that is not boolean.
        """
        if not isinstance(participation, Tensor) or not participation.is_floating_point():
            raise ArgumentTypeError("participation", "a floating-point tensor", _kind(participation))
        if participation.dim() < 2:
            raise ArgumentError("participation", "shape [..., N, M]", f"shape {list(participation.shape)}")
        v2e = SoftAdjacency(participation.mT)
        v2e = v2e if mask is None else v2e.masked(mask)
        return cls(v2e, v2e.transpose())

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.v2e.num_sources

    @property
    def num_hyperedges(self) -> int:
        """M; after a selection, the number of selected hyperedges."""
        return self.v2e.num_targets

    @property
    def participation(self) -> Tensor:
        """A [..., N, M]: the weights of nodes in hyperedges."""
        return self.v2e.weight.mT

    def select(self, index: Tensor) -> SoftHypergraph:
        """Select hyperedges by ``index`` [..., K], separately for each sample; the others carry no messages.

        Raises:
            ArgumentError: a shape other than [..., K] with the batch dimensions of this hypergraph.
            ArgumentTypeError: not integers.
        """
        if not isinstance(index, Tensor) or index.dtype not in (torch.int64, torch.int32):
            raise ArgumentTypeError("index", "an integer tensor", _kind(index))
        batch = self.v2e.weight.shape[:-2]
        if index.dim() < 1 or index.shape[:-1] != batch:
            raise ArgumentError("index", f"shape [{', '.join(map(str, (*batch, 'K')))}]", f"shape {list(index.shape)}")
        rows = index.long().unsqueeze(-1)

        def gathered(adj: SoftAdjacency) -> SoftAdjacency:
            mask = adj.mask
            if mask is not None and mask.shape[-2] > 1:
                mask = mask.expand(*batch, *mask.shape[-2:]).gather(-2, rows.expand(*rows.shape[:-1], mask.shape[-1]))
            return SoftAdjacency(adj.weight.gather(-2, rows.expand(*rows.shape[:-1], adj.num_sources)), mask)

        chosen = index if self.index is None else self.index.gather(-1, index.long())
        return SoftHypergraph(gathered(self.v2e), gathered(self.e2v.transpose()).transpose(), chosen)

    def equal(self, other: SoftHypergraph) -> bool:
        """Whether both have the same weights and the same selection."""
        if not isinstance(other, SoftHypergraph) or (self.index is None) != (other.index is None):
            return False
        same = self.index is None or torch.equal(self.index, other.index.to(self.device))  # type: ignore[union-attr]
        return same and self.v2e.equal(other.v2e) and self.e2v.equal(other.e2v)

    def check_fields(self) -> None:
        """Check that both directions have the same nodes and hyperedges.

        Raises:
            DataError: the fields are inconsistent.
        """
        require(self.v2e.weight.mT.shape == self.e2v.weight.shape, "v2e and e2v have different sizes")
        if self.index is not None:
            check_integers("index", self.index, *self.v2e.weight.shape[:-1])
            require(self.index.numel() == 0 or self.index.min() >= 0, "index has negative entries")

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        *batch, m, n = self.v2e.weight.shape
        lead = f"batch {batch}, " if batch else ""
        return f"SoftHypergraph({lead}{n} nodes, {m} hyperedges, {self.v2e.weight.dtype}, {self.device})".replace(
            "torch.", ""
        )


def _kind(value: object) -> object:
    return value.dtype if isinstance(value, Tensor) else type(value).__name__


torch.export.register_dataclass(SoftAdjacency, serialized_type_name="hgraph.structure.SoftAdjacency")
torch.export.register_dataclass(SoftHypergraph, serialized_type_name="hgraph.structure.SoftHypergraph")
torch.serialization.add_safe_globals([SoftAdjacency, SoftHypergraph])
