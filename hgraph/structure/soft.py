"""`SoftAdjacency`: dense, learned, differentiable participation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.base import Structure

__all__ = ["SoftAdjacency"]


@dataclass(frozen=True, eq=False)
class SoftAdjacency(Structure):
    """A dense T x S structure whose every entry is a differentiable weight, with leading batch dimensions.

    The verbs treat it as an `Adjacency` in which everybody hears everybody by some amount:
    ``propagate(soft, x)`` is the batched product ``weight @ x``.

    Args:
        weight: [..., T, S], how much target t hears source s.

    >>> soft = SoftAdjacency.from_weight(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    >>> soft.num_targets, soft.topk(1).weight.tolist()
    (2, [[0.5, 0.0], [1.0, 0.0]])
    """

    weight: Tensor

    @classmethod
    def from_weight(cls, weight: Tensor) -> SoftAdjacency:
        """Check the shape and dtype of a participation matrix [..., T, S] and wrap it.

        Raises:
            ArgumentError: fewer than two dimensions.
            ArgumentTypeError: not a floating-point tensor.
        """
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            got = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
            raise ArgumentTypeError("weight", "a floating-point tensor", got)
        if weight.dim() < 2:
            raise ArgumentError("weight", "shape [..., T, S]", f"shape {list(weight.shape)}")
        return cls(weight)

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
        """The S x T structure with the same weights."""
        return SoftAdjacency(self.weight.transpose(-1, -2))

    def masked(self, keep: Tensor) -> SoftAdjacency:
        """Weights of padded sources set to zero; ``keep`` is boolean [..., S]."""
        if keep.dtype != torch.bool or keep.shape[-1] != self.num_sources:
            got = f"{keep.dtype} {list(keep.shape)}"
            raise ArgumentError("keep", f"a boolean mask [..., {self.num_sources}]", got)
        return SoftAdjacency(torch.where(keep.unsqueeze(-2), self.weight, 0.0))

    def topk(self, k: int) -> SoftAdjacency:
        """Only the k largest weights of each row kept, the others zero; gradients flow through the kept ones."""
        if not 1 <= k <= self.num_sources:
            raise ArgumentError("k", f"1 .. {self.num_sources}", k)
        values, index = self.weight.topk(k, dim=-1)
        return SoftAdjacency(torch.zeros_like(self.weight).scatter(-1, index, values))

    def equal(self, other: SoftAdjacency) -> bool:
        """Whether both hold the same weights, bit for bit."""
        return isinstance(other, SoftAdjacency) and torch.equal(self.weight, other.weight.to(self.device))

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        return f"SoftAdjacency({list(self.weight.shape)}, {self.weight.dtype}, {self.device})".replace("torch.", "")


torch.export.register_dataclass(SoftAdjacency, serialized_type_name="hgraph.structure.SoftAdjacency")
torch.serialization.add_safe_globals([SoftAdjacency])
