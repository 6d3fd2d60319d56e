"""The cases of whole networks can be made: their peers and limits take the weights of the networks."""

import pytest

from hgraph.benchmarks import models

CASES = models.suite("cpu")


@pytest.mark.parametrize("name", [name for name in CASES if "Cora" in name])
def test_cases_of_the_size_of_cora_are_made_and_run(name):
    case = CASES[name]()
    for method in (*case.methods.values(), *case.limits.values()):
        method()
