"""The suite must notice faults: see tests/mutations.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("mutations", Path(__file__).with_name("mutations.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
mutations = importlib.util.module_from_spec(_SPEC)
sys.modules["mutations"] = mutations  # dataclasses look their module up
_SPEC.loader.exec_module(mutations)


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda m: m.name)
def test_each_fault_has_its_place(mutation):
    assert (mutations.ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert mutation.old != mutation.new
    assert (mutations.ROOT / mutation.tests.partition("::")[0]).exists()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return mutations.copied(tmp_path_factory.mktemp("mutations"))


@pytest.mark.slow
@pytest.mark.parametrize(("tests", "needs"), sorted({(m.tests, m.needs) for m in mutations.MUTATIONS}))
def test_without_a_fault_nothing_is_red(tree, tests, needs):
    if not mutations.is_here(needs):
        pytest.skip(f"{needs} is not installed")
    assert not mutations.tests_fail(tree, tests)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda m: m.name)
def test_each_fault_turns_a_test_red(tree, mutation):
    if not mutations.is_here(mutation.needs):
        pytest.skip(f"{mutation.needs} is not installed")
    assert mutations.mutated(tree, mutation)
