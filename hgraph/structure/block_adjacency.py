"""`BlockAdjacency`: block-sparse attention between tokens, as lists of tiles."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure
from hgraph.structure.validate import check_permutation, check_tiles, is_inside, require

__all__ = ["CAUSAL", "FULL", "BlockAdjacency", "far_rows", "packed", "unpacked"]

FULL, CAUSAL = -1, -2  # rules of a tile; values >= 0 are mask ids
_FAR = 4  # tile rows with more than this many times the median number of tiles are stored separately


@dataclass(frozen=True, eq=False)
class BlockAdjacency(Structure):
    r"""Which tiles of ``block`` x ``block`` tokens are attended to: the index type of all attention over tokens.

    Use it when the attended tiles are computed from content; build a `TokenGraph` when the pattern is known in advance.

    Targets and sources are cut into tiles; the last tiles may be smaller. Tile row ``row[r]`` visits the
    tiles ``index[b, h, r, :count[b, h, r]]`` of sources, ascending, each under a rule: ``FULL`` (-1), every pair;
    ``CAUSAL`` (-2), column <= row within the tile; m >= 0, the pairs whose bit is set in ``mask[m]``, a mask that
    equal tiles share. Memory is O(visited tiles), and a regular pattern needs a handful of masks. ``block = 1`` is
    top-k per token. Tile rows far above the median (those of global tokens) are in :attr:`wide`, a separate structure
    with the same sizes and masks, so that other rows are not padded to their width; attention over both is joined by
    `hgraph.merge`.

    Args:
        index: int32 [B, H, R, K], tiles of sources; entries beyond ``count`` are 0. B = 1 means all examples, H = 1
            all heads.
        rule: int32 [B, H, R, K], the rule of each tile.
        count: int32 [B, H, R], the number of tiles that a tile row visits.
        row: int32 [R], the ids of these tile rows, ascending; a row in neither ``row`` nor ``wide`` visits nothing.
        mask: uint8 [M, block, ceil(block / 8)], bit ``c % 8`` of byte ``c // 8`` in row r: whether r attends to c.
        extent: [T, S, 0], an empty tensor that stores the sizes in its shape.
        t_index: int32 [B, H, S_tiles, K'] or None, the transpose: for each tile of sources the tiles of targets that
            visit it, for backward passes without atomics; :meth:`with_transpose` computes it.
        t_rule: int32 [B, H, S_tiles, K'] or None, the rules of the transpose; masks are not transposed.
        t_count: int32 [B, H, S_tiles] or None.
        wide: the tile rows with far more tiles than the median, or None.
        order: [N] or None. Rows and columns of tiles are positions, and position p is token ``order[p]``, as in
            `TokenGraph`; square structures only, and :attr:`wide` uses the same order.

    >>> tiles = BlockAdjacency.from_index(torch.tensor([[0, 0], [0, 1]]), torch.tensor([1, 2]), block_size=2,
    ...     num_targets=4, num_sources=4, causal=True)
    >>> tiles.adjacency().dense().int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    """

    index: Tensor
    rule: Tensor
    count: Tensor
    row: Tensor
    mask: Tensor
    extent: Tensor
    t_index: Tensor | None = None
    t_rule: Tensor | None = None
    t_count: Tensor | None = None
    wide: BlockAdjacency | None = None
    order: Tensor | None = None

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_index(
        cls,
        index: Tensor,
        count: Tensor | None = None,
        *,
        block_size: int,
        num_targets: int,
        num_sources: int,
        causal: bool = False,
    ) -> BlockAdjacency:
        """Check and sort lists of tiles, such as top-k selections; rows far above the median are stored separately.

        Args:
            index: integers [T_tiles, K], [H, T_tiles, K] or [B, H, T_tiles, K], tiles of sources in any order.
            count: integers of the shape of ``index`` without K, how many entries are valid; all by default.
            block_size: tokens per tile.
            num_targets: T; T_tiles is T / block_size, rounded up.
            num_sources: S.
            causal: whether the tile on the diagonal is masked causally. Tiles above it are then rejected.

        Raises:
            ArgumentError: shapes that do not fit, tiles out of range or listed twice, later tiles in causal lists.
            ArgumentTypeError: not integers.
        """
        whole("block_size", block_size, 1)
        for name, size in (("num_targets", num_targets), ("num_sources", num_sources)):
            coo.check_size(name, size)
        rows, columns = -(-num_targets // block_size), -(-num_sources // block_size)
        index, count = _checked_lists(index, count, rows, columns)
        used = torch.arange(index.shape[3], device=index.device) < count.unsqueeze(3)
        ordered = torch.where(used, index, columns).sort(3).values
        if bool((used[..., 1:] & (ordered[..., 1:] == ordered[..., :-1])).any()):
            raise ArgumentError("index", "each tile of a row once", "a repeated tile", "It would count twice")
        if causal and bool((used & (index > torch.arange(rows, device=index.device).unsqueeze(1))).any()):
            hint = "Select among the tiles up to the diagonal"
            raise ArgumentError("index", "no tile after a row's own in a causal structure", "a later tile", hint)
        index = torch.where(used, index, -1)
        tiles = cls.trusted(
            index, block_size=block_size, num_targets=num_targets, num_sources=num_sources, causal=causal
        )
        far = far_rows(tiles.count)
        return tiles._parted(far) if bool(far.any()) else tiles

    @classmethod
    def trusted(
        cls, index: Tensor, *, block_size: int, num_targets: int, num_sources: int, causal: bool = False
    ) -> BlockAdjacency:
        """Build from lists of tiles in any order, without checks and without a host sync.

        For structures computed from content inside a forward (`hgraph.patterns.tree_topk`, say): every size follows
        from a shape. No rows are moved to :attr:`wide`, because counting them would synchronize: give rows with far
        longer lists, such as those of global tokens, a separate structure (`hgraph.merge` joins both).
        Negative entries are ignored; a tile listed twice counts once.

        Args:
            index: integers [T_tiles, K], [H, T_tiles, K] or [B, H, T_tiles, K], tiles of sources below
                ceil(num_sources / block_size), or negative.
            block_size: tokens per tile; 1 is top-k per token.
            num_targets: T; T_tiles is T / block_size, rounded up.
            num_sources: S.
            causal: whether tiles after a row's own are dropped and the one on the diagonal is masked causally.

        >>> chosen = torch.tensor([[0, 1], [0, -1], [2, 0]])
        >>> tiles = BlockAdjacency.trusted(chosen, block_size=2, num_targets=6, num_sources=6, causal=True)
        >>> tiles.adjacency().dense().int().tolist()[4:]
        [[1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 1]]
        """
        rows, columns = -(-num_targets // block_size), -(-num_sources // block_size)
        own = torch.arange(rows, device=index.device).unsqueeze(1)
        index = index.reshape((1,) * (4 - index.dim()) + tuple(index.shape))
        used = (index >= 0) & (index <= own) if causal else index >= 0
        index = torch.where(used, index, columns).sort(-1).values
        again = torch.zeros_like(index, dtype=torch.bool)
        again[..., 1:] = index[..., 1:] == index[..., :-1]
        index = index.masked_fill(again, columns).sort(-1).values
        used = index < columns
        rule = torch.where(used & (index == own), CAUSAL, FULL) if causal else torch.full_like(index, FULL)
        return cls(
            torch.where(used, index, 0).int(),
            rule.int(),
            used.sum(-1, dtype=torch.int32),
            torch.arange(rows, dtype=torch.int32, device=index.device),
            torch.empty(0, block_size, -(-block_size // 8), dtype=torch.uint8, device=index.device),
            torch.empty(num_targets, num_sources, 0, device=index.device),
        )

    # ------------------------------------------------------------------ sizes

    @property
    def block_size(self) -> int:
        """Tokens per tile."""
        return self.mask.shape[1]

    @property
    def num_targets(self) -> int:
        """T."""
        return self.extent.shape[0]

    @property
    def num_sources(self) -> int:
        """S."""
        return self.extent.shape[1]

    @property
    def batch(self) -> int:
        """B; 1 where all examples share one structure."""
        return self.index.shape[0]

    @property
    def num_heads(self) -> int:
        """H; 1 where all heads share one structure."""
        return self.index.shape[1]

    @property
    def num_tiles(self) -> int:
        """The number of visited tiles, over all heads and examples."""
        return int(self.count.sum()) + (0 if self.wide is None else self.wide.num_tiles)

    def parts(self) -> list[BlockAdjacency]:
        """This structure without :attr:`wide`, and :attr:`wide` if there is one; their tile rows are disjoint."""
        return [self] if self.wide is None else [dataclasses.replace(self, wide=None), self.wide]

    # ------------------------------------------------------------------ other forms

    def with_transpose(self) -> BlockAdjacency:
        """This structure with ``t_index``, ``t_rule`` and ``t_count`` filled in, as backward kernels need them."""
        wide = None if self.wide is None else self.wide.with_transpose()
        if self.t_index is not None:
            return dataclasses.replace(self, wide=wide)
        group, r, k = self._visits()
        columns = -(-self.num_sources // self.block_size)
        source = group * columns + self.index.flatten(0, 1)[group, r, k]
        order = torch.sort(source, stable=True).indices  # targets of one source stay ascending
        count = torch.bincount(source, minlength=self.batch * self.num_heads * columns)
        slot = torch.arange(len(source), device=self.device) - (count.cumsum(0) - count)[source[order]]
        shape = (len(count), int(count.max()) if len(count) else 0)
        at = (source[order], slot)
        values = (self.row[r][order], self.rule.flatten(0, 1)[group, r, k][order])
        index, rule = (torch.zeros(shape, dtype=torch.int32, device=self.device).index_put(at, v) for v in values)
        lists = (t.unflatten(0, (self.batch, self.num_heads, columns)) for t in (index, rule, count.int()))
        return dataclasses.replace(self, **dict(zip(("t_index", "t_rule", "t_count"), lists, strict=True)), wide=wide)

    def adjacency(self, *, example: int = 0, head: int = 0) -> Adjacency:
        """The exact edges of one example and head: for tests and small cases, since it lists every pair."""
        target, source = (torch.cat(t) for t in zip(*(p._pairs(example, head) for p in self.parts()), strict=True))
        if self.order is not None:
            target, source = self.order[target], self.order[source]
        return Adjacency.from_coo(
            target=target,
            source=source,
            num_targets=self.num_targets,
            num_sources=self.num_sources,
        )

    def equal(self, other: BlockAdjacency) -> bool:
        """Whether both have the same tiles, order and rules; the transpose is not compared."""
        if not isinstance(other, BlockAdjacency) or (self.wide is None) != (other.wide is None):
            return False
        if self.extent.shape != other.extent.shape:
            return False
        other = other.to(self.device)
        names = ("index", "rule", "count", "row", "mask")
        same = all(torch.equal(getattr(self, n), getattr(other, n)) for n in names)
        if self.order is None or other.order is None:
            same = same and self.order is other.order
        else:
            same = same and torch.equal(self.order, other.order)
        return same and (self.wide is None or self.wide.equal(other.wide))  # type: ignore[arg-type]

    def check_fields(self) -> None:
        """Check that tiles, rules and rows are in range and ascending, and that the transpose has the same tiles.

        Raises:
            DataError: the fields are inconsistent.
        """
        mask, extent = self.mask, self.extent
        require(extent.dim() == 3 and extent.shape[2] == 0, "extent is not of shape [T, S, 0]")
        packed = mask.dim() == 3 and mask.dtype == torch.uint8 and mask.shape[1] > 0
        require(packed, "mask is not packed bits [M, block, bytes]")
        require(mask.shape[2] == -(-mask.shape[1] // 8), "the masks are not packed rows of their tiles")
        rows, columns = (-(-size // mask.shape[1]) for size in extent.shape[:2])
        check_tiles((self.index, self.rule, self.count), self.row, columns, len(mask))
        require(bool((self.row.diff() > 0).all()) and is_inside(self.row, rows), "the tile rows do not ascend")
        if self.wide is not None:
            require(not torch.isin(self.row, self.wide.row).any(), "wide repeats tile rows of the main lists")
            same = self.wide.extent.shape == extent.shape and self.wide.mask.shape == mask.shape
            require(same and self.index.shape[:2] == self.wide.index.shape[:2], "wide has other sizes")
        if self.order is not None:
            require(self.order.shape == (extent.shape[0],) and extent.shape[0] == extent.shape[1], "order is not [N]")
            check_permutation("order", self.order)
        transpose = (self.t_index, self.t_rule, self.t_count)
        require(len({part is None for part in transpose}) == 1, "the transpose is incomplete")
        if self.t_index is not None and self.t_rule is not None and self.t_count is not None:
            require(self.t_index.dim() == 4 and self.t_index.shape[2] == columns, "the transpose has other tiles")
            own = torch.arange(columns, dtype=torch.int32, device=self.device)
            check_tiles((self.t_index, self.t_rule, self.t_count), own, rows, len(mask))
            require(self.t_count.sum() == self.count.sum(), "the transpose has other tiles")

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        each = (
            f"{self.batch} examples" if self.batch > 1 else "",
            f"{self.num_heads} heads" if self.num_heads > 1 else "",
        )
        sizes = f"{self.num_targets} x {self.num_sources} in tiles of {self.block_size}"
        tiles = f"{self.num_tiles} tiles, {self.mask.shape[0]} masks"
        return f"BlockAdjacency({', '.join([sizes, *filter(None, each), tiles])}, {self.device})"

    # ------------------------------------------------------------------ inside

    def _parted(self, far: Tensor) -> BlockAdjacency:
        """Move the tile rows where ``far`` [R] is True to :attr:`wide`, and trim the padding of both parts."""
        parts = []
        for rows in ((~far).nonzero().flatten(), far.nonzero().flatten()):
            count = self.count[:, :, rows]
            most = int(count.max()) if count.numel() else 0
            index, rule = (t[:, :, rows, :most].contiguous() for t in (self.index, self.rule))
            parts.append(dataclasses.replace(self, index=index, rule=rule, count=count, row=self.row[rows]))
        return dataclasses.replace(parts[0], wide=parts[1])

    def _visits(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each visited tile: b * H + h, the index of its tile row in ``row``, and its position in the list."""
        used = torch.arange(self.index.shape[3], device=self.device) < self.count.unsqueeze(3)
        group, r, k = used.flatten(0, 1).nonzero().unbind(1)
        return group, r, k

    def _pairs(self, example: int, head: int) -> tuple[Tensor, Tensor]:
        """(target, source) of every edge of one example and head."""
        whole("example", example, most=None if self.batch == 1 else self.batch - 1)
        whole("head", head, most=None if self.num_heads == 1 else self.num_heads - 1)
        b, h = example if self.batch > 1 else 0, head if self.num_heads > 1 else 0
        used = torch.arange(self.index.shape[3], device=self.device) < self.count[b, h].unsqueeze(1)
        r, k = used.nonzero().unbind(1)
        tile, i, j = self.allowed(self.rule[b, h, r, k]).nonzero().unbind(1)
        target = self.row[r].long()[tile] * self.block_size + i
        source = self.index[b, h, r, k].long()[tile] * self.block_size + j
        inside = (target < self.num_targets) & (source < self.num_sources)
        return target[inside], source[inside]

    def allowed(self, rule: Tensor) -> Tensor:
        """Boolean [n, block, block]: the pairs that rules [n] allow."""
        own = rule.view(-1, 1, 1)
        lower = torch.ones(self.block_size, self.block_size, dtype=torch.bool, device=self.device).tril()
        bits = (own == FULL) | ((own == CAUSAL) & lower)
        if not len(self.mask):
            return bits
        return torch.where(own >= 0, unpacked(self.mask[rule.long().clamp(min=0)], self.block_size), bits)


def far_rows(count: Tensor) -> Tensor:
    """Boolean [R], which tile rows visit far more tiles than the median, by counts [B, H, R]; synchronizes."""
    some = count[count > 0]
    return (count > _FAR * max(int(some.median()), 2) if len(some) else count > 0).flatten(0, 1).any(0)


def unpacked(mask: Tensor, block: int) -> Tensor:
    """Unpack bits uint8 [..., block, ceil(block / 8)] to booleans [..., block, block]."""
    bits = mask.unsqueeze(-1) >> torch.arange(8, dtype=torch.uint8, device=mask.device) & 1
    return bits.flatten(-2)[..., :block].bool()


def packed(bits: Tensor) -> Tensor:
    """Pack booleans [..., block, block] to bits uint8 [..., block, ceil(block / 8)]."""
    bits = torch.nn.functional.pad(bits.to(torch.uint8), (0, -bits.shape[-1] % 8)).unflatten(-1, (-1, 8))
    return (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(-1, dtype=torch.uint8)


def _checked_lists(index: Any, count: Any, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Lists as int64 [B, H, T_tiles, K] and [B, H, T_tiles], in range."""
    integer = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
    for name, value in (("index", index), *(() if count is None else (("count", count),))):
        if not isinstance(value, Tensor) or value.dtype not in integer:
            got = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentTypeError(name, "an integer tensor", got)
    if not 2 <= index.dim() <= 4 or index.shape[-2] != rows:
        raise ArgumentError("index", f"shape [B, H, {rows}, K] (B and H are optional)", f"shape {list(index.shape)}")
    if count is None:
        count = torch.full(index.shape[:-1], index.shape[-1], device=index.device)
    if count.shape != index.shape[:-1]:
        raise ArgumentError("count", f"shape {list(index.shape[:-1])}", f"shape {list(count.shape)}")
    if count.numel() and (int(count.min()) < 0 or int(count.max()) > index.shape[-1]):
        raise ArgumentError("count", f"0 .. {index.shape[-1]}", f"{int(count.min())} .. {int(count.max())}")
    used = torch.arange(index.shape[-1], device=index.device) < count.unsqueeze(-1)
    coo.check_range("index", index[used].long(), columns, "tiles of sources")
    lead = (1,) * (4 - index.dim())
    return index.long().reshape(*lead, *index.shape), count.long().reshape(*lead, *count.shape)


torch.export.register_dataclass(BlockAdjacency, serialized_type_name="hgraph.structure.BlockAdjacency")
torch.serialization.add_safe_globals([BlockAdjacency])
