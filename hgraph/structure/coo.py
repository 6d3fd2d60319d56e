"""Index arithmetic behind the structures: checking, sorting, counting, pointers."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hgraph.checks import Checks
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.memory import check_memory

_INT32_MAX = 2**31 - 1


class Names(NamedTuple):
    """Argument names for the errors of `Adjacency.from_coo` when another constructor calls it."""

    target: str = "target"
    source: str = "source"
    num_targets: str = "num_targets"
    num_sources: str = "num_sources"
    targets: str = "targets"
    sources: str = "sources"
    repeated: str = "Pass duplicates='sum' to add them up or duplicates='keep' for parallel edges"


def check_made(name: str, value: Any, hint: str) -> None:
    """Refuse numbers, lists and tensors where a structure belongs; what compiled code puts there passes."""
    if torch.compiler.is_compiling():
        return
    if value is None or isinstance(value, (Tensor, Sequence, Mapping, numbers.Number)) or hasattr(value, "__array__"):
        raise ArgumentTypeError(name, "an Adjacency", type(value).__name__, hint)


def names_hint(values: Any) -> str:
    """What numbers things by name, where names were given in place of ids."""
    first = values
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if not isinstance(first, str):
        return ""
    return (
        "Names are numbered by hgraph.builders.membership_hypergraph (members), KnowledgeGraph.from_names (triples) "
        "and hgraph.datasets.from_tables (tables of edges or hyperedges)"
    )


def as_indices(name: str, values: Any) -> Tensor:
    """A 1-D int64 tensor of indices from a tensor, array or list; floats and booleans are rejected."""
    try:
        values = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{type(values).__name__} ({error})"
        raise ArgumentTypeError(name, "integer indices", got, names_hint(values)) from error
    if values.numel() == 0 and (values.dim() == 1 or not values.is_floating_point()):
        values = values.long()  # an empty list has torch's default float dtype
    if values.dtype not in (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8):
        hint = "Turn a mask into indices with .nonzero().flatten()" if values.dtype == torch.bool else ""
        raise ArgumentTypeError(name, "integer indices", values.dtype, hint or "Convert them with .long()")
    if values.dim() != 1:
        raise ArgumentError(name, "one dimension [E]", f"shape {list(values.shape)}")
    return values.long()


def check_range(name: str, values: Tensor, size: int, what: str) -> None:
    """Reject indices outside 0 .. size - 1, naming the first one; synchronizes with the device."""
    checks = Checks()
    checks.in_range(name, values, size, what)
    checks.read()


def check_size(name: str, size: int) -> None:
    """Reject sizes that are not non-negative integers, or that would not fit into memory."""
    if not isinstance(size, (numbers.Integral, torch.SymInt)) or isinstance(size, bool):  # numpy's integers too
        raise ArgumentTypeError(name, "an integer", type(size).__name__)
    if size < 0:
        raise ArgumentError(name, "a size >= 0", size)
    if isinstance(size, numbers.Integral):
        check_memory(name, 16 * int(size), f"{size:,}")  # one pointer per node in each direction


def as_weight(name: str, weight: Any, length: int, what: str, checks: Checks) -> Tensor | None:
    """A float tensor [length], or None; adds the check for NaN to ``checks``."""
    if weight is None:
        return None
    try:
        weight = torch.as_tensor(weight)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(name, "floating-point weights", f"{type(weight).__name__} ({error})") from error
    if not weight.is_floating_point():
        raise ArgumentTypeError(name, "floating-point weights", weight.dtype, "Convert them with .float()")
    if weight.shape != (length,):
        raise ArgumentError(name, f"shape [{length}] (one per {what})", f"shape {list(weight.shape)}")
    checks.no_nan(name, weight)
    return weight


def as_coo(
    target: Any, source: Any, weight: Any, num_targets: int, num_sources: int, names: Names, checks: Checks
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The arguments of `Adjacency.from_coo` as tensors; adds the checks of values to ``checks``."""
    check_size(names.num_targets, num_targets)
    check_size(names.num_sources, num_sources)
    target, source = as_indices(names.target, target), as_indices(names.source, source)
    if target.shape != source.shape:
        raise ArgumentError(names.source, f"{len(target)} entries, as many as {names.target}", len(source))
    if target.device != source.device:
        raise ArgumentError(names.source, f"a tensor on {target.device}, the device of {names.target}", source.device)
    checks.in_range(names.target, target, num_targets, names.targets)
    checks.in_range(names.source, source, num_sources, names.sources)
    weight = as_weight("weight", weight, len(target), "edge", checks)
    if weight is not None and weight.device != target.device:
        raise ArgumentError("weight", f"a tensor on {target.device}, the device of {names.target}", weight.device)
    return target, source, weight


