"""All private parts of torch that hgraph uses, and checks of the current execution mode.

Two checks are used throughout the library and differ. *May something be cached* by the identity of a
tensor? Not while code is traced or transformed, because tensors are then proxies. *May a call skip torch's dispatcher*?
Not if a compiler or a dispatch mode (a FLOP counter, fake tensors) must see it.
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
    """Whether a `torch.func` transform is active."""
    # Dynamo has its own interpreter stack, so check for compiling first.
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def may_cache() -> bool:
    """Whether values may be cached by tensor identity: no compiler is tracing, no transform is active."""
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is None


def may_skip_dispatcher() -> bool:
    """Whether calls may go straight to a kernel: no compiler, and no dispatch mode (FLOP counter, fake tensors)."""
    return not torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack() == 0


def is_eager() -> bool:
    """True in plain eager mode, where caching by tensor identity is safe."""
    return may_cache() and may_skip_dispatcher()


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is a plain one, whose values can be read and cached."""
    return type(tensor) is Tensor and not tensor.is_meta and is_eager()


def version(tensor: Tensor) -> int:
    """The version counter of a tensor; 0 for inference tensors, which have none.

    Writes through ``.data``, or through a NumPy array that shares the memory, are not counted.
    """
    return 0 if tensor.is_inference() else tensor._version


def in_backward() -> bool:
    """Whether a backward pass is running."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def runs_below_autograd() -> bool:
    """Whether the caller runs below autograd."""
    return torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.AutogradFunctionality)


def ordinary_tensors() -> AbstractContextManager[Any]:
    """A context where new tensors are ordinary ones, usable in training, even in `torch.inference_mode`."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return nullcontext()
    return torch.inference_mode(False)


def has_tangent(values: tuple[Any, ...]) -> bool:
    """Whether one of these tensors has a forward-mode tangent."""
    if forward_ad._current_level < 0 or runs_below_autograd():
        return False
    return any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in values)


def private_operator(name: str, arguments: list[str], returned: int) -> Any:
    """A private ATen operator; None if it is missing or has changed."""
    operator = getattr(getattr(torch.ops.aten, name, None), "default", None)
    if operator is None:
        return None
    schema = operator._schema
    same = [a.name for a in schema.arguments] == arguments and len(schema.returns) == returned
    return operator if same else None
