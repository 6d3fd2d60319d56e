"""Real data, loaded once for all tests of the folder."""

from __future__ import annotations

import functools

import pytest

import hgraph.datasets as datasets


@pytest.fixture(scope="session")
def load_set(mirror, tmp_path_factory):
    """`hgraph.datasets.load` into a temporary folder, cached by set and options."""
    root = tmp_path_factory.mktemp("data")
    return functools.cache(lambda name, **options: datasets.load(name, root, **options))
