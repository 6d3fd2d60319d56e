"""Every public model fulfills the contract of layers."""

from __future__ import annotations

import pytest

from hgraph.testing import contracts
from tests.models.cases import CASES

SLOW = ("check_compile", "check_recompile", "check_compile_gradients", "check_second_gradients")


def is_slow(name, clause):
    return clause.__name__ in SLOW or (name == "YOLOv13" and clause.__name__ in ("check_half", "check_float64"))


@pytest.mark.parametrize(
    ("case", "clause"),
    [
        pytest.param(case, clause, id=f"{name}-{clause.__name__}", marks=[pytest.mark.slow] * is_slow(name, clause))
        for name, case in CASES.items()
        for clause in contracts.LAYER
    ],
)
def test_models(case, clause):
    clause(case)
