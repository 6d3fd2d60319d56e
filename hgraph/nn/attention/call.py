"""The arguments of a forward of an attention layer."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hgraph.checks import check_dtype
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn.attention.masks import token_mask
from hgraph.nn.padding import without_padding
from hgraph.ops import Relative
from hgraph.structure import TokenGraph

__all__ = ["Call", "check_graph", "check_tokens"]


class Call(NamedTuple):
    """The checked arguments of a forward, with 0 at padding.

    Attributes:
        x: [..., T, dim].
        source: [..., S, context_dim]; x in self-attention.
        crosses: whether the source is a context.
        mask: booleans [..., T], True at real tokens of x; None if all are real.
        source_mask: the mask of the source.
        graph: the graph passed by the caller.
        bias: a relative position bias.
        state: the decode state that x continues.
        head_mask: booleans [..., T or 1, H].
    """

    x: Tensor
    source: Tensor
    crosses: bool = False
    mask: Tensor | None = None
    source_mask: Tensor | None = None
    graph: TokenGraph | None = None
    bias: Relative | None = None
    state: Any = None
    head_mask: Tensor | None = None

    @property
    def start(self) -> int:
        """The position of the first token of x."""
        return 0 if self.state is None else len(self.state)

    @classmethod
    def of(
        cls,
        x: Tensor,
        state_kind: type,
        *,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        graph: TokenGraph | None = None,
        state: Any = None,
        **more: Any,
    ) -> Call:
        """Check the arguments, and set padding to 0."""
        source = x if context is None else context
        if graph is not None:
            sizes, graph = (x.shape[-2], source.shape[-2]), check_graph("graph", graph)
            if state is None and (graph.num_targets, graph.num_sources) != sizes:
                raise ArgumentError("graph", f"a graph of {sizes[0]} x {sizes[1]} tokens", repr(graph))
        if state is not None and not (isinstance(state, state_kind) and context is None):
            got = "a state with a context" if context is not None else type(state).__name__
            raise ArgumentTypeError("state", f"a {state_kind.__name__}, or None for cross-attention", got)
        if state is not None and mask is not None:
            raise ArgumentError("mask", "None with a state", "a mask", "Decode examples of equal length together")
        if context is None and context_mask is not None:
            raise ArgumentError("context_mask", "None without a context", "a mask", "Pass mask= for the tokens of x")
        mask = token_mask("mask", mask, x.shape[:-1])
        x = without_padding(x, mask)
        source_mask = mask if context is None else token_mask("context_mask", context_mask, context.shape[:-1])
        source = x if context is None else without_padding(context, source_mask)
        return cls(x, source, context is not None, mask, source_mask, graph=graph, state=state, **more)


def check_tokens(name: str, value: Any, width: int, like: Tensor) -> None:
    """Check that a value is features [..., N, width] of the dtype of the weights."""
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[-1] != width:
        got = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(name, f"shape [..., N, {width}]", got)
    check_dtype(name, value, like)


def check_graph(name: str, graph: object) -> TokenGraph:
    """Check that a value is a token graph."""
    if not isinstance(graph, TokenGraph):
        hint = "Create one with hgraph.patterns or TokenGraph.from_adjacency"
        if isinstance(graph, Tensor):
            hint = "Pass a mask of real tokens as mask=, or convert it with patterns.present(mask)"
        raise ArgumentTypeError(name, "a TokenGraph", type(graph).__name__, hint)
    return graph
