"""Each public layer of attention between tokens, over which the common tests run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from hgraph import patterns
from hgraph.nn import (
    AxialAttention,
    CombinerAttention,
    CrossAttention,
    LandmarkAttention,
    MixtureOfHeadAttention,
    MoAAttention,
    PowerAttention,
    RoutingAttention,
    SelfAttention,
    SparseQueryAttention,
)
from hgraph.nn.attention import SpanRule

DIM = 8
WINDOW = functools.partial(patterns.sliding_window, window=3)


def tokens(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, n, DIM, generator=generator, dtype=torch.float64).to(dtype),)


def two(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    return tokens(n, seed=seed, dtype=dtype) + tokens(n + 2, seed=seed + 1, dtype=dtype)


def grid(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    (x,) = tokens(3 * n, seed=seed, dtype=dtype)
    return (x.view(2, n, 3, DIM),)


@dataclass(frozen=True)
class Case:
    """How to make a layer, and what it is called with for about n tokens."""

    build: Callable[[], nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]


# tests/test_meta.py fails when a public layer has no case.
CASES = {
    "AxialAttention": Case(lambda: AxialAttention(DIM, 2, causal=True), grid),
    "CombinerAttention": Case(lambda: CombinerAttention(DIM, 2, block_size=3, activation="deepset", bias=True), tokens),
    "CrossAttention": Case(lambda: CrossAttention(DIM, 2, num_kv_heads=1), two),
    "LandmarkAttention": Case(lambda: LandmarkAttention(DIM, 4, block_size=3, num_kv_heads=2, rotary=100.0), tokens),
    "MixtureOfHeadAttention": Case(lambda: MixtureOfHeadAttention(DIM, 4, shared_heads=2, top_k=1), tokens),
    "MoAAttention": Case(
        lambda: MoAAttention(DIM, 2, [SpanRule(2, 0.0), SpanRule(0, 0.5)], num_sink=1, block_size=2), tokens
    ),
    "PowerAttention": Case(lambda: PowerAttention(DIM, 2, block_size=2, window=1, rotary=100.0), tokens),
    "RoutingAttention": Case(
        lambda: RoutingAttention(DIM, 2, num_clusters=2, cluster_size=3, local_heads=1, local_window=2), tokens
    ),
    "SelfAttention": Case(lambda: SelfAttention(DIM, 4, pattern=WINDOW, num_kv_heads=2, causal=True), tokens),
    "SparseQueryAttention": Case(lambda: SparseQueryAttention(DIM, 4, num_query_heads=2, num_kv_heads=1), tokens),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))


@pytest.fixture
def make() -> Callable[..., nn.Module]:
    def build(case: Case, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        layer = case.build()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.5)
        return layer

    return build
