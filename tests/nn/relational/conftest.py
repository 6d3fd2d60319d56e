"""Each public layer over typed vertices or several graphs, over which the common tests run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hgraph.nn import HANConv, HGTConv
from hgraph.structure import Graph, KnowledgeGraph
from hgraph.testing import random_graph, random_knowledge_graph

IN, R, TYPES, PATHS = 4, 3, 2, 2


def some_knowledge_graph(n: int, seed: int = 0, facts: int | None = None) -> KnowledgeGraph:
    """With vertices of two types."""
    kg = random_knowledge_graph(n, 4 * n if facts is None else facts, R, seed=seed)
    return replace(kg, node_type=torch.arange(n) % TYPES)


def some_graphs(n: int, seed: int = 0, facts: int | None = None) -> list[Graph]:
    """One a meta-path."""
    if n == 0:
        return [Graph.from_edge_index(torch.empty(2, 0, dtype=torch.long), num_nodes=0, directed=True)] * PATHS
    return [random_graph(n, 3 * n if facts is None else facts, seed=seed + p) for p in range(PATHS)]


@dataclass(frozen=True)
class Case:
    """How to make a layer of IN channels, and a structure for it."""

    build: Callable[[], nn.Module]
    structure: Callable[..., KnowledgeGraph | Sequence[Graph]]


# tests/test_meta.py fails when a public layer is in no such dictionary.
CASES = {
    "HGTConv": Case(lambda: HGTConv(IN, R, num_types=TYPES, num_heads=2), some_knowledge_graph),
    "HANConv": Case(lambda: HANConv(IN, 3, PATHS, num_heads=2, semantic_channels=5), some_graphs),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames and metafunc.definition.path.parent == Path(__file__).parent:
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))
