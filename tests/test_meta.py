"""What every public layer, model, decode state and structure needs: parity, a case of its contract, a docstring.

By convention, somewhere under tests/:
- ``test_<name in lower case>_parity...`` compares the class with its paper's formula;
- a docstring has a short doctest, and it shows what happens;
- tests/nn/cases.py, tests/models/cases.py and tests/structure/cases.py have a case for each, over which
  test_contract.py beside them runs every clause of `hgraph.testing.contracts`.
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
from hgraph.structure import Structure
from tests.models import cases as models
from tests.nn import cases as layers
from tests.structure import cases as structures

TESTS = Path(__file__).parent
PUBLIC = [
    (folder, name)
    for folder, package in (("nn", hgraph.nn), ("models", hgraph.models))
    for name in package.__all__
    if isinstance(getattr(package, name), type)  # layers and networks; functions beside them have tests of their own
]
NN = [
    importlib.import_module(f"hgraph.nn.{path.name}")
    for path in sorted(Path(hgraph.nn.__file__).parent.iterdir())
    if (path / "__init__.py").exists()
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
CASES = {"nn": layers.CASES, "models": models.CASES, "structure": structures.CASES}
STRUCTURES = [
    name
    for package in (hgraph.structure, hgraph.data)
    for name in package.__all__
    if isinstance(made := getattr(package, name), type) and issubclass(made, Structure) and made is not Structure
]
STATES = {
    name: getattr(package, name)
    for package in NN
    for name in package.__all__
    if name.endswith("State") and name != "DecodeState"
}


def functions_in(path):
    """Test functions of a file, by name: their arguments."""
    nodes = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef))
    return {n.name: [a.arg for a in n.args.args] for n in nodes if n.name.startswith("test_")}


def functions_of(folder):
    """Test functions under a folder, by name: their arguments."""
    return {name: args for path in folder.rglob("test_*.py") for name, args in functions_in(path).items()}


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
def test_has_a_case(part, name):
    assert name in CASES[part], f"add a case for {name} to CASES in tests/{part}/cases.py"
    built = CASES[part][name].build()
    assert name in {type(built).__name__, type(getattr(built, "model", None)).__name__}  # a wrapper has a model


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_has_a_case(name):
    assert name in CASES["structure"], f"add a {name} to CASES in tests/structure/cases.py"
    assert type(CASES["structure"][name]).__name__ == name


@pytest.mark.parametrize("name", STATES)
def test_a_decode_state_has_a_case(name):
    kind = STATES[name]
    cases = [case for state, case in layers.DECODERS.values() if state is kind]
    assert cases, f"add a decoder with a {name} to DECODERS in tests/nn/cases.py"
    assert all(type(case.state(case.build(), 5)) is kind for case in cases)


@pytest.mark.parametrize(
    ("part", "test"),
    [("nn", "test_layers"), ("nn", "test_decoders"), ("models", "test_models"), ("structure", "test_structures")],
)
def test_the_contracts_run_over_all_cases(part, test):
    assert "clause" in functions_in(TESTS / part / "test_contract.py")[test]


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
