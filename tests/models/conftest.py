"""Each public model's case, which the common tests run over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from hgraph.data import Interactions
from hgraph.models import (
    BPRMF,
    CFKG,
    CKE,
    FM,
    GAT,
    GCMC,
    GCN,
    HAN,
    HGNN,
    HGNNP,
    HGT,
    KGAT,
    KGCN,
    MLP,
    NFM,
    RGCN,
    LightGCN,
    RippleNet,
    TwoTower,
)
from hgraph.testing import random_graph, random_hypergraph, random_knowledge_graph

IN, CLASSES = 4, 3


def some_graph(n: int):
    return random_graph(n, 3 * n, seed=1, weighted=True)


def some_hypergraph(n: int):
    return random_hypergraph(n, n // 2 + 1, 2 * n, seed=1, weighted=True)


def some_facts(n: int):
    kg = random_knowledge_graph(n, 4 * n, 3, seed=1)
    return dataclasses.replace(kg, node_type=torch.arange(n) % 2)


def some_paths(n: int):
    return [some_facts(n).view(r) for r in range(3)]


U, I, ENTITIES, RELATIONS = 5, 6, 9, 3


def some_interactions(seed: int = 0) -> Interactions:
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.stack([torch.arange(15) % U, torch.randint(I, (15,), generator=generator)]).unique(dim=1)
    kg = random_knowledge_graph(ENTITIES, 20, RELATIONS, seed=seed)
    return Interactions.random(*pairs, kg, num_users=U, num_items=I, seed=seed)


@dataclass(frozen=True)
class Case:
    """How to make a model, IN channels to CLASSES, and a structure for it (None: it takes features alone).

    A recommender takes ``some_interactions`` alone: its structure, and no features.
    """

    build: Callable[[], nn.Module]
    structure: Callable[..., object] | None
    recommends: bool = False
    rows: bool = True  # whether a recommender scores rows of users and items, which the common ranking loss does


# tests/test_meta.py fails when a public model is not here.
CASES = {
    "GAT": Case(lambda: GAT(IN, 5, CLASSES, num_heads=2), some_graph),
    "GCN": Case(lambda: GCN(IN, 5, CLASSES), some_graph),
    "HGNN": Case(lambda: HGNN(IN, 5, CLASSES), some_hypergraph),
    "HGNNP": Case(lambda: HGNNP(IN, 5, CLASSES), some_hypergraph),
    "HAN": Case(lambda: HAN(IN, 5, CLASSES, num_paths=3, num_heads=2, semantic_channels=4), some_paths),
    "HGT": Case(lambda: HGT(IN, 6, CLASSES, num_relations=3, num_types=2, num_heads=2), some_facts),
    "RGCN": Case(lambda: RGCN(IN, 5, CLASSES, num_relations=3, num_bases=2, dropout=0.5), some_facts),
    "MLP": Case(lambda: MLP(IN, 5, CLASSES), None),
    "BPRMF": Case(lambda: BPRMF(U, I, dim=4), None, recommends=True),
    "LightGCN": Case(lambda: LightGCN(U, I, dim=4), None, recommends=True),
    "FM": Case(lambda: FM(U, I, ENTITIES, dim=4), None, recommends=True),
    "CKE": Case(lambda: CKE(U, I, ENTITIES, RELATIONS, dim=4, relation_dim=3), None, recommends=True),
    "CFKG": Case(lambda: CFKG(U, I, ENTITIES, 2 * RELATIONS + 2, dim=4), None, recommends=True),
    "NFM": Case(lambda: NFM(U, I, ENTITIES, dim=4, hidden_channels=5), None, recommends=True),
    "GCMC": Case(lambda: GCMC(U, I, ENTITIES, 2 * RELATIONS + 2, dim=4), None, recommends=True),
    "KGCN": Case(
        lambda: KGCN(U, I, ENTITIES, 2 * RELATIONS, dim=4, num_layers=2, fanout=3),
        None,
        recommends=True,
        rows=False,
    ),
    "RippleNet": Case(lambda: RippleNet(U, I, ENTITIES, RELATIONS, dim=4, memory=5), None, recommends=True, rows=False),
    "TwoTower": Case(lambda: TwoTower(U, I, ENTITIES, dim=4, hidden_channels=6, out_channels=3), None, recommends=True),
    "KGAT": Case(
        lambda: KGAT(U, I, ENTITIES, 2 * RELATIONS + 2, dim=4, relation_dim=3, layer_channels=(5, 2)),
        None,
        recommends=True,
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames and metafunc.definition.path.parent == Path(__file__).parent:  # not below
        cases = {name: case for name, case in CASES.items() if not case.recommends}
        metafunc.parametrize("case", list(cases.values()), ids=list(cases))
    if "recommender" in metafunc.fixturenames:
        cases = {name: case for name, case in CASES.items() if case.recommends}
        metafunc.parametrize("recommender", list(cases.values()), ids=list(cases))


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
