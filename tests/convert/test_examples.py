"""The examples in the docstrings of the converters run."""

import doctest
import importlib
import pkgutil

import pytest

from hgraph import convert

MODULES = [module.name for module in pkgutil.iter_modules(convert.__path__, convert.__name__ + ".")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples():
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(len(test.examples) for m in modules for test in doctest.DocTestFinder().find(m)) > 20
