"""Caches for values that depend only on a structure, on a tensor, or on a size.

- `cached` computes a value from a structure once, in eager code; `CachedOperator` does so in compiled code, which
  must call an operator that checks the tensors each time it runs: a compiler that reads a cache while tracing would
  miss later writes.
- `TensorTable` maps a tensor to a value, by identity.
- `cached_by_size` stores a bounded number of values, such as the graphs for the lengths that a layer has seen.

Entries of the first two are dropped with the structure or tensor, and when it was written to. Writes through ``.data``,
or through a NumPy array that shares the memory, are not detected. Caches are not pickled, copied or moved.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from hgraph._torch import LIBRARY, is_eager, version

__all__ = [
    "CachedOperator",
    "TensorTable",
    "cached",
    "cached_by_size",
    "cached_for",
    "can_cache",
    "can_cache_compiled",
    "permuted",
    "traced_as_constant",
]

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


# ---------------------------------------------------------------------- of a structure, eager


class HasTensors(Protocol):
    """A structure, whose computed values depend only on these tensors."""

    def tensors(self) -> list[Tensor]:
        """All its tensors."""


# Stored outside the structures, so pickles, copies, `.to` and the compiler never see cached values.
_BY_STRUCTURE: weakref.WeakKeyDictionary[Any, dict[Hashable, tuple[list[int], Any]]] = weakref.WeakKeyDictionary()


def cached(structure: HasTensors, key: Hashable, compute: Callable[[], T]) -> T:
    """``compute()``, cached while the structure lives and its tensors are not written to.

    Does not use the cache while compiling, under `torch.func`, or when gradients must flow
    through the structure's own tensors (see `can_cache`): then it just computes.

    >>> from hgraph.structure import Graph
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    >>> first, again = (cached(graph, "degree", lambda: graph.adj.indptr.diff()) for _ in range(2))
    >>> first is again
    True
    """
    tensors = structure.tensors()
    if not _cacheable(tensors):
        return compute()
    versions = [version(t) for t in tensors]
    found = _BY_STRUCTURE.setdefault(structure, {})
    if key not in found or found[key][0] != versions:
        with torch.inference_mode(False):  # a value first computed in inference mode must also work in training
            found[key] = (versions, compute())
    return found[key][1]


def cached_for(structure: HasTensors, x: Tensor, key: Hashable, compute: Callable[[], T]) -> T:
    """`cached`, for a value that depends on a tensor too: one value per structure, key and tensor.

    Use it for what is computed from constant features once. Nothing is cached for a tensor with a gradient, or for one
    made in inference mode, whose writes cannot be noticed.
    """
    if not can_cache(structure) or x.requires_grad or x.is_inference():  # in this order: a compiler stops at the first
        return compute()
    table: TensorTable[T] = cached(structure, ("by tensor", key), TensorTable)
    found = table.get(x)
    if found is None:
        with torch.inference_mode(False):
            found = compute()
        table.put(x, found)
    return found


def can_cache(structure: HasTensors) -> bool:
    """Whether values computed from the structure can be cached here and now."""
    return _cacheable(structure.tensors())


def _cacheable(tensors: list[Tensor]) -> bool:
    """Also False under a dispatch mode, whose tensors may be fake."""
    return is_eager() and not any(t.requires_grad or t.is_inference() for t in tensors)


# ---------------------------------------------------------------------- of a structure, in compiled code

Fields = Sequence[Tensor | None]
Recipe = Callable[[Fields, torch.dtype], list[Tensor]]

_RECIPES: dict[str, Recipe] = {}
# Key: the first field. Value: by recipe and dtype the versions of all fields, the other fields (weakly, because a
# transpose would otherwise keep its origin alive, and so on), and the results.
_BY_FIELD: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class CachedOperator:
    """An operator for compiled code, ``recipe(fields, dtype)``: tensors computed only from a structure's fields.

    It computes once, then returns copies, until a field is replaced or written to. It is not differentiable:
    check `can_cache_compiled` first.

    Args:
        name: name of the recipe, unique in the library.
        recipe: the computation; the first field must be a tensor.
    """

    def __init__(self, name: str, recipe: Recipe) -> None:
        self.name = name if name not in _RECIPES else f"{name} {len(_RECIPES)}"  # a class may be defined again
        _RECIPES[self.name] = recipe

    def __call__(self, fields: Fields, dtype: torch.dtype) -> list[Tensor]:
        """The results, as copies owned by the caller."""
        return torch.ops.hgraph.cached(fields, self.name, dtype)


def can_cache_compiled(fields: Fields) -> bool:
    """Whether compiled code may cache here: CUDA graphs would overwrite the cache, exports do not need it."""
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    return all(t is None or (t.is_cpu and not t.requires_grad) for t in fields)


def _run(fields: Fields, name: str, dtype: torch.dtype) -> list[Tensor]:
    first, *others = fields
    if any(t is not None and t.is_inference() for t in fields):  # inference tensors have no versions
        return [t.clone() for t in _RECIPES[name](fields, dtype)]
    versions = [None if t is None else version(t) for t in fields]
    found = _BY_FIELD.setdefault(first, {})
    before = found.get((name, dtype))
    if before is None or before[0] != versions or not all(map(_is, before[1], others)):
        with torch.inference_mode(False), torch.no_grad():
            results = _RECIPES[name](fields, dtype)
        weak = [None if t is None else TensorWeakRef(t) for t in others]
        before = found[name, dtype] = (versions, weak, results)
    # Copies: compiled code may write into the result of an operator.
    return [t.clone() for t in before[2]]


def _is(weak: TensorWeakRef | None, tensor: Tensor | None) -> bool:
    return tensor is None if weak is None else weak() is tensor


def _fake(fields: Fields, name: str, dtype: torch.dtype) -> list[Tensor]:
    return [torch.empty_like(t) for t in _RECIPES[name](fields, dtype)]


_TAGS = (torch.Tag.pt2_compliant_tag,)
LIBRARY.define("cached(Tensor?[] fields, str name, ScalarType dtype) -> Tensor[]", tags=_TAGS)
LIBRARY.impl("cached", _run, "CPU")
torch.library.register_fake("hgraph::cached", _fake, lib=LIBRARY)


# ---------------------------------------------------------------------- of a tensor


class TensorTable(Generic[T]):
    """Maps tensors to values by identity; entries are dropped with the tensor or when it was written to.

    >>> table, x = TensorTable[str](), torch.zeros(2)
    >>> table.put(x, "zeros")
    >>> before = table.get(x)
    >>> before, table.get(x.add_(1))
    ('zeros', None)
    """

    def __init__(self) -> None:
        self._values: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def get(self, tensor: Tensor) -> T | None:
        """The value, or None."""
        found = self._values.get(tensor)
        return found[1] if found is not None and found[0] == version(tensor) else None

    def put(self, tensor: Tensor, value: T) -> None:
        """Cache a value; the caller ensures that the tensor is a plain one."""
        self._values[tensor] = (version(tensor), value)


_PERMUTED: TensorTable[tuple[Tensor, Tensor]] = TensorTable()  # permutation -> its last weights, and the result


def permuted(weight: Tensor, perm: Tensor) -> Tensor:
    """``weight[perm]`` in compiled code, where weights are new tensors in each call: cached by their values.

    Sequential comparing and copying takes a fifth of the time of random access.
    """
    return torch.ops.hgraph.permuted(weight, perm)


def _permute(weight: Tensor, perm: Tensor) -> Tensor:
    if perm.is_inference():  # inference tensors have no version
        return weight.index_select(0, perm)
    before = _PERMUTED.get(perm)
    if before is None or before[0].dtype != weight.dtype or not before[0].equal(weight):
        before = weight.clone(), weight.index_select(0, perm)
        _PERMUTED.put(perm, before)
    return before[1].clone()


LIBRARY.define("permuted(Tensor weight, Tensor perm) -> Tensor", tags=_TAGS)
LIBRARY.impl("permuted", _permute, "CPU")
torch.library.register_fake("hgraph::permuted", lambda weight, perm: weight.index_select(0, perm), lib=LIBRARY)


# ---------------------------------------------------------------------- of a size


def traced_as_constant(function: Function) -> Function:
    """Mark a function whose result a compiler treats as a constant, without tracing the function.

    Like `torch.compiler.assume_constant_result`, but avoids importing the compiler, which takes seconds.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def cached_by_size(store: dict[Any, T], key: Hashable, make: Callable[[], T], limit: int = 8) -> None:
    """Add a missing value to the store; evicts the oldest of ``limit`` values.

    Call it in a function marked `traced_as_constant` and read the store outside: then a compiler sees the value but
    not its computation.
    """
    if key in store:
        return
    with torch.inference_mode(False):  # cached values must also work in training
        value = make()
    if len(store) >= limit:
        store.pop(next(iter(store)))
    store[key] = value
