"""Plan of the reference over tiles for CPUs: which query and key tokens are multiplied in one dense product.

A tile row of one head is a step; its tiles are cut into segments: slices of tokens where tiles are contiguous
(nothing is copied), else lists of tokens. Tiles without a mask are separate from those with one, unless these
are many: a mask costs more than the product it saves. Small tiles (top-k per token) put many rows into one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from hgraph._torch import version
from hgraph.cache import TensorTable
from hgraph.structure import TokenGraph
from hgraph.structure.block_adjacency import CAUSAL, FULL, BlockAdjacency

__all__ = [
    "FEW",
    "SMALL",
    "Plan",
    "Segment",
    "Step",
    "additive",
    "block_of",
    "is_diagonal",
    "is_gathered",
    "is_graph",
    "part_size",
    "plan_of",
    "structure_of",
    "tensors_of",
    "tiles_of",
]

SMALL = 32  # smaller tiles are gathered, many rows at once
_SCORES_A_STEP = 1 << 14  # scores per head of one gathered step: limits the copies of keys and values
_MASKS_KEPT = 64


class Segment(NamedTuple):
    """Key tokens, and the pairs allowed with each query token."""

    columns: slice | Tensor  # [C], or [n, C] in a gathered step
    rules: tuple[int, ...] | Tensor  # of the tiles, empty if all pairs are allowed; booleans [n, rows, C] if gathered


class Step(NamedTuple):
    """Query tokens with the same segments in neighboring heads of some examples."""

    examples: slice
    heads: slice
    rows: slice | Tensor  # [rows], or [n, rows] in a gathered step
    segments: list[Segment]


class Plan:
    """The steps over one structure, and their shared masks; each pair of nodes is ``queries`` x ``keys`` token pairs.

    More than one if its nodes are groups of tokens (`hgraph.ops.tiles.group_attend`). ``wide`` has the same
    steps, with neighbors joined if they share unmasked tokens: for a kernel that does not store scores.
    """

    def __init__(self, tiles: BlockAdjacency, queries: int = 1, keys: int = 1) -> None:
        self.tiles = tiles
        self.steps = [step for part in tiles.parts() for step in _steps(part, queries, keys)]
        self.wide = _joined(self.steps)
        self._masks: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def mask(self, rules: tuple[int, ...], rows: int, columns: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The additive mask of a segment's scores [rows, columns], 0 or -inf, and the fully masked rows [rows]."""
        key = (rules, rows, columns, dtype)
        if key in self._masks:
            return self._masks[key]
        own = torch.tensor(rules, device=self.tiles.index.device)
        bits = self.tiles.allowed(own).transpose(0, 1).flatten(1)[:rows, :columns]
        mask = additive(bits, dtype)
        if len(self._masks) < _MASKS_KEPT:
            self._masks[key] = mask
        return mask


