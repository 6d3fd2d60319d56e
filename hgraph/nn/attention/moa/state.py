"""Decode state of a mixture of spans: sink tokens, and a ring buffer per head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.nn.attention.state import DecodeState
from hgraph.ops import attend, merge
from hgraph.ops.attend import AttendResult
from hgraph.structure import TokenGraph

__all__ = ["SpanState"]


class _Ring(NamedTuple):
    """The heads of keys and values with rings of equal length, and the query heads that use them."""

    length: int
    key_heads: list[int]
    query_heads: list[int]


class SpanState(DecodeState):
    """Keys and values of sink tokens and, for each head, of the last tokens of its span, in a ring.

    Use it to decode token by token with `MoAAttention`.

    Token s is in slot s modulo the length of the ring, replacing the token that has left the span. Query heads that
    share keys may have different spans; the ring has the longest one. Created by `MoAAttention.span_state`; the caller
    passes it at every step.

    Args:
        widths: blocks in each query head's band, including the token's own block.
        num_kv_heads: heads of keys and values, each used by adjacent query heads.
        num_sink: first tokens of a sequence that every token attends to.
        block_size: tokens per block.
        capacity: maximum number of tokens of a sequence, which the spans are based on.
    """

    capacity: int

    def __init__(
        self, widths: Sequence[int], *, num_kv_heads: int, num_sink: int, block_size: int, capacity: int
    ) -> None:
        super().__init__(capacity)
        self.widths, self.block_size = list(widths), block_size
        self.sink = min(num_sink, capacity)
        group = len(widths) // num_kv_heads
        length = [min(max(widths[h * group : (h + 1) * group]) * block_size, capacity) for h in range(num_kv_heads)]
        self._rings = [
            _Ring(n, own, [h * group + i for h in own for i in range(group)])
            for n in sorted(set(length))
            for own in [[h for h in range(num_kv_heads) if length[h] == n]]
        ]
        self._clear()

    def _clear(self) -> None:
        self._sinks: tuple[Tensor, Tensor] | None = None
        self._ring_tensors: list[tuple[Tensor, Tensor]] = []

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        if self._sinks is not None:
            self._sinks = function(self._sinks[0]), function(self._sinks[1])
        self._ring_tensors = [(function(key), function(value)) for key, value in self._ring_tensors]

    def _of_capacity(self, capacity: int) -> str:
        return f"layer.span_state({capacity})"

    @property
    def num_cached(self) -> int:
        """Number of allocated tokens over all heads of keys and values."""
        return sum((self.sink + ring.length) * len(ring.key_heads) for ring in self._rings)

    @torch.no_grad()
    def append(self, key: Tensor, value: Tensor) -> None:  # type: ignore[override]
        """Store keys and values [..., n, H_kv, D] of the next tokens. Not differentiable."""
        low, high = self._fit(key.shape[:-3], key.shape[-3], key.device)
        if self._sinks is None:
            self._sinks = _allocate(self.sink, key, value)
            own = [(key[..., r.key_heads, :], value[..., r.key_heads, :]) for r in self._rings]
            self._ring_tensors = [_allocate(r.length, *pair) for r, pair in zip(self._rings, own, strict=True)]
        for room, new in zip(self._sinks, (key, value), strict=True):
            room[..., low : min(high, self.sink), :, :] = new[..., : max(min(high, self.sink) - low, 0), :, :]
        for ring, stored in zip(self._rings, self._ring_tensors, strict=True):
            first = max(low, high - ring.length)
            slots = torch.arange(first, high, device=key.device) % ring.length
            for room, new in zip(stored, (key, value), strict=True):
                room.index_copy_(-3, slots, new[..., first - low :, :, :][..., ring.key_heads, :])
        self._advance(key.shape[:-3], high)

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> AttendResult:
        """Store one token [..., 1, H_kv, D]; returns its attention output [..., 1, H, D] and lse."""
        self.append(key, value)
        if self._sinks is None:
            raise RuntimeError("append has created the sinks")
        token, parts = self._length - 1, []
        for ring, stored in zip(self._rings, self._ring_tensors, strict=True):
            own = query[..., ring.query_heads, :]
            sinks = (room[..., ring.key_heads, :] for room in self._sinks)
            of_sinks = attend(self._first(token).to(query.device), own, *sinks)
            of_ring = attend(self._last(token, ring).to(query.device), own, *stored)
            parts.append(merge(AttendResult(*of_sinks), of_ring))
        order = torch.tensor([h for ring in self._rings for h in ring.query_heads], device=query.device)
        (outs, logs), own = zip(*parts, strict=True), torch.argsort(order)
        return AttendResult(torch.cat(outs, -2).index_select(-2, own), torch.cat(logs, -1).index_select(-1, own))

    def keys(self) -> Tensor:
        """Keys [..., N, H_kv, D] of the tokens so far, 0 for dropped ones: for records."""
        if self._sinks is None:
            raise RuntimeError("the state has no tokens")
        room, stored = self._sinks[0], [keys for keys, _ in self._ring_tensors]
        out = room.new_zeros(*room.shape[:-3], self._length, *room.shape[-2:])
        for ring, keys in zip(self._rings, stored, strict=True):
            own = torch.arange(max(self._length - ring.length, 0), self._length, device=room.device)
            heads = torch.tensor(ring.key_heads, device=room.device)
            some = out[..., heads, :].index_copy(-3, own, keys.index_select(-3, own % ring.length))
            out = out.index_copy(-2, heads, some)
        first = min(self.sink, self._length)
        return torch.cat([room[..., :first, :, :], out[..., first:, :, :]], -3)

    def _first(self, token: int) -> TokenGraph:
        """The graph of the token to the sinks."""
        stop = [min(token + 1, self.sink)]
        return TokenGraph.from_runs(row=[0], start=[0], stop=stop, num_targets=1, num_sources=self.sink)

    def _last(self, token: int, ring: _Ring) -> TokenGraph:
        """The graph of the token to the slots of a ring, by query head, without sinks."""
        row, start, stop = [], [], []
        for i, h in enumerate(ring.query_heads):
            first = max((token // self.block_size + 1 - self.widths[h]) * self.block_size, self.sink)
            count = max(token + 1 - first, 0)
            begin = first % ring.length
            row += [i, i]
            start += [begin, 0]
            stop += [min(begin + count, ring.length), max(begin + count - ring.length, 0)]
        sizes = {"num_targets": 1, "num_sources": ring.length, "num_heads": len(ring.query_heads)}
        return TokenGraph.from_runs(row=row, start=start, stop=stop, **sizes)


def _allocate(size: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # only the prompt may be in inference mode
        k, v = (x.new_zeros(*x.shape[:-3], size, *x.shape[-2:]) for x in (key, value))
    return k, v
