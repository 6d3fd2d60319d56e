"""Every public layer fulfills the contract of layers, and every decode state that of decoders."""

from __future__ import annotations

import shutil

import pytest

from hgraph.testing import contracts
from tests.nn.cases import CASES, DECODERS, INDUCTOR, is_slow


@pytest.mark.parametrize(
    ("case", "clause"),
    [
        pytest.param(case, clause, id=f"{name}-{clause.__name__}", marks=[pytest.mark.slow] * is_slow(name, clause))
        for name, case in CASES.items()
        for clause in contracts.LAYER
    ],
)
def test_layers(case, clause):
    clause(case)


@pytest.mark.slow
@pytest.mark.parametrize("name", INDUCTOR)
def test_layers_under_inductor(name):
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("inductor needs a C++ compiler, there is none")
    contracts.check_inductor(INDUCTOR[name])


@pytest.mark.parametrize("clause", contracts.DECODER)
@pytest.mark.parametrize("case", [case for _, case in DECODERS.values()], ids=DECODERS)
def test_decoders(case, clause):
    clause(case)
