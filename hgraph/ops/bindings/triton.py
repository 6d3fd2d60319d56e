"""The Triton backend: kernels of `hgraph.kernels`, on CUDA or in Triton's interpreter.

Triton is imported when the first operator runs, because `import hgraph` only needs torch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hgraph.ops.chain.affine import Segments, chunks
from hgraph.ops.sparse.linear import Rows, flatten_batch, upcast
from hgraph.ops.tiles.padding import without_sources
from hgraph.ops.tiles.plan import part_size, tiles_of
from hgraph.structure import BlockAdjacency
from hgraph.structure.row_lengths import longest

__all__ = ["KERNELS", "state"]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def state() -> str:
    """``"available"``, or the reason why not."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install triton"
    if not torch.cuda.is_available() and not _interpreted():
        return "there is no CUDA device"
    return "available"


def _served(*tensors: Tensor | None) -> bool:
    """Whether the kernels support the dtypes and devices."""
    given = [t for t in tensors if t is not None]
    return all(t.dtype in _DTYPES and (t.is_cuda or _interpreted()) for t in given)


def _on_device(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Launch on the device of the structure, which may differ from the current one."""

    def run(adj: Rows, *arguments: Any) -> Any:
        if not adj[0].is_cuda:
            return kernel(adj, *arguments)
        with torch.cuda.device(adj[0].device):
            return kernel(adj, *arguments)

    return run


def _longest_row(adj: Rows) -> int | None:
    """The cached longest row; 1 if rows and pointers are the same list."""
    one_each = adj[2].data_ptr() == adj[0].data_ptr()  # `linear.edges_to_targets`
    return 1 if one_each else longest(adj[0])


def _spmm(adj: Rows, weight: Tensor | None, x: Tensor) -> Any:
    from hgraph.kernels.csr_reduce import csr_reduce

    return _reduced(csr_reduce, "sum", adj, weight, x)


def _mean(adj: Rows, weight: Tensor | None, x: Tensor) -> Any:
    from hgraph.kernels.csr_reduce import csr_reduce

    return _reduced(csr_reduce, "mean", adj, weight, x)


def _extremum(adj: Rows, weight: Tensor | None, x: Tensor, largest: bool) -> Any:
    from hgraph.kernels.csr_reduce import csr_reduce

    return _reduced(csr_reduce, "max" if largest else "min", adj, weight, x)


def _reduced(csr_reduce: Callable[..., Tensor], kind: str, adj: Rows, weight: Tensor | None, x: Tensor) -> Any:
    if not _served(weight, x):
        return NotImplemented
    weight = None if weight is None else weight.to(x.dtype)
    out = csr_reduce(adj[0], adj[1], adj[2], weight, flatten_batch(x), kind, _longest_row(adj))
    return out.view(*x.shape[:-2], *out.shape[1:])


def _sddmm(adj: Rows, a: Tensor, b: Tensor, heads: int) -> Any:
    from hgraph.kernels.score_dot import score_dot

    if not _served(a, b):
        return NotImplemented
    return score_dot(adj[1], adj[2], flatten_batch(a), flatten_batch(b), heads, a.dtype)


def _extremum_grads(
    adj: Rows, weight: Tensor | None, x: Tensor, out: Tensor, grad: Tensor, of_weight: bool, of_x: bool
) -> Any:
    from hgraph.kernels.csr_extremum import tie_count, tie_flow
    from hgraph.kernels.score_dot import Ties, score_dot

    if not _served(weight, x, grad):
        return NotImplemented
    weight = None if weight is None else weight.to(x.dtype)
    x_all, out, grad = flatten_batch(x), flatten_batch(out), flatten_batch(grad)
    per_tie = grad / tie_count(adj[0], adj[1], adj[2], weight, x_all, out, _longest_row(adj)).clamp_(min=1)
    grad_x, grad_weight = x.new_empty(0), upcast(x.new_empty(0))
    if of_x:
        transposed = None if weight is None else weight.index_select(0, adj[6])
        grad_x = tie_flow(adj[3], adj[4], adj[5], transposed, x_all, out, per_tie, longest(adj[3])).view(x.shape)
    if of_weight:
        heads = 1 if weight is None or weight.dim() == 1 else weight.shape[1]
        grad_weight = score_dot(adj[1], adj[2], per_tie, x_all, heads, per_tie.dtype, Ties(weight, out))
    return grad_x, grad_weight


def _softmax(adj: Rows, score: Tensor) -> Any:
    from hgraph.kernels.edge_softmax import edge_softmax

    return edge_softmax(adj[0], adj[2], score, _longest_row(adj)) if _served(score) else NotImplemented


def _additive(adj: Rows, q: Tensor, k: Tensor, a: Tensor, slope: float) -> Any:
    from hgraph.kernels.score_additive import additive_score

    return additive_score(adj[1], adj[2], q, k, a, slope) if _served(q, k, a) else NotImplemented


def _additive_grads(adj: Rows, q: Tensor, k: Tensor, a: Tensor, slope: float, grad: Tensor) -> Any:
    from hgraph.kernels.score_additive import additive_flow

    if not _served(q, k, a, grad):
        return NotImplemented
    grad_q, grad_a = additive_flow(adj[0], adj[1], adj[2], grad, q, k, a, slope, vector=True, longest=longest(adj[0]))
    transposed = grad.index_select(0, adj[6])
    grad_k, _ = additive_flow(adj[3], adj[4], adj[5], transposed, k, q, a, slope, vector=False, longest=longest(adj[3]))
    return grad_q, grad_k, grad_a


def _attend(adj: Rows, q: Tensor | None, k: Tensor | None, v: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    from hgraph.kernels.csr_attend import WIDEST, Inputs, csr_attend

    given = Inputs(q, k, v, bias, *rest)
    if not _served(q, k, v, bias) or max(given.widths) > WIDEST:
        return NotImplemented
    return csr_attend(adj[0], adj[1], adj[2], given, longest(adj[0]))


def _attend_grads(adj: Rows, q: Tensor | None, k: Tensor | None, v: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    from hgraph.kernels.csr_attend import WIDEST, Inputs
    from hgraph.kernels.csr_attend_grads import csr_attend_grads

    *numbers, lse, delta, grad = rest
    given = Inputs(q, k, v, bias, *numbers)
    if not _served(q, k, v, bias, grad) or max(given.widths) > WIDEST:
        return NotImplemented
    lists = (adj[0], adj[1], adj[2]), (adj[3], adj[4], adj[5])
    most = longest(adj[0]), longest(adj[3])
    *grads, grad_bias = csr_attend_grads(*lists, adj[6], given, lse, delta, grad, most)
    if bias is not None and grad_bias is not None and bias.shape[1] != given.heads:
        grad_bias = grad_bias.unflatten(1, (-1, bias.shape[1])).sum(1)  # sum over the heads that share a column
    return tuple(v.new_empty(0) if g is None else g for g in (*grads, grad_bias))


def _softmax_grads(adj: Rows, alpha: Tensor, grad: Tensor) -> Any:
    from hgraph.ops.sparse.softmax import softmax_grads

    return softmax_grads(adj, alpha, grad) if _served(alpha, grad) else NotImplemented  # uses the sum kernels


def _affine_scan(segments: Segments, a: Tensor, b: Tensor, initial: Tensor | None, chunk: int) -> Any:
    from hgraph.kernels.affine_scan import affine_scan

    if not _served(a, b, initial):
        return NotImplemented
    first, end, _, pointer = chunks(segments, b.shape[1], chunk)
    return affine_scan(a, b, initial, first, end, pointer)


def _memory_scan(
    segments: Segments, q: Tensor, k: Tensor, v: Tensor, log_a: Tensor, initial: Tensor | None, axis: int, chunk: int
) -> Any:
    from hgraph.kernels.chunk_scan import LARGEST, WIDEST, chunk_scan

    if not _served(q, k, v, log_a, initial) or q.shape[2] > WIDEST:
        return NotImplemented
    first, end, _, pointer = chunks(segments, q.shape[1], min(chunk, LARGEST))
    return chunk_scan(q, k, v, log_a, initial, first, end, pointer, axis, interpreted=_interpreted())


def _tile_parts(tiles: list[Tensor], padding: Tensor | None) -> Any:
    from hgraph.kernels.block_attend import Tiles

    each, made = part_size(tiles), []
    for at in range(2, len(tiles), each):
        index, rule, count, row, *transpose = tiles[at : at + each]
        part = BlockAdjacency(index, rule, count, row, tiles[0], tiles[1], *transpose)  # type: ignore[arg-type]
        if padding is not None:  # kernels read which pairs meet from the bits of tiles
            part = without_sources(part, padding)
        transposed = None if part.t_index is None else (part.t_index, part.t_rule, part.t_count)
        made.append(Tiles(part.index, part.rule, part.count, part.row, part.mask, transposed))  # type: ignore[arg-type]
    return made


def _without_mask(arguments: tuple[Any, ...]) -> tuple[Any, Tensor | None]:
    """The kernels' inputs, and the mask of sources, which they have none of."""
    from hgraph.kernels.block_attend import Inputs

    return Inputs(*arguments[:6], *arguments[7:10]), arguments[6]


def _block_attend(tiles: list[Tensor], *arguments: Any) -> Any:
    from hgraph.kernels.block_attend import block_attend, serves

    tiles = tiles_of(tiles)
    given, padding = _without_mask(arguments)
    if not _served(*given[:4]) or not serves(tiles[0].shape[1], given):
        return NotImplemented
    return block_attend(_tile_parts(tiles, padding), given, interpreted=_interpreted())


def _block_attend_grads(tiles: list[Tensor], *arguments: Any) -> Any:
    from hgraph.kernels.block_attend import serves
    from hgraph.kernels.block_attend_grads import block_attend_grads

    tiles = tiles_of(tiles)
    (given, padding), (out, lse, delta, grad, direct, of_table) = _without_mask(arguments), arguments[10:]
    if not _served(*given[:4]) or not serves(tiles[0].shape[1], given):
        return NotImplemented
    if direct:
        delta = (upcast(grad) * out).sum(-1)
    *flows, of_entries = block_attend_grads(
        _tile_parts(tiles, padding),
        given,
        lse,
        delta,
        grad.to(given.q.dtype),
        of_table=of_table,
        interpreted=_interpreted(),
    )
    return *flows, upcast(given.q.new_empty(0)) if of_entries is None else of_entries


_OPERATORS: dict[str, Callable[..., Any]] = {
    "spmm": _spmm,
    "mean": _mean,
    "sddmm": _sddmm,
    "extremum": _extremum,
    "extremum_grads": _extremum_grads,
    "softmax": _softmax,
    "softmax_grads": _softmax_grads,
    "additive": _additive,
    "additive_grads": _additive_grads,
    "attend": _attend,
    "attend_grads": _attend_grads,
    "affine_scan": _affine_scan,
    "memory_scan": _memory_scan,
    "block_attend": _block_attend,
    "block_attend_grads": _block_attend_grads,
}
KERNELS = {name: _on_device(kernel) for name, kernel in _OPERATORS.items()}
