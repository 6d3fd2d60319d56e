"""`Adjacency`: which sources each target receives messages from, as index tensors sorted both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.structure import algebra
from hgraph.structure.edge_list import EdgeList

__all__ = ["Adjacency"]


@dataclass(frozen=True, eq=False)
class Adjacency(EdgeList):
    r"""A sparse T x S structure: row ``t`` lists the sources whose messages target ``t`` receives.

    Use it when sources and targets are different sets, or to pass a structure of your own to the operators.

    Edges are sorted by (target, source); per-edge tensors are in that order.
    The transpose is stored too, so a backward pass is also a row reduction: deterministic, no atomics.
    Build one with :meth:`from_coo` (checks everything) or :meth:`trusted` (checks nothing, never syncs).

    Args:
        indptr: [T+1], where each row starts.
        indices: [E], the source of each edge.
        target: [E], the target of each edge.
        t_indptr: [S+1], where each row of the transpose starts.
        t_indices: [E], the target of each edge, in the transpose's order.
        source: [E], the source of each edge, in the transpose's order.
        perm: [E], row order -> transpose order: ``e[perm]`` is in the transpose's order.
        inv_perm: [E], transpose order -> row order.
        input_order: [E_in] or None, ``from_coo``'s entry -> its edge; None is the identity.
        weight: [E] or None, the edge weights; None means ones.

    Index tensors are int32 where T, S and E fit, else int64. Empty rows and columns, E = 0, T = 0 are legal.

    >>> adj = Adjacency.from_coo(target=[0, 2, 0], source=[1, 0, 0], num_targets=3, num_sources=2)
    >>> adj.indptr.tolist(), adj.indices.tolist(), adj.target_degree().tolist()
    ([0, 2, 2, 3], [0, 1, 0], [2, 0, 1])
    """

    def normalize(self, how: Literal["row", "col", "sym"], *, dtype: torch.dtype | None = None) -> Adjacency:
        r"""Divide weights by degrees; a degree of zero gives zero.

        ``"row"``: :math:`w_{ts} / d_t`, ``"col"``: :math:`w_{ts} / d_s`, ``"sym"``:
        :math:`w_{ts} / \sqrt{d_t d_s}`, with the weighted degrees :math:`d`.

        Weights that require gradients are not checked; the square root is taken of :math:`|d|`.

        Args:
            how: ``"row"``, ``"col"`` or ``"sym"``.
            dtype: of the result and of the degrees; the default is the dtype of the weights, or torch's
                default dtype for unweighted structures.

        Raises:
            ArgumentError: a negative degree under the root, or weights that cancel. Only weights without gradients on
                a CPU are checked; on another device the check would synchronize.

        >>> adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=2, num_sources=2)
        >>> adj.normalize("row").weight.tolist()
        [0.5, 0.5]
        """
        algebra.refuse_degrees_of(self, how)
        return self.with_weight(algebra.normalized_weight(self, how, dtype))

    def add_self_loops(self) -> Adjacency:
        """Add the missing self-loops of a square structure; existing loops keep their weight, new ones get 1.

        The edges change, so per-edge tensors must be rebuilt with :meth:`sort_edges`.
        """
        return algebra.add_self_loops(self)

    def select(self, rows: Tensor) -> Adjacency:
        """The structure of the given target rows [T'] (in that order, repeats allowed) over the same S sources."""
        return algebra.select(self, rows)

    # ------------------------------------------------------------------ set algebra and composition

    def keep(self, mask: Tensor) -> Adjacency:
        """The edges for which ``mask`` [E] is True, in their order; the numbers of targets and sources do not change.

        Raises:
            ArgumentError: a mask of the wrong shape or dtype.
        """
        if mask.dtype != torch.bool or mask.shape != self.indices.shape:
            got = f"{mask.dtype} {list(mask.shape)}"
            raise ArgumentError("mask", f"booleans [{self.num_edges}], one per edge", got)
        count = torch.cat([mask.new_zeros(1, dtype=self.indptr.dtype), mask.cumsum(0, dtype=self.indptr.dtype)])
        return Adjacency.trusted(
            indptr=count[self.indptr.long()], indices=self.indices[mask], num_sources=self.num_sources,
            weight=None if self.weight is None else self.weight[mask],
        )  # fmt: skip

    def __or__(self, other: Adjacency) -> Adjacency:
        """Union of the edges; both unweighted, of the same shape."""
        return algebra.set_operation(self, other, "|")

    def __and__(self, other: Adjacency) -> Adjacency:
        """Intersection of the edges; both unweighted, of the same shape."""
        return algebra.set_operation(self, other, "&")

    def __sub__(self, other: Adjacency) -> Adjacency:
        """Edges of the first structure that are not in the second; both unweighted, of the same shape."""
        return algebra.set_operation(self, other, "-")

    def __matmul__(self, other: Adjacency) -> Adjacency:
        """Two-hop structure: target t receives from source s if some middle node links them.

        Unweighted structures are relations and compose to a relation. If either has weights, the result has
        the weights of the matrix product, with missing weights taken as ones.

        >>> a = Adjacency.from_coo(target=[0], source=[1], num_targets=1, num_sources=2)
        >>> b = Adjacency.from_coo(target=[1, 1], source=[0, 2], num_targets=2, num_sources=3)
        >>> (a @ b).indices.tolist()
        [0, 2]
        """
        return algebra.compose(self, other)

    def reach(self, num_hops: int) -> Adjacency:
        """Receptive field of ``num_hops`` layers: the sources at most that many hops away, the target itself included.

        >>> chain = Adjacency.from_coo(target=[1, 2, 3], source=[0, 1, 2], num_targets=4, num_sources=4)
        >>> chain.reach(2).select(torch.tensor([3])).indices.tolist()
        [1, 2, 3]
        """
        return algebra.reach(self, num_hops)

    # ------------------------------------------------------------------ pictures

    def draw(self, ax: Any = None, **options: Any) -> Any:
        """Draw the matrix picture (rows are targets) and return the matplotlib axes."""
        from hgraph.draw.matrix import draw_adjacency

        return draw_adjacency(self, ax, **options)

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        weight = "" if self.weight is None else f", weight={self.weight.dtype}".replace("torch.", "")
        return f"Adjacency({self.num_targets} x {self.num_sources}, {self.num_edges} edges{weight}, {self.device})"


torch.export.register_dataclass(Adjacency, serialized_type_name="hgraph.structure.Adjacency")
torch.serialization.add_safe_globals([Adjacency])
