"""The kinds of attention patterns that a layer supports."""

from __future__ import annotations

import enum
from typing import Any

from hgraph.errors import ArgumentError, ArgumentTypeError

__all__ = ["CROSS", "SELF", "AttentionKind", "require_kind", "supported_kinds"]


class AttentionKind(enum.Enum):
    """The four patterns of CAB (Zhang et al., ICML 2023): self or cross, noncausal or causal.

    In causal cross attention all keys are known, and a query must not use later queries.
    """

    NONCAUSAL_SELF = "noncausal self"
    CAUSAL_SELF = "causal self"
    NONCAUSAL_CROSS = "noncausal cross"
    CAUSAL_CROSS = "causal cross"


SELF = frozenset({AttentionKind.NONCAUSAL_SELF, AttentionKind.CAUSAL_SELF})
CROSS = frozenset({AttentionKind.NONCAUSAL_CROSS, AttentionKind.CAUSAL_CROSS})


def supported_kinds(layer: Any) -> frozenset[AttentionKind]:
    """The kinds that a layer or layer class declares.

    >>> from hgraph import nn
    >>> sorted(kind.value for kind in supported_kinds(nn.PowerAttention))
    ['causal self']
    """
    kinds = getattr(layer, "kinds", None)
    if not isinstance(kinds, frozenset):
        raise ArgumentTypeError("layer", "an attention layer of hgraph.nn", type(layer).__name__)
    return kinds


def require_kind(layer: Any, kind: AttentionKind) -> None:
    """Check that a layer supports a kind.

    Raises:
        ArgumentError: it does not; the message lists the supported kinds.
    """
    kinds = supported_kinds(layer)
    if kind not in kinds:
        name = layer.__name__ if isinstance(layer, type) else type(layer).__name__
        raise ArgumentError("kind", f"{' or '.join(sorted(k.value for k in kinds))} for {name}", kind.value)