def index_dtype(*extents: int) -> torch.dtype:
    """int32 where every extent fits, else int64."""
    return torch.int32 if max(extents) <= _INT32_MAX else torch.int64


def lexsort(major: Tensor, minor: Tensor) -> Tensor:
    """The stable order that sorts by ``major``, then ``minor``: two stable sorts, so products cannot overflow."""
    order = torch.sort(minor, stable=True).indices
    return order[torch.sort(major[order], stable=True).indices]


def pair_codes(major: Tensor, minor: Tensor, num_major: int, num_minor: int) -> Tensor:
    """Each pair as one int64, ascending with (major, minor); ``code // max(num_minor, 1)`` is the major id.

    Raises:
        ArgumentError: there are 2**63 possible pairs or more, so codes would overflow.
    """
    if num_major * num_minor >= 2**63:
        raise ArgumentError("sizes", "fewer than 2**63 possible pairs", f"{num_major} x {num_minor}")
    return major.long() * max(num_minor, 1) + minor.long()


def inverse(permutation: Tensor) -> Tensor:
    """The inverse of a permutation."""
    out = torch.empty_like(permutation)
    out[permutation.long()] = torch.arange(permutation.shape[0], dtype=permutation.dtype, device=permutation.device)
    return out


def pointers(sorted_ids: Tensor, size: int) -> Tensor:
    """[size+1]: where each id's run starts in an ascending list; no sync, no atomics."""
    return torch.searchsorted(sorted_ids, torch.arange(size + 1, dtype=sorted_ids.dtype, device=sorted_ids.device))


def first_of_run(major: Tensor, minor: Tensor) -> Tensor:
    """Boolean [E]: whether an entry of a lexsorted list differs from the one before it."""
    first = torch.ones(len(major), dtype=torch.bool, device=major.device)
    first[1:] = (major[1:] != major[:-1]) | (minor[1:] != minor[:-1])
    return first


def run_starts(so_far: Tensor, count: int) -> Tensor:
    """[count] the start of each run, from the running count of runs at each entry; no sync."""
    return torch.searchsorted(so_far, torch.arange(1, count + 1, device=so_far.device))


def segment_sum(values: Tensor, segment: Tensor, size: int) -> Tensor:
    """Sums [size, ...] of the rows of ``values`` with the same segment; differentiable and deterministic.

    Half precision is accumulated in float32, integers in int64.
    """
    dtype = values.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        values = values.long()
    elif dtype.itemsize < 4:
        return segment_sum(values.float(), segment, size).to(dtype)
    out = values.new_zeros((size, *values.shape[1:]))
    if values.is_cuda:  # index_add is atomic there; accumulating index_put sorts first
        return out.index_put((segment.long(),), values, accumulate=True)
    return out.index_add(0, segment, values)


def inverse_power(degree: Tensor, exponent: float) -> Tensor:
    """``degree ** exponent`` for a negative exponent, where zero degrees give zero; integer degrees become floats.

    Negative degrees use their absolute value, so that learned weights of both signs never give NaN.
    """
    degree = degree if degree.is_floating_point() else degree.to(torch.get_default_dtype())
    zero, degree = degree == 0, degree if exponent == -1 else degree.abs()
    return torch.where(zero, 0.0, torch.where(zero, 1.0, degree) ** exponent)
