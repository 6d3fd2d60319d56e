"""The common settings of attention layers."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import TokenGraph

__all__ = ["AttentionSettings", "accepts"]

Pattern = Callable[[int], TokenGraph]
Layer = TypeVar("Layer", bound=type)


@dataclass(frozen=True)
class AttentionSettings:
    """Checked sizes and options of a layer, with defaults filled in.

    Args:
        dim: features per token.
        num_heads: number of heads that ``dim`` is divided into.
        num_query_heads: query heads; ``num_heads`` by default.
        num_kv_heads: heads of keys and values; as many as query heads by default.
        head_dim: features of a head; dim / num_heads by default.
        context_dim: features of a source; ``dim`` by default.
        pattern: a function from a number of tokens to a `TokenGraph`; None is all pairs.
        causal: whether a token attends only to tokens up to its own.
        bias: whether the projections to queries, keys and values have a bias.
        out_bias: the same for the output projection; ``bias`` by default.
        dropout: dropout probability of the attention weights.
        rotary: the base of rotary embeddings, or None.
    """

    dim: int
    num_heads: int
    num_query_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    context_dim: int | None = None
    pattern: Pattern | None = None
    causal: bool = False
    bias: bool = True
    out_bias: bool | None = None
    dropout: float = 0.0
    rotary: float | None = None

    def __post_init__(self) -> None:
        self._default("num_query_heads", self.num_heads)
        self._default("num_kv_heads", self.num_query_heads)
        self._default("context_dim", self.dim)
        self._default("out_bias", self.bias)
        names = ("dim", "context_dim", "num_heads", "num_query_heads", "num_kv_heads")
        check_channels(**{name: getattr(self, name) for name in names})
        if self.head_dim is None and self.dim % self.num_heads:
            raise ArgumentError("num_heads", f"a divisor of the width {self.dim}", self.num_heads)
        self._default("head_dim", self.dim // self.num_heads)
        check_channels(head_dim=self.head_dim)  # type: ignore[arg-type]
        if self.num_query_heads % self.num_kv_heads:  # type: ignore[operator]
            raise ArgumentError(
                "num_kv_heads", f"a divisor of the {self.num_query_heads} query heads", self.num_kv_heads
            )
        if self.pattern is not None and not callable(self.pattern):
            hint, got = (
                "For example functools.partial(patterns.sliding_window, window=256)",
                type(self.pattern).__name__,
            )
            raise ArgumentTypeError("pattern", "a function from a length to a TokenGraph", got, hint)
        if not 0 <= self.dropout < 1:
            raise ArgumentError("dropout", "a probability in [0, 1)", self.dropout)
        if self.rotary is None:
            return
        if isinstance(self.rotary, bool) or not isinstance(self.rotary, (int, float)):
            raise ArgumentTypeError("rotary", "a base of the angles such as 10_000.0, or None", repr(self.rotary))
        if self.rotary <= 0 or self.head_dim % 2:  # type: ignore[operator]
            raise ArgumentError("rotary", f"a positive base and an even head_dim (it is {self.head_dim})", self.rotary)

    def _default(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)


def accepts(*names: str, **defaults: Any) -> Callable[[Layer], Layer]:
    """Decorator: the constructor of a layer takes these fields of `AttentionSettings` by keyword, and no others.

    Its signature lists them instead of ``**settings``, with their defaults or the given ones.
    """
    fields = {f.name: f for f in dataclasses.fields(AttentionSettings)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter(n, keyword, default=defaults.get(n, fields[n].default), annotation=fields[n].type)
        for n in names
    ]

    def decorate(layer: Layer) -> Layer:
        init = layer.__init__  # type: ignore[misc]
        own = [p for p in inspect.signature(init).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        signature = inspect.Signature([*own, *more])

        @functools.wraps(init)
        def checked(self: Any, *args: Any, **settings: Any) -> None:
            bound = signature.bind(self, *args, **settings)
            bound.apply_defaults()
            init(*bound.args, **bound.kwargs)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        layer.__init__ = checked  # type: ignore[misc]
        return layer

    return decorate
