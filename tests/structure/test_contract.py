"""Every public structure fulfills the contract of structures."""

from __future__ import annotations

import pytest

from hgraph.testing import contracts
from tests.structure.cases import CASES, WITHOUT


@pytest.mark.parametrize("clause", contracts.STRUCTURE)
@pytest.mark.parametrize("name", CASES)
def test_structures(name, clause):
    if (name, clause.__name__) in WITHOUT:
        pytest.skip(f"{clause.__name__}: {WITHOUT[name, clause.__name__]}")
    clause(CASES[name])
