"""Each public layer that makes its own structure of the features, over which the common tests run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from hgraph.nn import (
    C3AH,
    A2C2f,
    AreaAttention,
    ConvBlock,
    Detect,
    DSBottleneck,
    DSC3k,
    DSC3k2,
    DSConv,
    FullPAD,
    HyperACE,
    SoftHGNN,
    SoftHGNNSeS,
    SoftHyperedges,
)

DIM = 4


def tokens(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """B x N x D features, and a mask in which a few vertices are padding."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n, DIM, generator=generator, dtype=torch.float64).to(dtype)
    mask = torch.ones(2, n, dtype=torch.bool)
    mask[0, n - n // 3 :] = False
    return x, mask


def maps(*channels: tuple[int, float]) -> Callable[..., tuple[Tensor, ...]]:
    """Maps of so many channels, and of so many times n pixels a side."""

    def inputs(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        shapes = ((2, c, int(n * times), int(n * times) + 2 * int(2 * times)) for c, times in channels)
        return tuple(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes)

    return inputs


@dataclass(frozen=True)
class Case:
    """How to make a layer, and what it is called with: N vertices or a map of N pixels a side."""

    build: Callable[[], nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]
    twice: bool = True  # torch's fused attention is not differentiable twice, and Detect takes long


# tests/test_meta.py fails when a public layer is neither here nor in tests/nn/conftest.py.
CASES = {
    "A2C2f": Case(lambda: A2C2f(4, 64), maps((4, 1)), twice=False),
    "AreaAttention": Case(lambda: AreaAttention(4, 2, area=2), maps((4, 1)), twice=False),
    "C3AH": Case(lambda: C3AH(4, 16, 3, dropout=0.0), maps((4, 1))),
    "ConvBlock": Case(lambda: ConvBlock(4, 6, 3, stride=2), maps((4, 1))),
    "DSBottleneck": Case(lambda: DSBottleneck(4), maps((4, 1))),
    "DSC3k": Case(lambda: DSC3k(4, expansion=0.5), maps((4, 1))),
    "DSC3k2": Case(lambda: DSC3k2(4, 8), maps((4, 1))),
    "DSConv": Case(lambda: DSConv(4, 6), maps((4, 1))),
    "Detect": Case(lambda: Detect((4, 4, 4), 3), maps((4, 2), (4, 1), (4, 0.5)), twice=False),
    "FullPAD": Case(lambda: FullPAD(), maps((4, 1), (4, 1))),
    "HyperACE": Case(lambda: HyperACE((4, 4, 4), 32, num_hyperedges=3, dropout=0.0), maps((4, 2), (4, 1), (4, 0.5))),
    "SoftHGNN": Case(lambda: SoftHGNN(DIM, 3, 2, dropout=0.0), tokens),
    "SoftHGNNSeS": Case(lambda: SoftHGNNSeS(DIM, 4, 1, 2, 2, dropout=0.0), tokens),
    "SoftHyperedges": Case(lambda: SoftHyperedges(DIM, 3, 2, dropout=0.0), tokens),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        compiled = "compile" in metafunc.function.__name__  # convolutions take long to trace
        cases = [
            pytest.param(case, id=name, marks=[pytest.mark.slow] if compiled and case.inputs is not tokens else [])
            for name, case in CASES.items()
        ]
        metafunc.parametrize("case", cases)


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
