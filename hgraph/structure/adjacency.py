"""`Adjacency`: who listens to whom, as sorted index tensors kept both ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hgraph.checks import Checks
from hgraph.errors import ArgumentError
from hgraph.structure import algebra, coo, row_lengths
from hgraph.structure.base import Structure

__all__ = ["Adjacency"]


@dataclass(frozen=True, eq=False)
class Adjacency(Structure):
    r"""A sparse T x S structure: row ``t`` lists the sources whose messages target ``t`` receives.

    Edges are sorted by (target, source); tensors with one entry an edge come and go in that order.
    The transpose is kept beside it, so a backward pass is a row reduction too: deterministic, no atomics.
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
        weight: [E] or None, the edge weights; None counts as ones.

    Index tensors are int32 where T, S and E fit, else int64. Empty rows and columns, E = 0, T = 0 are legal.

    >>> adj = Adjacency.from_coo(target=[0, 2, 0], source=[1, 0, 0], num_targets=3, num_sources=2)
    >>> adj.indptr.tolist(), adj.indices.tolist(), adj.target_degree().tolist()
    ([0, 2, 2, 3], [0, 1, 0], [2, 0, 1])
    """

    indptr: Tensor
    indices: Tensor
    target: Tensor
    t_indptr: Tensor
    t_indices: Tensor
    source: Tensor
    perm: Tensor
    inv_perm: Tensor
    input_order: Tensor | None = None
    weight: Tensor | None = None

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_coo(
        cls,
        *,
        target: Any,
        source: Any,
        weight: Any = None,
        num_targets: int,
        num_sources: int,
        duplicates: Literal["error", "sum", "keep"] = "error",
    ) -> Adjacency:
        """Sort and check a list of (target, source) pairs given in any order; waits for the device once.

        Args:
            target: [E] integers in 0 .. num_targets - 1.
            source: [E] integers in 0 .. num_sources - 1.
            weight: [E] floats without NaN, or None.
            num_targets: T, never guessed from the largest index.
            num_sources: S.
            duplicates: what a repeated pair means. ``"error"`` refuses it, ``"sum"`` makes one edge whose
                weight is the sum (of ones when unweighted; the result is always weighted), ``"keep"`` makes
                parallel edges.

        Raises:
            ArgumentError: wrong shape, index out of range, NaN weight, or a repeated pair under ``"error"``.
            ArgumentTypeError: indices that are not integers, weights that are not floats.

        >>> a = Adjacency.from_coo(target=[0, 0], source=[1, 1], num_targets=1, num_sources=2, duplicates="sum")
        >>> a.num_edges, a.weight.tolist()
        (1, [2.0])
        """
        names = coo.Names()
        return cls._from_coo(target, source, weight, num_targets, num_sources, duplicates, names, Checks())

    @classmethod
    def _from_coo(
        cls,
        target: Any,
        source: Any,
        weight: Any,
        num_targets: int,
        num_sources: int,
        duplicates: str,
        names: coo.Names,
        checks: Checks,
    ) -> Adjacency:
        """Waits for the device once, for all that ``checks`` holds, too."""
        if duplicates not in ("error", "sum", "keep"):
            raise ArgumentError("duplicates", "'error', 'sum' or 'keep'", repr(duplicates))
        target, source, weight = coo.as_coo(target, source, weight, num_targets, num_sources, names, checks)
        order = coo.lexsort(target, source)
        target, source = target[order], source[order]
        if weight is not None:
            weight = weight[order]
        first = coo.first_of_run(target, source)
        indptr = coo.pointers(target, num_targets)
        adj = cls._from_sorted(indptr, source, target, num_sources, coo.inverse(order), weight)
        if duplicates == "sum":  # weighted even when nothing repeats: the kind must not hang on the data
            ones = torch.ones(len(target), device=target.device) if weight is None else weight
            return algebra.united(adj.with_weight(ones), first, checks)
        if duplicates == "error":

            def repeated(at: int) -> ArgumentError:
                what = f"{int((~first).sum())} repeated, the first ({int(target[at])}, {int(source[at])})"
                hint = "Pass duplicates='sum' to add them up or duplicates='keep' for parallel edges"
                return ArgumentError(f"{names.target}, {names.source}", "each pair once", what, hint)

            checks.refuse(~first, repeated)
        return algebra.measured(adj, checks)

    @classmethod
    def trusted(cls, *, indptr: Tensor, indices: Tensor, num_sources: int, weight: Tensor | None = None) -> Adjacency:
        """Complete a row-sorted CSR structure without checks and without a host sync.

        For structures made inside a forward. Within a row the sources must ascend; ``indptr`` and
        ``indices`` must share one integer dtype. Anything else is undefined.

        >>> adj = Adjacency.trusted(indptr=torch.tensor([0, 2, 3]), indices=torch.tensor([0, 1, 1]), num_sources=2)
        >>> adj.source_degree().tolist()
        [1, 2]
        """
        rows = torch.arange(indptr.shape[0] - 1, device=indptr.device)
        target = rows.repeat_interleave(indptr.diff(), output_size=indices.shape[0])
        return cls._from_sorted(indptr, indices, target, num_sources, None, weight)

    @classmethod
    def _from_sorted(
        cls,
        indptr: Tensor,
        indices: Tensor,
        target: Tensor,
        num_sources: int,
        input_order: Tensor | None,
        weight: Tensor | None,
    ) -> Adjacency:
        source, perm = torch.sort(indices, stable=True)
        fields: dict[str, Tensor] = {
            "indptr": indptr,
            "indices": indices,
            "target": target,
            "t_indptr": coo.pointers(source, num_sources),
            "t_indices": target[perm],
            "source": source,
            "perm": perm,
            "inv_perm": coo.inverse(perm),
        }
        dtype = coo.index_dtype(indptr.shape[0] - 1, num_sources, indices.shape[0])
        order = None if input_order is None else input_order.to(dtype)
        return cls(**{name: t.to(dtype) for name, t in fields.items()}, input_order=order, weight=weight)

    @classmethod
    def eye(cls, size: int, *, device: torch.device | str | None = None) -> Adjacency:
        """The identity: every target hears itself and nobody else.

        >>> Adjacency.eye(3).indices.tolist()
        [0, 1, 2]
        """
        ids = torch.arange(size, device=device)
        return cls.trusted(indptr=torch.arange(size + 1, device=device), indices=ids, num_sources=size)

    # ------------------------------------------------------------------ sizes and degrees

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.indptr.device

    @property
    def num_targets(self) -> int:
        """T, the number of rows."""
        return self.indptr.shape[0] - 1

    @property
    def num_sources(self) -> int:
        """S, the number of columns."""
        return self.t_indptr.shape[0] - 1

    @property
    def num_edges(self) -> int:
        """E, the number of edges, parallel ones counted each."""
        return self.indices.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(T, S)."""
        return self.num_targets, self.num_sources

    def target_degree(self) -> Tensor:
        """Weighted in-degree [T]; the number of edges of each row (integers) when unweighted."""
        if self.weight is None:
            return self.indptr.diff()
        return coo.segment_sum(self.weight, self.target, self.num_targets)

    def source_degree(self) -> Tensor:
        """Weighted out-degree [S]; the number of edges of each column (integers) when unweighted."""
        return self.transpose().target_degree()

    # ------------------------------------------------------------------ other views of the same edges

    def transpose(self) -> Adjacency:
        """The S x T structure of the same edges reversed; no tensor but the weights is copied."""
        order = self.input_order
        return Adjacency(
            indptr=self.t_indptr,
            indices=self.t_indices,
            target=self.source,
            t_indptr=self.indptr,
            t_indices=self.indices,
            source=self.target,
            perm=self.inv_perm,
            inv_perm=self.perm,
            input_order=self.inv_perm if order is None else self.inv_perm[order],
            weight=None if self.weight is None else self.weight[self.perm],
        )

    def with_weight(self, weight: Tensor | None) -> Adjacency:
        """The same edges with other weights [E] (row-sorted order) or none; not checked, never syncs."""
        return dataclasses.replace(self, weight=weight)

    def sort_edges(self, values: Tensor) -> Tensor:
        """Bring per-edge values [E_in, ...] from the order of ``from_coo``'s input into row-sorted order [E, ...].

        After ``duplicates="sum"`` the values of one edge are added.

        >>> adj = Adjacency.from_coo(target=[1, 0], source=[0, 0], num_targets=2, num_sources=1)
        >>> adj.sort_edges(torch.tensor([10.0, 20.0])).tolist()
        [20.0, 10.0]
        """
        expected = self.num_edges if self.input_order is None else self.input_order.shape[0]
        if values.shape[0] != expected:
            raise ArgumentError("values", f"{expected} rows (one an entry of from_coo's input)", values.shape[0])
        if self.input_order is None:
            return values
        return coo.segment_sum(values, self.input_order, self.num_edges)

    def unsort_edges(self, values: Tensor) -> Tensor:
        """Bring per-edge values [E, ...] from row-sorted order back into the order of ``from_coo``'s input."""
        if values.shape[0] != self.num_edges:
            raise ArgumentError("values", f"{self.num_edges} rows (one an edge)", values.shape[0])
        return values if self.input_order is None else values.index_select(0, self.input_order)

    def normalize(self, how: Literal["row", "col", "sym"]) -> Adjacency:
        r"""Weights divided by degrees; zero degrees invert to zero.

        ``"row"``: :math:`w_{ts} / d_t`, ``"col"``: :math:`w_{ts} / d_s`, ``"sym"``:
        :math:`w_{ts} / \sqrt{d_t d_s}`, with the weighted degrees :math:`d`.

        >>> adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=2, num_sources=2)
        >>> adj.normalize("row").weight.tolist()
        [0.5, 0.5]
        """
        return self.with_weight(algebra.normalized_weight(self, how))

    def add_self_loops(self) -> Adjacency:
        """A square structure where every vertex hears itself; loops that exist keep their weight, new ones get 1.

        Per-edge tensors of the caller stay valid through :meth:`sort_edges` only if rebuilt: the edges change.
        """
        return algebra.add_self_loops(self)

    def select(self, rows: Tensor) -> Adjacency:
        """The structure of the given target rows [T'] (in that order, repeats allowed) over the same S sources."""
        return algebra.select(self, rows)

    # ------------------------------------------------------------------ set algebra and composition

    def __or__(self, other: Adjacency) -> Adjacency:
        """Edges of either; both unweighted, of one shape."""
        return algebra.set_operation(self, other, "|")

    def __and__(self, other: Adjacency) -> Adjacency:
        """Edges of both; both unweighted, of one shape."""
        return algebra.set_operation(self, other, "&")

    def __sub__(self, other: Adjacency) -> Adjacency:
        """Edges of the first that the second lacks; both unweighted, of one shape."""
        return algebra.set_operation(self, other, "-")

    def __matmul__(self, other: Adjacency) -> Adjacency:
        """Two steps as one: target t hears source s if some middle vertex links them.

        Unweighted structures are relations and compose to a relation. If either has weights the result has
        those of the matrix product, missing weights counting as ones.

        >>> a = Adjacency.from_coo(target=[0], source=[1], num_targets=1, num_sources=2)
        >>> b = Adjacency.from_coo(target=[1, 1], source=[0, 2], num_targets=2, num_sources=3)
        >>> (a @ b).indices.tolist()
        [0, 2]
        """
        return algebra.compose(self, other)

    def reach(self, steps: int) -> Adjacency:
        """Receptive field of ``steps`` layers: the sources at most that many hops away, the target itself included.

        >>> chain = Adjacency.from_coo(target=[1, 2, 3], source=[0, 1, 2], num_targets=4, num_sources=4)
        >>> chain.reach(2).select(torch.tensor([3])).indices.tolist()
        [1, 2, 3]
        """
        return algebra.reach(self, steps)

    # ------------------------------------------------------------------ housekeeping

    def _map(self, function: Callable[[Tensor], Tensor]) -> Adjacency:
        changed = super()._map(function)
        if changed is not self:
            row_lengths.carry(self.indptr, changed.indptr)
            row_lengths.carry(self.t_indptr, changed.t_indptr)
        return changed

    def equal(self, other: Adjacency) -> bool:
        """Whether both have the same sizes, the same edges and the same weights, bit for bit."""
        if not isinstance(other, Adjacency) or self.shape != other.shape or self.num_edges != other.num_edges:
            return False
        if (self.weight is None) != (other.weight is None):
            return False
        other = other.to(self.device)
        same = torch.equal(self.indptr.long(), other.indptr.long())
        same = same and torch.equal(self.indices.long(), other.indices.long())
        if same and self.weight is not None and other.weight is not None:
            same = self.weight.dtype == other.weight.dtype and torch.equal(self.weight, other.weight)
        return same

    def dense(self) -> Tensor:
        """The T x S matrix, parallel edges added up: for tests and small cases.

        >>> Adjacency.eye(2).dense().tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        weight = torch.ones(self.num_edges, device=self.device) if self.weight is None else self.weight
        flat = self.target.long() * self.num_sources + self.indices
        return coo.segment_sum(weight, flat, self.num_targets * self.num_sources).view(self.shape)

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
