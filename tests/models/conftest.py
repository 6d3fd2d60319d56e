"""Each public model's case, which the common tests run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from hgraph.models import GAT, GCN, HGNN, HGNNP, MLP
from hgraph.testing import random_graph, random_hypergraph

IN, CLASSES = 4, 3


def some_graph(n: int):
    return random_graph(n, 3 * n, seed=1, weighted=True)


def some_hypergraph(n: int):
    return random_hypergraph(n, n // 2 + 1, 2 * n, seed=1, weighted=True)


@dataclass(frozen=True)
class Case:
    """How to make a model, IN channels to CLASSES, and a structure for it (None: it takes features alone)."""

    build: Callable[[], nn.Module]
    structure: Callable[..., object] | None


# tests/test_meta.py fails when a public model is not here.
CASES = {
    "GAT": Case(lambda: GAT(IN, 5, CLASSES, heads=2), some_graph),
    "GCN": Case(lambda: GCN(IN, 5, CLASSES), some_graph),
    "HGNN": Case(lambda: HGNN(IN, 5, CLASSES), some_hypergraph),
    "HGNNP": Case(lambda: HGNNP(IN, 5, CLASSES), some_hypergraph),
    "MLP": Case(lambda: MLP(IN, 5, CLASSES), None),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames and metafunc.definition.path.parent == Path(__file__).parent:  # not below
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))


@pytest.fixture
def make() -> Callable[..., nn.Module]:
    def build(case: Case, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        model = case.build()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape))
        return model

    return build
