"""`EdgeList`: the sorted index tensors of an `Adjacency`, their construction and their sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from hgraph.checks import Checks, count
from hgraph.errors import ArgumentError
from hgraph.memory import check_memory
from hgraph.structure import coo, row_lengths
from hgraph.structure.base import Structure
from hgraph.structure.validate import check_integers, check_permutation, check_pointers, check_range, require, rows_of

__all__ = ["EdgeList", "measured", "united"]

E = TypeVar("E", bound="EdgeList")


@dataclass(frozen=True, eq=False)
class EdgeList(Structure):
    """The fields of an `Adjacency`, without its algebra, which is implemented as functions over this class."""

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
        cls: type[E],
        *,
        target: Any,
        source: Any,
        weight: Any = None,
        num_targets: int,
        num_sources: int,
        duplicates: Literal["error", "sum", "keep"] = "error",
    ) -> E:
        """Sort and check a list of (target, source) pairs given in any order; synchronizes with the device once.

        Args:
            target: [E] integers in 0 .. num_targets - 1.
            source: [E] integers in 0 .. num_sources - 1.
            weight: [E] floats without NaN, or None.
            num_targets: T, never inferred from the largest index.
            num_sources: S.
            duplicates: what to do with repeated pairs. ``"error"`` raises, ``"sum"`` makes one edge whose
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
        cls: type[E],
        target: Any,
        source: Any,
        weight: Any,
        num_targets: int,
        num_sources: int,
        duplicates: str,
        names: coo.Names,
        checks: Checks,
    ) -> E:
        """Synchronizes with the device once, including all pending ``checks``."""
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
        if duplicates == "sum":  # weighted even without repeats: the type must not depend on the data
            ones = torch.ones(len(target), device=target.device) if weight is None else weight
            return united(adj.with_weight(ones), first, checks)
        if duplicates == "error":

            def repeated(at: int) -> ArgumentError:
                what = f"{int((~first).sum())} repeated, the first ({int(target[at])}, {int(source[at])})"
                return ArgumentError(f"{names.target}, {names.source}", "each pair once", what, names.repeated)

            checks.refuse(~first, repeated)
        return measured(adj, checks)

    @classmethod
    def trusted(cls: type[E], *, indptr: Tensor, indices: Tensor, num_sources: int, weight: Tensor | None = None) -> E:
        """Complete a row-sorted CSR structure without checks and without a host sync.

        For structures built inside a forward. Within a row the sources must ascend; ``indptr`` and
        ``indices`` must share one integer dtype. Anything else is undefined behavior.

        >>> adj = Adjacency.trusted(indptr=torch.tensor([0, 2, 3]), indices=torch.tensor([0, 1, 1]), num_sources=2)
        >>> adj.source_degree().tolist()
        [1, 2]
        """
        rows = torch.arange(indptr.shape[0] - 1, device=indptr.device)
        target = rows.repeat_interleave(indptr.diff(), output_size=indices.shape[0])
        return cls._from_sorted(indptr, indices, target, num_sources, None, weight)

    @classmethod
    def _from_sorted(
        cls: type[E],
        indptr: Tensor,
        indices: Tensor,
        target: Tensor,
        num_sources: int,
        input_order: Tensor | None,
        weight: Tensor | None,
    ) -> E:
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
    def eye(cls: type[E], size: int, *, device: torch.device | str | None = None) -> E:
        """The identity: every target receives from itself only.

        >>> Adjacency.eye(3).indices.tolist()
        [0, 1, 2]
        """
        ids = torch.arange(count("size", size, 64), device=device)
        return cls.trusted(indptr=torch.arange(size + 1, device=device), indices=ids, num_sources=size)

    # ------------------------------------------------------------------ sizes and degrees

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
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
        """E, the number of edges; parallel edges are counted separately."""
        return self.indices.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(T, S)."""
        return self.num_targets, self.num_sources

    def fields(self) -> list[Tensor | None]:
        """All fields in their order, by name: torch.compile would guard each field of ``vars(self)`` twice."""
        ends = self.indptr, self.indices, self.target, self.t_indptr, self.t_indices, self.source
        return [*ends, self.perm, self.inv_perm, self.input_order, self.weight]

    def target_degree(self) -> Tensor:
        """Weighted in-degree [T]; the number of edges of each row (integers) when unweighted."""
        if self.weight is None:
            return self.indptr.diff()
        return coo.segment_sum(self.weight, self.target, self.num_targets)

    def source_degree(self) -> Tensor:
        """Weighted out-degree [S]; the number of edges of each column (integers) when unweighted."""
        return self.transpose().target_degree()

    # ------------------------------------------------------------------ other views of the same edges

    def transpose(self: E) -> E:
        """The S x T structure of the reversed edges; only the weights are copied."""
        order = self.input_order
        return type(self)(
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

    def with_weight(self: E, weight: Tensor | None) -> E:
        """The same edges with new weights [E] (row-sorted order) or none; not checked, never synchronizes."""
        return dataclasses.replace(self, weight=weight)

    def sort_edges(self, values: Tensor) -> Tensor:
        """Permute per-edge values [E_in, ...] from the input order of ``from_coo`` to row-sorted order [E, ...].

        After ``duplicates="sum"`` the values of merged edges are added (integers in int64, booleans with "or").

        >>> adj = Adjacency.from_coo(target=[1, 0], source=[0, 0], num_targets=2, num_sources=1)
        >>> adj.sort_edges(torch.tensor([10.0, 20.0])).tolist()
        [20.0, 10.0]
        """
        expected = self.num_edges if self.input_order is None else self.input_order.shape[0]
        if values.shape[0] != expected:
            raise ArgumentError("values", f"{expected} rows (one per entry of from_coo's input)", values.shape[0])
        if self.input_order is None:
            return values
        sums = coo.segment_sum(values, self.input_order, self.num_edges)
        alone = values.shape[0] == self.num_edges  # each value is an edge's only one
        return sums.to(values.dtype) if alone or values.dtype == torch.bool else sums

    def unsort_edges(self, values: Tensor) -> Tensor:
        """Permute per-edge values [E, ...] from row-sorted order back to the input order of ``from_coo``."""
        if values.shape[0] != self.num_edges:
            raise ArgumentError("values", f"{self.num_edges} rows (one per edge)", values.shape[0])
        return values if self.input_order is None else values.index_select(0, self.input_order)

    def _map(self: E, function: Callable[[Tensor], Tensor]) -> E:
        changed = super()._map(function)
        if changed is not self:
            row_lengths.carry(self.indptr, changed.indptr)
            row_lengths.carry(self.t_indptr, changed.t_indptr)
        return changed

    def equal(self, other: EdgeList) -> bool:
        """Whether both have the same sizes, edges and weights, bit for bit."""
        if not isinstance(other, EdgeList) or self.shape != other.shape or self.num_edges != other.num_edges:
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
        """The T x S matrix, with parallel edges added up: for tests and small cases.

        >>> Adjacency.eye(2).dense().tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        check_memory("structure", 4 * self.num_targets * self.num_sources, f"a dense matrix of {list(self.shape)}")
        weight = torch.ones(self.num_edges, device=self.device) if self.weight is None else self.weight
        flat = self.target.long() * self.num_sources + self.indices
        return coo.segment_sum(weight, flat, self.num_targets * self.num_sources).view(self.shape)

    def check_fields(self) -> None:
        """Check that pointers are valid, ids are in range, and both orders have the same edges.

        Raises:
            DataError: the fields are inconsistent.
        """
        names = ("indptr", "indices", "target", "t_indptr", "t_indices", "source", "perm", "inv_perm")
        lists = {name: getattr(self, name) for name in names}
        for name, value in lists.items():
            check_integers(name, value)
            require(value.dtype == self.indptr.dtype, f"{name} and indptr have different dtypes")
        edges = self.num_edges
        require(all(len(lists[name]) == edges for name in names if "indptr" not in name), "the lists differ in length")
        check_pointers("indptr", self.indptr, edges)
        check_pointers("t_indptr", self.t_indptr, edges)
        check_range("indices", self.indices, self.num_sources)
        check_range("t_indices", self.t_indices, self.num_targets)
        check_permutation("perm", self.perm)
        require(coo.inverse(self.perm).equal(self.inv_perm), "inv_perm is not the inverse of perm")
        require(self.target.long().equal(rows_of(self.indptr)), "target does not match the rows of indptr")
        require(self.source.long().equal(rows_of(self.t_indptr)), "source does not match the rows of t_indptr")
        perm = self.perm.long()
        require(self.indices[perm].equal(self.source), "indices and source have different edges")
        require(self.target[perm].equal(self.t_indices), "target and t_indices have different edges")
        if self.input_order is not None:
            check_integers("input_order", self.input_order)
            check_range("input_order", self.input_order, edges)
        if self.weight is not None:
            fits = self.weight.is_floating_point() and self.weight.dim() >= 1 and len(self.weight) == edges
            require(fits, f"weight must have one number for each of {edges} edges")


