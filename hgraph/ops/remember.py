"""What is derived from a structure alone, remembered by compiled code too.

Eager code has `hgraph.structure.derived`. A compiler that read that memory would not see somebody write to the
structure, so compiled code calls an operator instead, which looks at the tensors each time it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from hgraph.ops.dispatch.register import LIBRARY
from hgraph.structure import Adjacency

__all__ = ["Remembered", "can_remember", "fields_of", "reordered"]

Fields = Sequence[Tensor | None]
Recipe = Callable[[Fields, torch.dtype], list[Tensor]]

_RECIPES: dict[str, Recipe] = {}
# By the first field: recipe and dtype -> the versions of all, the other fields (a transpose would hold
# its origin, and so on for ever, if these were held), and the results.
_KEPT: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class Remembered:
    """An operator for compiled code, ``recipe(fields, dtype)``: tensors made of a structure's fields alone.

    It computes once, then copies, until a field is another tensor or was written to. No gradient flows through it:
    ask `can_remember` before.

    Args:
        name: of the recipe, its own in the whole library.
        recipe: what to compute; the first of the fields must be a tensor.
    """

    def __init__(self, name: str, recipe: Recipe) -> None:
        self.name = name
        _RECIPES[name] = recipe

    def __call__(self, fields: Fields, dtype: torch.dtype) -> list[Tensor]:
        """The results, which belong to the caller."""
        return torch.ops.hgraph.remembered(fields, self.name, dtype)


def fields_of(adj: Adjacency) -> list[Tensor | None]:
    """A structure's fields in their order, by name: a compiler that were shown its ``vars`` would check each twice."""
    ends = adj.indptr, adj.indices, adj.target, adj.t_indptr, adj.t_indices, adj.source
    return [*ends, adj.perm, adj.inv_perm, adj.input_order, adj.weight]


def can_remember(fields: Fields) -> bool:
    """Whether this is compiled code that may remember: CUDA graphs would write over it, exports have no use for it."""
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    return all(t is None or (t.is_cpu and not t.requires_grad) for t in fields)


def _run(fields: Fields, name: str, dtype: torch.dtype) -> list[Tensor]:
    first, *others = fields
    if any(t is not None and t.is_inference() for t in fields):  # they have no versions
        return [t.clone() for t in _RECIPES[name](fields, dtype)]
    versions = [None if t is None else t._version for t in fields]
    kept = _KEPT.setdefault(first, {})
    before = kept.get((name, dtype))
    if before is None or before[0] != versions or not all(map(_is, before[1], others)):
        with torch.inference_mode(False), torch.no_grad():
            found = _RECIPES[name](fields, dtype)
        weak = [None if t is None else TensorWeakRef(t) for t in others]
        before = kept[name, dtype] = (versions, weak, found)
    # Copies: compiled code may write into what an operator hands it.
    return [t.clone() for t in before[2]]


def _is(weak: TensorWeakRef | None, tensor: Tensor | None) -> bool:
    return tensor is None if weak is None else weak() is tensor


def _fake(fields: Fields, name: str, dtype: torch.dtype) -> list[Tensor]:
    return [torch.empty_like(t) for t in _RECIPES[name](fields, dtype)]


LIBRARY.define(
    "remembered(Tensor?[] fields, str name, ScalarType dtype) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,)
)
LIBRARY.impl("remembered", _run, "CPU")
torch.library.register_fake("hgraph::remembered", _fake, lib=LIBRARY)


# By the order: the last weights brought into it, and the result.
_REORDERED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def reordered(weight: Tensor, perm: Tensor) -> Tensor:
    """``weight[perm]`` in compiled code, where weights are new tensors each time: remembered by their numbers.

    To compare and to copy them goes along memory, which takes a fifth of the time of jumping about in it.
    """
    return torch.ops.hgraph.reordered(weight, perm)


def _reorder(weight: Tensor, perm: Tensor) -> Tensor:
    if perm.is_inference():  # it has no version
        return weight.index_select(0, perm)
    before = _REORDERED.get(perm)
    version = perm._version
    if before is None or before[0] != version or before[1].dtype != weight.dtype or not before[1].equal(weight):
        before = _REORDERED[perm] = (version, weight.clone(), weight.index_select(0, perm))
    return before[2].clone()


LIBRARY.define("reordered(Tensor weight, Tensor perm) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
LIBRARY.impl("reordered", _reorder, "CPU")
torch.library.register_fake("hgraph::reordered", lambda weight, perm: weight.index_select(0, perm), lib=LIBRARY)