def additive(meets: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """0 for allowed pairs [..., rows, C] and -inf elsewhere; and the fully masked rows [..., rows]."""
    more = torch.zeros(meets.shape, dtype=dtype, device=meets.device)
    return more.masked_fill_(~meets, float("-inf")), ~meets.any(-1)


# Tokens per tile, and the speed of a tile of that size (GFLOP/s of one thread; only ratios matter).
_RATES = {64: 38.0, 128: 66.0, 256: 78.0}
FEW = 8  # at most this many targets are gathered token by token, as in a decode step


def block_of(graph: TokenGraph) -> int:
    """The fastest tile size: large tiles are faster per pair, small tiles visit fewer pairs."""
    if graph.num_targets <= FEW:
        return 1
    sizes = [b for b in _RATES if b == 64 or b <= max(graph.num_targets, graph.num_sources)]
    return min(sizes, key=lambda b: graph.num_tiles(b) * b * b / _RATES[b])


# Cached with the structure's own tensor as the key, so it is freed with it.
_PLANS: TensorTable[tuple[tuple[object, ...], list[TensorWeakRef], Plan]] = TensorTable()


def tensors_of(tiles: BlockAdjacency | TokenGraph) -> list[Tensor]:
    """A structure as the list of tensors for operators; with the transpose if present.

    A token graph is passed as its four tensors: operators compute its tiles at run time.
    """
    if isinstance(tiles, TokenGraph):
        return [tiles.indptr, tiles.start, tiles.stop, tiles.extent]
    flat = [tiles.mask, tiles.extent]
    parts = tiles.parts()
    by_source = all(part.t_index is not None for part in parts)
    for part in parts:
        flat += [part.index, part.rule, part.count, part.row]
        if by_source:
            flat += [t for t in (part.t_index, part.t_rule, part.t_count) if t is not None]
    return flat


def part_size(flat: Sequence[Tensor]) -> int:
    """The number of tensors per part of such a list (there are one or two parts): 7 with the transpose, else 4."""
    return 7 if (len(flat) - 2) % 7 == 0 else 4


def is_graph(flat: Sequence[Tensor]) -> bool:
    """Whether such a list is a token graph."""
    return len(flat) == 4


def structure_of(flat: Sequence[Tensor]) -> BlockAdjacency:
    """The structure of such a list."""
    if is_graph(flat):
        graph = TokenGraph(*flat)  # in its own order; the caller permutes back
        return graph.tiles(block_of(graph))
    each = part_size(flat)
    mask, extent, index, rule, count, row, *rest = flat
    rest = rest[each - 4 :]
    wide = BlockAdjacency(rest[0], rest[1], rest[2], rest[3], mask, extent) if rest else None
    return BlockAdjacency(index, rule, count, row, mask, extent, wide=wide)


def plan_of(flat: Sequence[Tensor], queries: int = 1, keys: int = 1) -> Plan:
    """The plan of a structure given as tensors; cached."""
    made_of = (tuple(map(version, flat)), queries, keys)
    found = _PLANS.get(flat[2])
    same = found is not None and found[0] == made_of and len(found[1]) == len(flat)
    if found is None or not same or not all(own() is t for own, t in zip(found[1], flat, strict=True)):
        # Aliases: a cached value must not keep its key alive.
        plan = Plan(structure_of([t.detach() for t in flat]), queries, keys)
        found = (made_of, [TensorWeakRef(t) for t in flat], plan)
        _PLANS.put(flat[2], found)
    return found[2]


def is_gathered(part: BlockAdjacency, queries: int = 1) -> bool:
    """Whether a step has many rows: for small tiles, and for content-dependent masks that few tiles share."""
    return part.block_size * queries < SMALL or 2 * len(part.mask) > max(int(part.count.sum()), 16)


def tiles_of(flat: list[Tensor]) -> list[Tensor]:
    """The list of a structure's tiles; cached for token graphs."""
    return tensors_of(plan_of(flat).tiles) if is_graph(flat) else flat


def _steps(part: BlockAdjacency, queries: int, keys: int) -> Iterator[Step]:
    pairs = queries * keys if is_gathered(part, queries) else None
    for b in range(part.batch):
        examples = slice(None) if part.batch == 1 else slice(b, b + 1)
        for low, high in _equal_heads(part, b):
            heads = slice(None) if part.num_heads == 1 else slice(low, high)
            if pairs is None:
                yield from _by_row(part, b, low, examples, heads)
            else:
                yield from _gathered(part, b, low, examples, heads, pairs)


def _joined(steps: Sequence[Step]) -> list[Step]:
    joined: list[Step] = []
    for step in steps:
        rows = _rows_of_both(joined[-1], step) if joined else None
        if rows is None:
            joined.append(step)
        else:
            joined[-1] = step._replace(rows=rows)
    return joined


def _rows_of_both(a: Step, b: Step) -> slice | None:
    """The query tokens of both steps if b follows a and all use the same unmasked slice of tokens."""
    if not (isinstance(a.rows, slice) and isinstance(b.rows, slice) and a.rows.stop == b.rows.start):
        return None
    if a[:2] != b[:2] or len(a.segments) != 1 or len(b.segments) != 1:
        return None
    one, other = a.segments[0], b.segments[0]
    whole = all(isinstance(s.columns, slice) and isinstance(s.rules, tuple) and not s.rules for s in (one, other))
    return slice(a.rows.start, b.rows.stop) if whole and one.columns == other.columns else None


def _equal_heads(part: BlockAdjacency, b: int) -> list[tuple[int, int]]:
    """Ranges of neighboring heads with the same structure."""
    lists = torch.stack([part.index[b], part.rule[b]]).flatten(2), part.count[b]
    ranges = [(0, 1)] if part.num_heads else []
    for h in range(1, part.num_heads):
        if torch.equal(lists[0][:, h - 1], lists[0][:, h]) and torch.equal(lists[1][h - 1], lists[1][h]):
            ranges[-1] = (ranges[-1][0], h + 1)
        else:
            ranges.append((h, h + 1))
    return ranges


def _by_row(part: BlockAdjacency, b: int, h: int, examples: slice, heads: slice) -> Iterator[Step]:
    block, targets, sources = part.block_size, part.num_targets, part.num_sources
    lists = part.index[b, h].tolist(), part.rule[b, h].tolist()
    for row, count, tiles, rules in zip(part.row.tolist(), part.count[b, h].tolist(), *lists, strict=True):
        if not count:
            continue
        tiles, rules = tiles[:count], rules[:count]
        masked = sum(rule != FULL for rule in rules)
        if masked == 0 or 4 * masked >= count:
            groups = [(tiles, rules)]
        else:
            pairs = [
                [(t, r) for t, r in zip(tiles, rules, strict=True) if (r == FULL) == full] for full in (True, False)
            ]
            groups = [tuple(zip(*p, strict=True)) for p in pairs]  # type: ignore[misc]
        segments = [
            Segment(
                _columns(own, block, sources, part.index.device), () if all(r == FULL for r in rule) else tuple(rule)
            )
            for own, rule in groups
        ]
        yield Step(examples, heads, slice(row * block, min((row + 1) * block, targets)), segments)


def _columns(tiles: Sequence[int], block: int, sources: int, device: torch.device) -> slice | Tensor:
    if tiles[-1] - tiles[0] == len(tiles) - 1:
        return slice(tiles[0] * block, min((tiles[-1] + 1) * block, sources))
    first = torch.tensor(tiles, device=device).unsqueeze(1) * block
    tokens = (first + torch.arange(block, device=device)).flatten()
    return tokens[tokens < sources]


def _gathered(part: BlockAdjacency, b: int, h: int, examples: slice, heads: slice, pairs: int) -> Iterator[Step]:
    """Groups rows with the same number of tiles."""
    block, targets, sources = part.block_size, part.num_targets, part.num_sources
    count, inside = part.count[b, h], torch.arange(block, device=part.index.device)
    whole = (part.row + 1) * block <= targets  # the last tile row may be shorter, and is a separate step
    for size in count.unique().tolist():
        if not size:
            continue
        scores = _SCORES_A_STEP if block < SMALL else 16 * _SCORES_A_STEP
        at_once = max(1, scores // (size * block * block * pairs))
        for kind in (whole, ~whole):
            for own in ((count == size) & kind).nonzero().flatten().split(at_once):
                if not len(own):
                    continue
                rows = (part.row[own].long().unsqueeze(1) * block + inside)[
                    :, : targets - int(part.row[own[0]]) * block
                ]
                rule = part.rule[b, h, own, :size]
                columns = (part.index[b, h, own, :size].long().unsqueeze(2) * block + inside).flatten(1)
                meets: tuple[int, ...] | Tensor = ()
                if (bool((rule != FULL).any()) and block > 1) or bool((columns >= sources).any()):
                    bits = part.allowed(rule.flatten()).unflatten(0, rule.shape).transpose(1, 2).flatten(2)
                    meets = bits[:, : rows.shape[1]] & (columns < sources).unsqueeze(1)
                yield Step(examples, heads, rows, [Segment(columns.clamp(max=sources - 1), meets)])


def is_diagonal(rules: tuple[int, ...] | Tensor) -> bool:
    """Whether a segment is one causal tile."""
    return rules == (CAUSAL,)