def measured(adj: E, checks: Checks | None = None) -> E:
    """Measure the row lengths and return the structure; synchronizes once, including pending ``checks``."""
    pointers = adj.indptr, adj.t_indptr
    if checks is None:
        row_lengths.measure(*pointers)
    else:
        row_lengths.note(pointers, checks.read(*map(row_lengths.most, pointers)))
    return adj


def united(adj: E, first: Tensor, checks: Checks) -> E:
    """Merge each run of equal edges and add up their weights; synchronizes once, including pending ``checks``.

    Args:
        adj: edges, several of which may have the same endpoints.
        first: booleans [E], whether an edge is the first of its run.
        checks: other pending checks.
    """
    so_far, t_so_far = first.cumsum(0), first[adj.perm].cumsum(0)
    indptr, t_indptr = (
        torch.nn.functional.pad(count, (1, 0))[at] for count, at in ((so_far, adj.indptr), (t_so_far, adj.t_indptr))
    )
    count, *lengths = checks.read(first.sum(), row_lengths.most(indptr), row_lengths.most(t_indptr))
    if count < adj.num_edges:
        run = so_far - 1
        at, t_at = coo.run_starts(so_far, count), coo.run_starts(t_so_far, count)
        perm = run[adj.perm[t_at]]
        fields = {
            "indptr": indptr,
            "indices": adj.indices[at],
            "target": adj.target[at],
            "t_indptr": t_indptr,
            "t_indices": adj.t_indices[t_at],
            "source": adj.source[t_at],
            "perm": perm,
            "inv_perm": coo.inverse(perm),
            "input_order": run if adj.input_order is None else run[adj.input_order],
        }
        dtype = coo.index_dtype(*adj.shape, count)
        weight = None if adj.weight is None else coo.segment_sum(adj.weight, run, count)
        adj = type(adj)(**{name: t.to(dtype) for name, t in fields.items()}, weight=weight)
    row_lengths.note((adj.indptr, adj.t_indptr), lengths)
    return adj
