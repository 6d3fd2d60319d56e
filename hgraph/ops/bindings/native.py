"""The native backend: optional CPU kernels in float32, built by ``hgraph kernels build``.

Results agree with the reference within rounding, not bit for bit: the order of summation differs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgraph.errors import BackendError
from hgraph.kernels import native
from hgraph.ops.sparse.linear import Rows, flatten_batch, transposed_weight, upcast
from hgraph.ops.sparse.mean import mean_of_sums

__all__ = ["KERNELS", "build", "state"]


def state() -> str:
    """``"available (path)"``, or the reason why not."""
    try:
        path = native.find()
        if path is None:
            return "not built: run hgraph kernels build"
        native.load()
    except OSError as error:
        return f"cannot be loaded: {error}"
    return f"available ({path})"


def build() -> Path:
    """Compile the kernels for this machine if needed; returns the library's path.

    Raises:
        BackendError: no compiler, a failed compilation, or a cache folder that cannot be written.
    """
    from hgraph.ops.dispatch.backend import refresh

    try:
        path = native.build()
    except native.BuildError as error:
        raise BackendError(f"hgraph kernels build: {error}") from error
    refresh()
    return path


def _served(*tensors: Tensor | None) -> bool:
    """Whether all tensors are float32 on a CPU."""
    return all(t is None or t.dtype == torch.float32 for t in tensors)


def _columns(weight: Tensor | None) -> Tensor | None:
    """[E, K]."""
    return weight.unsqueeze(1) if weight is not None and weight.dim() == 1 else weight


def _each(x: Tensor, targets: int, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """[..., T, D]: apply a reduction of [S, D] to every example of x [..., S, D]; 0 for empty inputs."""
    if x.dim() == 2 and x.numel():
        return reduce(x)
    shape = (*x.shape[:-2], targets, x.shape[-1])
    return torch.stack([reduce(one) for one in flatten_batch(x)]).view(shape) if x.numel() else x.new_zeros(shape)


def _spmm(adj: Rows, weight: Tensor | None, x: Tensor) -> Any:
    if not _served(x):
        return NotImplemented
    wide = None if weight is None else weight.float()
    return _each(x, adj[0].shape[0] - 1, lambda one: native.spmm(adj[0], adj[1], wide, one))


def _mean(adj: Rows, weight: Tensor | None, x: Tensor) -> Any:
    return mean_of_sums(adj, weight, x, _spmm) if _served(upcast(x)) else NotImplemented


def _sddmm(adj: Rows, a: Tensor, b: Tensor, heads: int) -> Any:
    if not _served(a, b):
        return NotImplemented
    out = a.new_zeros((adj[2].shape[0], heads))
    if out.numel():
        for a_one, b_one in zip(flatten_batch(a), flatten_batch(b), strict=True):
            native.sddmm(adj[2], adj[1], a_one, b_one, heads, out)
    return out


def _extremum(adj: Rows, weight: Tensor | None, x: Tensor, largest: bool) -> Any:
    if not _served(x, weight):
        return NotImplemented
    wide = _columns(weight)
    return _each(x, adj[0].shape[0] - 1, lambda one: native.extremum(adj[0], adj[1], wide, one, largest=largest))


def _extremum_grads(
    adj: Rows, weight: Tensor | None, x: Tensor, out: Tensor, grad: Tensor, of_weight: bool, of_x: bool
) -> Any:
    if not _served(x, weight, out, grad):
        return NotImplemented
    weight, back, grad_x = _columns(weight), _columns(transposed_weight(weight, adj[6]) if of_x else None), []
    grad_weight = x.new_zeros((adj[1].shape[0], 1 if weight is None else weight.shape[1])) if of_weight else None
    for one in zip(flatten_batch(x), flatten_batch(out), flatten_batch(grad), strict=True) if x.numel() else ():
        per_tie = native.extremum_share((adj[0], adj[1]), weight, *one, grad_weight)
        if of_x:
            grad_x.append(native.extremum_flow((adj[3], adj[4]), back, *one[:2], per_tie))
    found = grad_x[0] if len(grad_x) == 1 else torch.stack(grad_x) if grad_x else x.new_zeros(x.shape if of_x else 0)
    return found.view(x.shape) if of_x else found, x.new_empty(0) if grad_weight is None else grad_weight


def _softmax(adj: Rows, score: Tensor) -> Any:
    return native.softmax(adj[0], score) if _served(score) else NotImplemented


def _softmax_grads(adj: Rows, alpha: Tensor, grad: Tensor) -> Any:
    return native.softmax_grads(adj[0], alpha, grad) if _served(alpha, grad) else NotImplemented


def _attend(adj: Rows, q: Tensor | None, k: Tensor | None, v: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    if not _served(q, k, v, bias):
        return NotImplemented
    return native.attend((adj[0], adj[1]), native.Attended(q, k, v, bias, *rest))


def _attend_grads(adj: Rows, q: Tensor | None, k: Tensor | None, v: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    *numbers, lse, delta, grad = rest
    if not _served(q, k, v, bias, lse, delta, grad):
        return NotImplemented
    given = native.Attended(q, k, v, bias, *numbers)
    return native.attend_grads((adj[0], adj[1], adj[7]), (adj[3], adj[4], adj[6]), given, lse, delta, grad)


def _sample(adj: Rows, targets: Tensor, indptr: Tensor, fanout: int, seed: Tensor) -> Any:
    return native.sample(adj[0], targets, indptr, fanout, int(seed))


KERNELS = {
    "spmm": _spmm,
    "mean": _mean,
    "sddmm": _sddmm,
    "extremum": _extremum,
    "extremum_grads": _extremum_grads,
    "softmax": _softmax,
    "softmax_grads": _softmax_grads,
    "attend": _attend,
    "attend_grads": _attend_grads,
    "sample": _sample,
}
