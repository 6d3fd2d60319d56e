"""Each public model of facts, over which the common tests run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hgraph.models import ComplEx, DistMult, RotatE, TransE, TransR
from hgraph.models.triples.kge import TripleModel

N, R = 7, 3


@dataclass(frozen=True)
class Case:
    """How to make a model of N vertices and R relations."""

    build: Callable[[], TripleModel]


# tests/test_meta.py fails when a public model is in no such dictionary.
CASES = {
    "TransE": Case(lambda: TransE(N, R, dim=4)),
    "TransR": Case(lambda: TransR(N, R, dim=4, relation_dim=3)),
    "DistMult": Case(lambda: DistMult(N, R, dim=4)),
    "ComplEx": Case(lambda: ComplEx(N, R, dim=4)),
    "RotatE": Case(lambda: RotatE(N, R, dim=4)),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames and metafunc.definition.path.parent == Path(__file__).parent:
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))
