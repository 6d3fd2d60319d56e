"""Decode state of landmark attention: landmarks of past blocks, and their tokens, which are fetched on demand."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from hgraph import patterns
from hgraph.checks import whole
from hgraph.errors import ArgumentError
from hgraph.nn.attention.rotary import apply_rotary_emb
from hgraph.nn.attention.state import DecodeState
from hgraph.ops import AttendResult, attend_groups
from hgraph.structure import TokenGraph

__all__ = ["LandmarkState"]

_SELECT = ("token_and_head", "max_over_heads", "max_over_tokens")
_FETCHED = 1 << 22  # numbers in keys that are fetched at a time


@functools.cache
def _one_group(device: torch.device) -> TokenGraph:
    """Each list of queries attends to one group: the selected blocks are examples, and their results are merged."""
    with torch.inference_mode(False):  # cached tensors are used in training too
        return patterns.full(1, 1).to(device)


class LandmarkState(DecodeState):
    r"""Past blocks for one layer; the caller creates it and passes it at every step.

    Use it to decode token by token with `LandmarkAttention`, with a past larger than the device's memory.

    A query scores the landmarks of all stored blocks and attends only to the ``topk`` best blocks. Landmarks are on the
    device of the layer, the tokens of blocks on ``offload``; only selected blocks are fetched.

    Positions: with ``positions="stingy"``, as published, distances are at most ``topk + 1`` blocks and the chunk. For
    scoring, each of the last ``topk`` blocks has its own position, and all older ones have the position ``topk + 1``
    blocks back. Then the selected blocks among the last ``topk`` are placed, in order, directly before the chunk, and
    the older ones start at ``topk + 1`` blocks back. With ``"true"``, every block has its true position.

    Args:
        max_blocks: maximum number of blocks; the oldest are dropped.
        topk: number of blocks that a query attends to.
        select: ``"token_and_head"`` selects blocks for each query of each head; ``"max_over_heads"`` for all heads of a
            token; ``"max_over_tokens"`` for all tokens of the call, by the largest weight of a block. The latter two
            fetch fewer blocks.
        positions: ``"stingy"`` or ``"true"``.
        offload: device for the tokens of past blocks, such as ``"cpu"`` for a model on a GPU (pinned memory); by
            default the device of the layer.

    Source: Mohtashami and Jaggi, "Landmark Attention", section 3.2 and 3.3; keys are stored with the rotation of their
    position in the block, so that the position of the block can be chosen later.

    >>> from hgraph import nn
    >>> layer, x = nn.LandmarkAttention(8, 2, block_size=3).eval(), torch.randn(1, 10, 8)
    >>> state = nn.attention.LandmarkState(max_blocks=4, topk=4)
    >>> steps = torch.cat([layer(x[:, t : t + 1], state=state) for t in range(10)], 1)
    >>> torch.allclose(steps, layer(x), atol=1e-6), len(state), state.num_blocks
    (True, 10, 2)
    """

    def __init__(
        self,
        max_blocks: int,
        topk: int,
        *,
        select: str = "token_and_head",
        positions: str = "stingy",
        offload: torch.device | str | None = None,
    ) -> None:
        if select not in _SELECT:
            raise ArgumentError("select", f"one of {', '.join(_SELECT)}", repr(select))
        if positions not in ("stingy", "true"):
            raise ArgumentError("positions", "'stingy' or 'true'", repr(positions))
        super().__init__()
        self.max_blocks, self.topk = whole("max_blocks", max_blocks, 1), whole("topk", topk, 1)
        if topk > max_blocks:
            raise ArgumentError("topk", f"at most max_blocks = {max_blocks}", topk)
        self.select, self.positions = select, positions
        try:
            self.offload = None if offload is None else torch.device(offload)
        except RuntimeError:
            raise ArgumentError("offload", "a device such as 'cpu' or 'cuda'", repr(offload)) from None
        self._clear()

    def _clear(self) -> None:
        self._finished = 0
        self._open: tuple[Tensor, Tensor] | None = None  # keys and values of the unfinished block, [B, m, K, D]
        self._handles: Tensor | None = None  # [B, K, R, D], landmarks with the rotation of their position in the block
        # Keys with that rotation, and values, [B, K, R, b, D]; a block is at entry number % R.
        self._blocks: tuple[Tensor, Tensor] | None = None

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        if self._open is not None:
            self._open = function(self._open[0]), function(self._open[1])
        if self._handles is not None and self._blocks is not None:
            self._handles = function(self._handles)
            self._blocks = function(self._blocks[0]), function(self._blocks[1])

    def __repr__(self) -> str:
        """Sizes instead of tensors."""
        blocks = f"{self.num_blocks} of at most {self.max_blocks} blocks, topk {self.topk}"
        return f"LandmarkState({len(self)} tokens; {blocks})"

    @property
    def num_blocks(self) -> int:
        """Number of stored blocks."""
        return min(self._finished, self.max_blocks)

    # ------------------------------------------------------------------ methods for the layer

    def joined(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The unfinished block and the new tokens, [B, m + T, K, D]."""
        self._fit(key.shape[:1], key.shape[1], key.device)
        if self._open is None:
            return key, value
        for old, new in zip(self._open, (key, value), strict=True):
            if old.shape[2:] != new.shape[2:]:
                expected, got = (f"heads {list(x.shape[2:])}" for x in (old, new))
                raise ArgumentError("state", f"a layer of {expected} as before", got, "Use one state per layer")
        old, values = self._open
        return torch.cat([old, key], 1), torch.cat([values, value], 1)

    @torch.no_grad()
    def append(  # type: ignore[override]
        self, key: Tensor, value: Tensor, *, new: int, size: int, base: float | None
    ) -> None:
        """Store finished blocks of ``size`` tokens of keys and values [B, L, K, D], the last ``new`` of them new."""
        whole_blocks = key.shape[1] // size
        self._advance(key.shape[:1], len(self) + new)
        self._open = key[:, whole_blocks * size :].detach().clone(), value[:, whole_blocks * size :].detach().clone()
        if not whole_blocks:
            return
        inside = torch.arange(size, device=key.device).repeat(whole_blocks)
        key, value = key[:, : whole_blocks * size], value[:, : whole_blocks * size]
        key = key if base is None else apply_rotary_emb(key, inside, base)
        key, value = (x.unflatten(1, (whole_blocks, size)).permute(0, 3, 1, 2, 4) for x in (key, value))
        if self._handles is None or self._blocks is None:
            with torch.inference_mode(False):  # only the prompt may be in inference mode
                self._handles = key.new_zeros(*key.shape[:2], self.max_blocks, key.shape[-1])
                self._blocks = self._allocate(key), self._allocate(value)
        number = torch.arange(self._finished, self._finished + whole_blocks, device=key.device)[-self.max_blocks :]
        entry, last = number % self.max_blocks, slice(whole_blocks - len(number), None)
        self._handles.index_copy_(2, entry, key[:, :, last, -1])
        for stored, x in zip(self._blocks, (key, value), strict=True):
            stored.index_copy_(2, entry.to(stored.device), x[:, :, last, :-1].to(stored.device))
        self._finished += whole_blocks

    def recall(self, query: Tensor, position: Tensor, size: int, base: float | None) -> AttendResult | None:
        """Attention to stored blocks of unrotated queries [B, T, H, D], ``position`` [T] tokens after the blocks."""
        if not self.num_blocks:
            return None
        entry, distance = self._choose(query, position, size, base)
        tokens, most = query.shape[1], max(1, _FETCHED // max(self._blocks[0][:, 0, 0].numel() * query.shape[2], 1))  # type: ignore[index]
        step = tokens if entry.shape[2] == 1 else max(1, most // entry.shape[3])
        parts = []
        for t in range(0, tokens, step):
            own = slice(None) if entry.shape[2] == 1 else slice(t, t + step)
            at = entry[:, :, own], distance[:, :, own]
            parts.append(self._attended(query[:, t : t + step], position[t : t + step], *at, size, base))
        return AttendResult(*(torch.cat(x, 1) for x in zip(*parts, strict=True)))

    @torch.no_grad()
    def log_weights(
        self, query: Tensor, position: Tensor, size: int, base: float | None
    ) -> tuple[Tensor, Tensor] | None:
        """For records, like `recall`: the numbers [B, H, T, k] of the selected blocks, counted from the first block.

        Also returns the logarithm [B, H, T, k, b] of the weights of their tokens for lse 0.
        """
        if not self.num_blocks:
            return None
        entry, distance = self._choose(query, position, size, base)
        query, handle, key, _ = self._rotated(query, position, entry, distance, size, base)
        scale = query.shape[-1] ** -0.5
        inner = (query @ key.transpose(-1, -2) * scale).log_softmax(-1)  # [B, H, lists, k, queries, b]
        outer = query @ handle.unsqueeze(-1) * scale
        number = self._finished - 1 - (self._finished - 1 - entry) % self.max_blocks
        number = number.unsqueeze(3).expand(*number.shape[:3], query.shape[4], -1)
        return number.flatten(2, 3), (outer + inner).transpose(3, 4).flatten(2, 3)

    # ------------------------------------------------------------------ helpers

    def _allocate(self, x: Tensor) -> Tensor:
        """Memory for the tokens of max_blocks blocks, like x [B, K, blocks, size, D]."""
        device = x.device if self.offload is None else self.offload
        shape = (*x.shape[:2], self.max_blocks, x.shape[3] - 1, x.shape[4])
        return torch.zeros(shape, dtype=x.dtype, device=device, pin_memory=device.type == "cpu" and x.is_cuda)

    def _choose(self, query: Tensor, position: Tensor, size: int, base: float | None) -> tuple[Tensor, Tensor]:
        """Entries of the selected blocks, oldest first, and their distances in blocks: [B, H, T or 1, k]."""
        assert self._handles is not None  # noqa: S101 - a block is stored
        count, device = self.num_blocks, query.device
        entries = torch.arange(count, device=device)
        age = (self._finished - 1 - entries) % self.max_blocks + 1
        handle = self._handles[:, :, :count]
        if base is not None:
            back = age.clamp(max=self.topk + 1) if self.positions == "stingy" else age
            handle = apply_rotary_emb(handle.transpose(1, 2), -back * size, base).transpose(1, 2)
            query = apply_rotary_emb(query, position, base)
        heads, group = query.shape[2], query.shape[2] // handle.shape[1]
        by_head = query.transpose(1, 2).unflatten(1, (-1, group)).flatten(2, 3)  # [B, K, group * T, D]
        score = (by_head @ handle.transpose(-1, -2)).unflatten(2, (group, -1)).flatten(1, 2) * query.shape[-1] ** -0.5
        if self.select == "max_over_heads":
            score = score.softmax(-1).amax(1, keepdim=True)
        elif self.select == "max_over_tokens":
            score = score.softmax(-1).amax(2, keepdim=True)
        entry = score.topk(min(self.topk, count), sorted=False).indices
        age, order = age[entry].sort(-1, descending=True)
        entry = entry.gather(-1, order)
        if self.positions == "stingy":  # older blocks come first, so ranks among selected and older blocks agree
            rank = torch.arange(entry.shape[-1], device=device)
            age = torch.where(age > self.topk, self.topk + 1 - rank, entry.shape[-1] - rank)
        return entry.expand(-1, heads, -1, -1), age.expand(-1, heads, -1, -1)

    def _attended(
        self, query: Tensor, position: Tensor, entry: Tensor, distance: Tensor, size: int, base: float | None
    ) -> AttendResult:
        """Attention of queries [B, T, H, D] to their selected blocks: one softmax state per block, merged."""
        query, handle, key, value = self._rotated(query, position, entry, distance, size, base)
        query, handle = query.unsqueeze(-2).unsqueeze(-4), handle.unsqueeze(-2).unsqueeze(-2).transpose(-2, -3)
        key, value = (x.unsqueeze(-2).unsqueeze(-4) for x in (key, value))
        out, lse = (x.squeeze(4) for x in attend_groups(_one_group(query.device), query, handle, key, value))
        top = torch.logsumexp(lse, 3)  # [B, H, lists, queries, 1]
        weight = torch.exp(lse - top.unsqueeze(3))
        out = (weight.unsqueeze(-1).to(out.dtype) * out).sum(3)
        return AttendResult(out.flatten(2, 4).transpose(1, 2), top.flatten(2, 4).transpose(1, 2))

    def _rotated(
        self, query: Tensor, position: Tensor, entry: Tensor, distance: Tensor, size: int, base: float | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries [B, H, lists, k, queries, D], rotated relative to a selected block, and the tensors of the blocks."""
        handle, key, value = self._fetched(entry)  # [B, H, T or 1, k, (b,) D]
        query = query.transpose(1, 2)
        # One row of queries for each list of blocks: [B, H, lists, k, 1, queries, 1, D].
        query = (query.unsqueeze(2) if entry.shape[2] == 1 else query.unsqueeze(3)).unsqueeze(3)
        query = query.expand(*entry.shape, *query.shape[4:])
        if base is not None:
            place = (position if entry.shape[2] == 1 else position.view(-1, 1, 1)) + distance.unsqueeze(-1) * size
            query = apply_rotary_emb(query.unsqueeze(-2), place, base).squeeze(-2)
        return query, handle, key, value

    def _fetched(self, entry: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Landmarks, keys and values of the blocks [B, H, T, k]; only these are fetched."""
        assert self._handles is not None and self._blocks is not None  # noqa: S101, PT018 - a block is stored
        (batch, heads), kv = entry.shape[:2], self._handles.shape[1]
        head = torch.arange(heads, device=entry.device).div(heads // kv, rounding_mode="floor")
        row_head = torch.arange(batch, device=entry.device).unsqueeze(1) * kv + head
        row = row_head.view(batch, heads, 1, 1) * self.max_blocks + entry

        def read(x: Tensor) -> Tensor:
            found = x.flatten(0, 2).index_select(0, row.flatten().to(x.device))
            return found.to(entry.device, non_blocking=True).unflatten(0, row.shape)

        return read(self._handles), read(self._blocks[0]), read(self._blocks[1])
