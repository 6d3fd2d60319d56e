"""Every private part of torch that hgraph uses, and the questions of what may be done with tensors right now.

Two questions are asked all over the library and are not the same. *May something be cached* by the identity of a
tensor? Not while code is traced or transformed: tensors then stand for others. *May a call skip torch's dispatcher*?
Not where a compiler or a dispatch mode (a counter, fake tensors) wants to see it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = [
    "LIBRARY",
    "below_autograd",
    "has_tangent",
    "in_backward",
    "is_eager",
    "is_plain",
    "is_transformed",
    "may_cache",
    "may_skip_dispatcher",
    "ordinary_tensors",
    "private_operator",
    "runs_below_autograd",
    "version",
]

LIBRARY = torch.library.Library("hgraph", "DEF")
below_autograd = torch._C._AutoDispatchBelowAutograd


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is under way."""
    # Dynamo has an interpreter stack of its own, so compiling comes first.
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def may_cache() -> bool:
    """Whether values may be cached by the identity of tensors: no compiler traces, no transform is under way."""
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is None


def may_skip_dispatcher() -> bool:
    """Whether calls may go straight to a kernel: no compiler, no counter, no fake tensors (dispatch modes)."""
    return not torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack() == 0


def is_eager() -> bool:
    """Both: tensors are what they seem, and nothing watches the calls."""
    return may_cache() and may_skip_dispatcher()


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is what it seems, with numbers that can be read and cached."""
    return type(tensor) is Tensor and not tensor.is_meta and is_eager()


def version(tensor: Tensor) -> int:
    """How often a tensor was written to, as far as torch sees it; 0 for inference tensors, which do not count.

    Writes through ``.data``, or through a NumPy array that shares the memory, are not seen.
    """
    return 0 if tensor.is_inference() else tensor._version


def in_backward() -> bool:
    """Whether a backward pass is under way."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def runs_below_autograd() -> bool:
    """Whether the caller is beneath autograd already."""
    return torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.AutogradFunctionality)


def ordinary_tensors() -> AbstractContextManager[Any]:
    """A context in which new tensors are ordinary ones, which training may use, under `torch.inference_mode` too."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return nullcontext()
    return torch.inference_mode(False)


def has_tangent(values: tuple[Any, ...]) -> bool:
    """Whether a tensor among these carries a tangent of forward-mode derivatives."""
    if forward_ad._current_level < 0 or runs_below_autograd():
        return False
    return any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in values)


def private_operator(name: str, arguments: list[str], returned: int) -> Any:
    """An operator of ATen that torch does not promise to keep; None where it is missing or has changed."""
    operator = getattr(getattr(torch.ops.aten, name, None), "default", None)
    if operator is None:
        return None
    schema = operator._schema
    same = [a.name for a in schema.arguments] == arguments and len(schema.returns) == returned
    return operator if same else None
