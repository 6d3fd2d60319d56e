"""What every public layer and model owes, and this file demands: parity, gradients, state, a docstring.

By convention, somewhere under tests/:
- ``test_<name in lower case>_parity...`` compares the class with its paper's formula;
- a docstring has a short doctest, and it shows what happens;
- a layer has a case in ``CASES`` of a conftest.py under tests/nn, a model in tests/models/conftest.py, over which the
  common tests ``test_gradients`` and ``test_state_dict_round_trip`` beside it run.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import hgraph
import hgraph.models
import hgraph.nn

TESTS = Path(__file__).parent
PUBLIC = [
    (folder, name)
    for folder, package in (("nn", hgraph.nn), ("models", hgraph.models))
    for name in package.__all__
    if isinstance(getattr(package, name), type)  # layers and networks; functions beside them have tests of their own
]
PACKAGES = ["analysis", "convert", "datasets", "distill", "models", "nn", "ops", "patterns", "structure", "train"]
EXAMPLES = {  # everything public of these packages, but errors, by its module and name
    (made.__module__, made.__name__): made
    for package in (hgraph, *(importlib.import_module(f"hgraph.{part}") for part in PACKAGES))
    for made in (getattr(package, name) for name in package.__all__)
    if callable(made) and not (isinstance(made, type) and issubclass(made, Exception))
}
WITHOUT = {  # their examples would need packages that are optional, or a whole run before them
    *(f"{way}_{kind}" for way in ("from", "to") for kind in ("dgl", "pyg", "pyg_hetero", "pyg_hypergraph", "xgi")),
    *("from_dhg", "to_dhg_digraph", "to_dhg_graph", "to_dhg_hypergraph", "from_pyg_triples", "to_pyg_triples"),
    *("dhg_teacher", "export_towers", "write_report"),
}
COMMON = {
    "nn": ("test_gradients", "test_layouts_decide_nothing", "test_state_dict_round_trip"),
    "models": ("test_gradients", "test_state_dict_round_trip"),
}


def functions_in(path):
    """Test functions of a file, by name: their arguments."""
    nodes = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef))
    return {n.name: [a.arg for a in n.args.args] for n in nodes if n.name.startswith("test_")}


def functions_of(folder):
    """Test functions under a folder, by name: their arguments."""
    return {name: args for path in folder.rglob("test_*.py") for name, args in functions_in(path).items()}


def cases_of(folder):
    """Keys of the dictionary CASES in the conftest.py of a folder; empty where it has none."""
    path = folder / "conftest.py"
    for node in ast.walk(ast.parse(path.read_text() if path.exists() else "")):
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["CASES"]:
            return {ast.literal_eval(key) for key in node.value.keys}
    return set()


def folders_with_cases(part):
    """tests/<part> and the folders below it whose conftest.py has CASES."""
    return [f for f in (TESTS / part, *sorted((TESTS / part).rglob("*"))) if f.is_dir() and cases_of(f)]


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
    assert any(name in cases_of(folder) for folder in folders_with_cases(part)), (
        f"add a case for {name} to CASES in a conftest.py under tests/{part}"
    )


@pytest.mark.parametrize("part", ["nn", "models"])
def test_the_common_tests_run_over_all_cases(part):
    assert folders_with_cases(part)
    for folder in folders_with_cases(part):
        tests = {name: args for path in folder.glob("test_*.py") for name, args in functions_in(path).items()}
        for name in COMMON[part]:
            assert "case" in tests.get(name, []), f"{folder.relative_to(TESTS.parent)} needs {name}(case, ...)"


@pytest.mark.parametrize(("part", "name"), PUBLIC)
def test_docstring_says_what_it_is(part, name):
    doc = inspect.getdoc(getattr(getattr(hgraph, part), name)) or ""
    lacking = missing_parts(doc, layer=part == "nn")
    assert not lacking, f"hgraph.{part}.{name}: the docstring lacks {', '.join(lacking)}"


@pytest.mark.parametrize(("module", "name"), EXAMPLES)
def test_docstring_has_an_example_that_is_true(module, name):
    made, log = EXAMPLES[module, name], []
    found = doctest.DocTestFinder(recurse=False).find(made, name, globs=dict(vars(importlib.import_module(module))))
    assert any(test.examples for test in found) or name in WITHOUT, f"{module}.{name}: the docstring lacks a doctest"
    for test in found:
        assert not doctest.DocTestRunner(verbose=False).run(test, out=log.append).failed, "".join(log)


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
