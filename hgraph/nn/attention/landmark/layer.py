"""Landmark attention: every block of tokens is represented by a landmark token."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import patterns
from hgraph.cache import cached_by_size, traced_as_constant
from hgraph.checks import whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn.attention.base import TokenAttention
from hgraph.nn.attention.kinds import AttentionKind
from hgraph.nn.attention.landmark.state import LandmarkState
from hgraph.nn.attention.masks import masked
from hgraph.nn.attention.record import AttentionRecord, record, recording
from hgraph.nn.attention.rotary import apply_rotary_emb
from hgraph.nn.attention.settings import accepts
from hgraph.nn.padding import without_padding
from hgraph.ops import AttendResult, attend, attend_groups, edge_score, edge_softmax, merge
from hgraph.ops.attend_groups import rows_a_tile
from hgraph.ops.tiles.plan import structure_of, tensors_of
from hgraph.ops.tiles.tokens import block_of
from hgraph.structure import Adjacency, TokenGraph

__all__ = ["LandmarkAttention", "insert_landmarks", "is_landmark", "landmark_attention"]


def is_landmark(n: int, block_size: int) -> Tensor:
    """Boolean [n]: which tokens of a sequence are landmarks, every (block_size + 1)-th one."""
    return torch.arange(whole("n", n)) % (whole("block_size", block_size, 1) + 1) == block_size


def insert_landmarks(ids: Tensor, block_size: int, landmark: int) -> Tensor:
    """Insert a landmark after every ``block_size`` tokens of sequences [..., N]: [..., N + N // block_size].

    Use it on the ids of a sequence before a model with `LandmarkAttention`.

    Compute the loss only at ordinary tokens, ``logits[..., ~is_landmark(n, block_size), :]``, with the next ordinary
    tokens as targets; landmarks are trivial to predict and would lower it.

    >>> insert_landmarks(torch.tensor([5, 6, 7, 8, 9]), 2, 0).tolist()
    [5, 6, 0, 7, 8, 0, 9]
    """
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dim() < 1:
        raise ArgumentTypeError("ids", "integers [..., N]", getattr(ids, "dtype", type(ids).__name__))
    n = ids.shape[-1]
    whole("block_size", block_size, 1)
    out = ids.new_full((*ids.shape[:-1], n + n // block_size), landmark)
    out[..., ~is_landmark(out.shape[-1], block_size).to(ids.device)] = ids
    return out


_MADE: dict[tuple[int, int, int, torch.device], tuple[list[Tensor], list[Tensor]]] = {}


def _structures(targets: int, sources: int, block: int, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Tiles of the last targets: edges within blocks, and edges between blocks of queries and earlier blocks."""
    _make(targets, sources, block, device)
    return _MADE[targets, sources, block, device]


@traced_as_constant
def _make(targets: int, sources: int, block: int, device: torch.device) -> None:
    key = targets, sources, block, device
    cached_by_size(_MADE, key, lambda: _made(*key), limit=128)


def _made(targets: int, sources: int, block: int, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    size = block + 1
    own = patterns.landmark_blocks(sources, block)
    own = own if targets == sources else own.select(range(sources - targets, sources))
    first, blocks = (sources - targets) // size, -(-sources // size)
    earlier = patterns.summaries(blocks, 1).crop(max(blocks - 1, 0)).select(range(first, blocks))
    own_tiles, earlier_tiles = own.tiles(block_of(own)), earlier.tiles(rows_a_tile(size))
    own_flat, earlier_flat = ([t.to(device) for t in tensors_of(tiles)] for tiles in (own_tiles, earlier_tiles))
    return own_flat, earlier_flat


def landmark_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_size: int,
    *,
    group_dropout: float = 0.0,
    generator: torch.Generator | None = None,
    mask: Tensor | None = None,
) -> AttendResult:
    """Attention to the own block and to earlier blocks, whose landmarks' weights are distributed over their tokens.

    Use it in a layer of your own; `LandmarkAttention` calls it.

    Args:
        q: [..., T, H, D], the last T of S tokens.
        k: [..., S, H_kv, D]; the sequence starts with a block, and every (block_size + 1)-th token is a landmark.
        v: [..., S, H_kv, D_v]; values of landmarks are ignored.
        block_size: ordinary tokens per block.
        group_dropout: as in `LandmarkAttention`; always applied if above 0.
        generator: random generator of the dropout.
        mask: boolean [..., S], True at real tokens; blocks without real tokens, or with a padded landmark, get no
            attention.

    Returns:
        `AttendResult` of the softmax over own tokens and landmarks.
    """
    # Tiles depend on the length, so a compiler compiles once per length.
    targets, sources = operator.index(q.shape[-3]), operator.index(k.shape[-3])
    size = whole("block_size", block_size, 1) + 1
    first, blocks = (sources - targets) // size, -(-sources // size)
    own, earlier = (structure_of(t) for t in _structures(targets, sources, block_size, q.device))
    near = attend(own, q, k, v, mask=mask)
    if blocks < 2:
        return near
    if mask is not None:
        k, v = (torch.where(mask[..., None, None], x, 0.0) for x in (k, v))
    front = sources - targets - first * size
    rows = F.pad(q, (0, 0, 0, 0, front, blocks * size - sources)).unflatten(-3, (blocks - first, size))
    past_k, past_v = (x[..., : (blocks - 1) * size, :, :].unflatten(-3, (blocks - 1, size)) for x in (k, v))
    scale, none = q.shape[-1] ** -0.5, None
    if mask is not None:
        real = mask[..., : (blocks - 1) * size].unflatten(-1, (blocks - 1, size))
        rows, past_k, none = _hidden(rows, past_k, real)
    far = attend_groups(
        earlier,
        rows,
        past_k[..., -1, :, :],
        past_k[..., :-1, :, :],
        past_v[..., :-1, :, :],
        scale=scale,
        dropout=group_dropout,
        generator=generator,
    )
    out, lse = far.out.flatten(-4, -3), far.lse.flatten(-3, -2)
    lse = lse if none is None else torch.where(lse < none * scale / 2, float("-inf"), lse)
    out, lse = out[..., front : front + targets, :, :], lse[..., front : front + targets, :]
    return merge(near, AttendResult(out, lse))


def _hidden(rows: Tensor, keys: Tensor, real: Tensor) -> tuple[Tensor, Tensor, float]:
    """Queries [..., H, D + 1] and keys [..., G, size, H_kv, D + 1] whose products are very negative at padding.

    ``real`` [..., G, size] marks the real tokens; the landmark of a block without real tokens counts as padding.
    """
    far_below = -min(torch.finfo(keys.dtype).max / 4, 1e9)
    seen = torch.cat([real[..., :-1], real[..., -1:] & real[..., :-1].any(-1, keepdim=True)], -1)
    more = torch.where(seen, 0.0, far_below).to(keys.dtype)[..., None, None].expand(*keys.shape[:-1], 1)
    return torch.cat([rows, torch.ones_like(rows[..., :1])], -1), torch.cat([keys, more], -1), far_below


@dataclass(frozen=True)
class LandmarkRecord(AttentionRecord):
    """One call: the last T of S tokens, and for a chunk the recalled blocks (`LandmarkState.log_weights`)."""

    block_size: int = 1
    recalled: tuple[Tensor, Tensor] | None = None

    def weights(self, *, example: int = 0, head: int = 0) -> tuple[Adjacency, Tensor]:
        """The edges to ordinary tokens, and their attention weights [E]."""
        lse = self.lse[example, :, head]
        lse = torch.where(lse == float("-inf"), float("inf"), lse)  # of targets without the head
        target, source, weight = self._near(example, head, lse)
        if self.recalled is not None:
            number, log_weight = (x[example, head] for x in self.recalled)  # [T, k], [T, k, b]
            far = (log_weight - lse[:, None, None]).exp()
            tokens = number.unsqueeze(-1) * (self.block_size + 1) + torch.arange(self.block_size, device=number.device)
            rows = torch.arange(len(tokens), device=number.device).view(-1, 1, 1).expand_as(tokens)
            parts = ((target, rows), (source, tokens), (weight, far))
            target, source, weight = (torch.cat([a, b.flatten()]) for a, b in parts)
        sizes = {"num_targets": self.graph.num_targets, "num_sources": self.graph.num_sources}
        found = Adjacency.from_coo(target=target, source=source, weight=weight, duplicates="error", **sizes)
        return found.with_weight(None), found.weight  # type: ignore[return-value]

    def _near(self, example: int, head: int, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets, sources and weights of the edges to tokens with available keys, by the equations of the paper."""
        size, group = self.block_size + 1, self.query.shape[2] // self.key.shape[2]
        pairs = patterns.causal(self.query.shape[1], self.key.shape[1]).to(self.query.device).adjacency()
        row, source = pairs.target.long(), pairs.indices.long()
        token = row + pairs.num_sources - pairs.num_targets
        own, landmark = token // size == source // size, source % size == self.block_size
        query, key = self.query[example, :, head : head + 1], self.key[example, :, head // group : head // group + 1]
        score = edge_score(pairs, query, key) * query.shape[-1] ** -0.5
        hidden = own & landmark
        hidden = hidden if self.mask is None else hidden | ~self.mask[example][source]
        score = torch.where(hidden.unsqueeze(1), float("-inf"), score)
        # A block's tokens are a group; own tokens and landmarks have the lse of the whole.
        outer = own | landmark
        weight = edge_softmax(
            pairs, score, group=row * (pairs.num_sources + 1) + torch.where(outer, 0, source // size + 1)
        )
        whole = (score - lse[row].unsqueeze(1).to(score.dtype)).exp()
        handle = (pairs.indptr[:-1][row] + source // size * size + self.block_size).clamp(max=max(len(weight) - 1, 0))
        weight = torch.where(outer.unsqueeze(1), whole, weight * whole[handle]).squeeze(1)
        first = self.graph.num_sources - pairs.num_sources
        return row[~landmark], source[~landmark] + first, weight[~landmark]


@accepts("num_kv_heads", "bias")
class LandmarkAttention(TokenAttention):
    r"""Causal attention to earlier blocks through their landmarks, with two levels of softmax.

    Use it when decoding must retrieve a few relevant blocks from a long past.

    .. math:: g_{ij} = \operatorname{softmax}_{j \in O_i \cup M_i} \frac{q_i \cdot k_j}{\sqrt D}, \qquad
              y_i = W_O \Big( \sum_{j \in O_i} g_{ij} v_j + \sum_{\beta < \beta_i} g_{i,\mathrm{lm}(\beta)}
              \sum_{j \in \beta} \operatorname{softmax}_{j \in \beta}\!\Big(\frac{q_i \cdot k_j}{\sqrt D}\Big) v_j \Big)

    where :math:`O_i` are the ordinary tokens of token i's block, up to i, and :math:`M_i` the landmarks of earlier
    blocks (`insert_landmarks`). Landmark values are never used, nor is the landmark of the token's own block. In
    training, tokens attend to all blocks, at the cost of dense attention; with a `LandmarkState`, a query attends to
    the best few blocks.

    Args:
        dim: features per token.
        num_heads: H query heads.
        block_size: b, ordinary tokens per block; every (b + 1)-th token is a landmark.
        num_kv_heads: heads of keys and values; H by default.
        bias: whether the four projections have a bias.
        group_dropout: probability of dropping the weight of an earlier block in training.
        rotary: base of the rotary embeddings, or None.
        jump: in training, positions after each landmark are shifted by a random 0 .. jump - 1, so that the model sees
            distances beyond its training length (not in the paper).

    Shapes:
        x [..., N, dim], landmarks among the N tokens -> [..., N, dim]; ``head_mask`` and ``mask`` as in
        `SelfAttention`. With ``state``, a `LandmarkState`, the tokens are the next chunk of a sequence: blocks within
        the chunk get full attention, and those before it are selected.

    Source: Mohtashami and Jaggi, "Landmark Attention: Random-Access Infinite Context Length for Transformers", 2023,
    section 3; block size 50 is its setting, and ``jump`` is an option of the published code.

    >>> layer = LandmarkAttention(8, 2, block_size=3)
    >>> layer(torch.randn(2, 11, 8)).shape
    torch.Size([2, 11, 8])
    """

    kinds = frozenset({AttentionKind.CAUSAL_SELF})
    state_kind = LandmarkState

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        block_size: int = 50,
        group_dropout: float = 0.0,
        rotary: float | None = 10_000.0,
        jump: int = 0,
        **settings: Any,
    ) -> None:
        self.block_size, self.jump = whole("block_size", block_size, 1), whole("jump", jump)
        self.group_dropout = group_dropout
        if not 0 <= group_dropout < 1:
            raise ArgumentError("group_dropout", "a probability in [0, 1)", group_dropout)
        if jump and rotary is None:
            raise ArgumentError("jump", "0 without rotary embeddings", jump)
        super().__init__(dim, num_heads, causal=True, rotary=rotary, **settings)

    def graph_of(self, n: int) -> TokenGraph:
        """The graph in training: tokens of the own block so far, and of all earlier blocks."""
        size = self.block_size + 1
        start = torch.arange(0, n, size)
        members = TokenGraph.from_runs(
            row=torch.arange(len(start)),
            start=start,
            stop=(start + self.block_size).clamp(max=n),
            num_targets=len(start),
            num_sources=n,
        )
        return patterns.landmark_blocks(n, self.block_size) | patterns.summaries(n, size) @ members

    def forward(
        self,
        x: Tensor,
        *,
        state: LandmarkState | None = None,
        head_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend within a sequence that starts or continues with x."""
        call = self.prepare(x, state=state, head_mask=head_mask, mask=mask)
        x = call.x
        query = self.query(x).unflatten(-1, (self.query_heads, self.head_dim))
        key, value = (f(x).unflatten(-1, (self.kv_heads, self.head_dim)) for f in (self.key, self.value))
        if state is None:
            out = self._whole(query, key, value, head_mask, call.mask)
        else:
            out = self._chunk(state, query, key, value, head_mask)
        return without_padding(self.output(out, call), call.mask)

    def _whole(
        self, query: Tensor, key: Tensor, value: Tensor, head_mask: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        place = torch.arange(query.shape[-3], device=query.device)
        if self.training and self.jump:
            block = place.div(self.block_size + 1, rounding_mode="floor")
            shape = *query.shape[:-3], -(-len(place) // (self.block_size + 1))
            jumps = torch.randint(self.jump, shape, device=place.device)
            place = place + (jumps.cumsum(-1) - jumps[..., :1])[..., block]  # the first block starts at 0
        query, key = self._rotated(query, place), self._rotated(key, place)
        dropout = self.group_dropout if self.training else 0.0
        result = landmark_attention(query, key, value, self.block_size, group_dropout=dropout, mask=mask)
        out, lse = masked(*result, head_mask)
        if recording(self):
            graph, size = self.graph_of(place.shape[-1]), self.block_size
            record(self, graph, query, key, lse, kind=LandmarkRecord, mask=mask, block_size=size)
        return out

    def _chunk(
        self, state: LandmarkState, query: Tensor, key: Tensor, value: Tensor, head_mask: Tensor | None
    ) -> Tensor:
        """Attention within the unfinished block and the chunk as in training, and to recalled earlier blocks."""
        batch, count, size = query.shape[:-3], query.shape[-3], self.block_size + 1
        if count == 0:
            return query  # no rows, like the result
        query, key, value = (x.reshape(-1, *x.shape[-3:]) for x in (query, key, value))
        key, value = state.joined(key, value)
        place = torch.arange(key.shape[1], device=key.device)
        last = place[key.shape[1] - count :]
        past, recalled = state.recall(query, last, size, self.rotary), None
        if recording(self):
            recalled = state.log_weights(query, last, size, self.rotary)
        rotated = self._rotated(query, last), self._rotated(key, place)
        first = len(state) + count - key.shape[1]  # start of a block
        state.append(key, value, new=count, size=size, base=self.rotary)
        result = landmark_attention(*rotated, value, self.block_size)
        result = result if past is None else merge(result, past)
        out, lse = (x.reshape(*batch, *x.shape[1:]) for x in result)
        out, lse = masked(out, lse, head_mask)
        if recording(self):
            graph = self.graph_of(first + len(place)).select(first + last)
            record(self, graph, *rotated, lse, kind=LandmarkRecord, block_size=self.block_size, recalled=recalled)
        return out

    def _rotated(self, x: Tensor, place: Tensor) -> Tensor:
        return x if self.rotary is None else apply_rotary_emb(x, place, self.rotary)
