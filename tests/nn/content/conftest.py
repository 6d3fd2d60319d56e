"""Each public layer that makes its own structure of the features, over which the common tests run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from hgraph.nn import SoftHGNN, SoftHGNNSeS, SoftHyperedges

DIM = 4


def tokens(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """B x N x D features, and a mask in which a few vertices are padding."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n, DIM, generator=generator, dtype=torch.float64).to(dtype)
    mask = torch.ones(2, n, dtype=torch.bool)
    mask[0, n - n // 3 :] = False
    return x, mask


@dataclass(frozen=True)
class Case:
    """How to make a layer, and what it is called with: N vertices or a map of N pixels a side."""

    build: Callable[[], nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]


# tests/test_meta.py fails when a public layer is neither here nor in tests/nn/conftest.py.
CASES = {
    "SoftHGNN": Case(lambda: SoftHGNN(DIM, 3, 2, dropout=0.0), tokens),
    "SoftHGNNSeS": Case(lambda: SoftHGNNSeS(DIM, 4, 1, 2, 2, dropout=0.0), tokens),
    "SoftHyperedges": Case(lambda: SoftHyperedges(DIM, 3, 2, dropout=0.0), tokens),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))


@pytest.fixture
def make() -> Callable[..., nn.Module]:
    """Builds a layer with every parameter random, those that start at zero or one too."""

    def build(case: Case, seed: int = 0) -> nn.Module:
        layer = case.build()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
            for name, buffer in layer.named_buffers():
                if name.endswith("running_var"):
                    buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        return layer

    return build
