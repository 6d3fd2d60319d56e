"""PowerAttention: causal edges at distances of powers of two."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from hgraph import patterns
from hgraph.nn.attention.base import TokenAttention
from hgraph.nn.attention.kinds import AttentionKind
from hgraph.nn.attention.settings import accepts
from hgraph.nn.attention.state import KVState
from hgraph.structure import TokenGraph

__all__ = ["PowerAttention"]


@accepts("num_kv_heads", "bias", "dropout", "rotary")
class PowerAttention(TokenAttention):
    r"""Attend to a window of blocks, to blocks at distances of powers of two, and to sink tokens.

    Use it when distant tokens must be reached in few layers at a cost per token that is logarithmic in the length.

    .. math:: o_i = \sum_{j \in A_i} \operatorname{softmax}_j\!\Big(\frac{q_i \cdot k_j}{\sqrt{D}}\Big) v_j, \qquad
              A_i = \{ j \le i : \delta < w \text{ or } \delta \text{ a power of } 2 \text{ or } j < s \}, \quad
              \delta = \lfloor i/b \rfloor - \lfloor j/b \rfloor

    The number of layers that reach a distance of x blocks is the number of ones of x in binary, so d layers reach
    every distance below
    :math:`2^d`.

    Args:
        dim: features per token.
        num_heads: H query heads.
        num_kv_heads: heads of keys and values; H by default.
        block_size: b, tokens a block; 1 uses tokens instead of blocks.
        window: w, number of blocks, including the token's own.
        num_sink: s, first tokens that every token attends to; by default the first block, or none with block_size 1.
        bias: whether the four projections have a bias.
        dropout: dropout probability of the attention weights.
        rotary: base of the rotary embeddings, or None.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``graph``, ``state``, ``head_mask`` and ``mask`` as in `SelfAttention`.

    Source: Chen et al., "PowerAttention: Exponentially Scaling of Receptive Fields for Effective Sparse Attention",
    section 3; block 256, window 5 and one sink block are its settings.

    >>> import torch
    >>> layer = PowerAttention(8, 2, block_size=4, window=2)
    >>> layer(torch.randn(1, 64, 8)).shape, layer.graph_of(64).tiles(4).num_tiles
    (torch.Size([1, 64, 8]), 76)
    """

    kinds = frozenset({AttentionKind.CAUSAL_SELF})

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        block_size: int = 256,
        window: int = 5,
        num_sink: int | None = None,
        **settings: Any,
    ) -> None:
        num_sink = (block_size if block_size > 1 else 0) if num_sink is None else num_sink
        patterns.power(0, block_size, window=window, num_sink=num_sink)  # checks the arguments
        pattern = functools.partial(patterns.power, block_size=block_size, window=window, num_sink=num_sink)
        super().__init__(dim, num_heads, pattern=pattern, causal=True, **settings)

    def forward(
        self,
        x: Tensor,
        graph: TokenGraph | None = None,
        *,
        state: KVState | None = None,
        head_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend over the power graph, or over its intersection with the given graph (packed documents)."""
        graph = None if graph is None else self.within(graph)
        return self.run(x, graph=graph, state=state, head_mask=head_mask, mask=mask)
