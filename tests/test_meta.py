"""What every public layer and model owes, and this file demands: parity, gradients, state, a docstring.

By convention, somewhere under tests/:
- ``test_<name in lower case>_parity...`` compares the class with its paper's formula;
- a layer has a case in ``CASES`` of tests/nn/conftest.py, a model in tests/models/conftest.py, over which the common
  tests ``test_gradients`` and ``test_state_dict_round_trip`` run.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import hgraph.models
import hgraph.nn

TESTS = Path(__file__).parent
PUBLIC = [
    (folder, name)
    for folder, package in (("nn", hgraph.nn), ("models", hgraph.models))
    for name in package.__all__
    if isinstance(getattr(package, name), type)  # layers and networks; functions beside them have tests of their own
]
COMMON = ("test_gradients", "test_state_dict_round_trip")


def functions_of(folder):
    """Test functions under a folder, by name: their arguments."""
    found = {}
    for path in folder.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = [a.arg for a in node.args.args]
    return found


def cases_of(part):
    """Keys of the dictionary CASES in tests/<part>/conftest.py."""
    for node in ast.walk(ast.parse((TESTS / part / "conftest.py").read_text())):
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["CASES"]:
            return {ast.literal_eval(key) for key in node.value.keys}
    raise AssertionError(f"tests/{part}/conftest.py has no CASES")


ALL_TESTS = functions_of(TESTS)


def missing_parts(doc, *, layer):
    """What a class docstring lacks."""
    wanted = {"Source:": r"^Source: \S", "Shapes:": r"^Shapes:", "an equation (.. math::)": r"^\.\. math::"}
    wanted |= {"Args:": r"^Args:"}
    if layer:
        wanted |= {"a doctest": r"^>>> "}
    return [what for what, pattern in wanted.items() if not re.search(pattern, doc, re.MULTILINE)]


@pytest.mark.parametrize(("part", "name"), PUBLIC)
def test_has_a_parity_test(part, name):
    prefix = f"test_{name.lower()}_parity"
    assert any(test.startswith(prefix) for test in ALL_TESTS), f"write {prefix} somewhere under tests/"


@pytest.mark.parametrize(("part", "name"), PUBLIC)
def test_has_gradient_and_state_tests(part, name):
    if not inspect.isclass(getattr(getattr(hgraph, part), name)):
        pytest.skip("a function")
    assert name in cases_of(part), f"add a case for {name} to CASES in tests/{part}/conftest.py"


@pytest.mark.parametrize("part", ["nn", "models"])
def test_the_common_tests_run_over_all_cases(part):
    tests = functions_of(TESTS / part)
    for name in COMMON:
        assert "case" in tests.get(name, []), f"tests/{part} needs {name}(case, ...)"


@pytest.mark.parametrize(("part", "name"), PUBLIC)
def test_docstring_says_what_it_is(part, name):
    doc = inspect.getdoc(getattr(getattr(hgraph, part), name)) or ""
    lacking = missing_parts(doc, layer=part == "nn")
    assert not lacking, f"hgraph.{part}.{name}: the docstring lacks {', '.join(lacking)}"


def test_the_checks_above_can_fail():
    assert missing_parts("One line.", layer=True) == [
        "Source:",
        "Shapes:",
        "an equation (.. math::)",
        "Args:",
        "a doctest",
    ]
    assert "test_gcnconv_parity" in ALL_TESTS
    assert not any(test.startswith("test_nosuchconv_parity") for test in ALL_TESTS)
