"""What is derived from a structure alone, remembered by compiled code too.

Eager code has `hgraph.structure.derived`. A compiler that read that memory would not see somebody write to the
structure, so compiled code calls an operator instead, which looks at the tensors each time it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from hgraph.ops.register import _LIBRARY

__all__ = ["Remembered"]

Fields = Sequence[Tensor | None]
Recipe = Callable[[Fields, torch.dtype], list[Tensor]]

_RECIPES: dict[str, Recipe] = {}
# By the first tensor: recipe and dtype -> every tensor there was by place, its version, and the results.
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


def can_remember(fields: Fields) -> bool:
    """Whether this is compiled code that may remember: CUDA graphs would write over it, exports have no use for it."""
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    return all(t is None or (t.is_cpu and not t.requires_grad) for t in fields)


def _run(fields: Fields, name: str, dtype: torch.dtype) -> list[Tensor]:
    there = [t for t in fields if t is not None]
    if any(t.is_inference() for t in there):  # they have no versions
        return [t.clone() for t in _RECIPES[name](fields, dtype)]
    places = [(i, t._version) for i, t in enumerate(fields) if t is not None]
    kept = _KEPT.setdefault(there[0], {})
    before = kept.get((name, dtype))
    if before is None or before[0] != places or any(ref() is not t for ref, t in zip(before[1], there, strict=True)):
        with torch.inference_mode(False), torch.no_grad():
            found = _RECIPES[name](fields, dtype)
        before = kept[name, dtype] = (places, [TensorWeakRef(t) for t in there], found)
    # Copies: compiled code may write into what an operator hands it.
    return [t.clone() for t in before[2]]


def _fake(fields: Fields, name: str, dtype: torch.dtype) -> list[Tensor]:
    return [torch.empty_like(t) for t in _RECIPES[name](fields, dtype)]


_LIBRARY.define(
    "remembered(Tensor?[] fields, str name, ScalarType dtype) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,)
)
_LIBRARY.impl("remembered", _run, "CPU")
torch.library.register_fake("hgraph::remembered", _fake, lib=_LIBRARY)
