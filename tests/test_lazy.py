"""Importing hgraph and asking a command for help load no torch, and every public name is reachable all the same."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hgraph

ROOT = Path(__file__).resolve().parents[1]
HELP = """
import sys
sys.path.insert(0, {root!r})
import typer
from hgraph.cli.app import app

def ask(*words):
    try:
        app([*words, "--help"], prog_name="hgraph")
    except SystemExit as end:
        assert not end.code, words

def walk(command, *words):
    ask(*words)
    for name, inner in getattr(command, "commands", {{}}).items():
        walk(inner, *words, name)

walk(typer.main.get_command(app))
heavy = {{"torch", "numpy", "scipy", "sklearn", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""


def type_checked(package):
    """Names that a package imports for type checkers alone."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    blocks = [n for n in tree.body if isinstance(n, ast.If) and isinstance(n.test, ast.Name)]
    return {
        alias.asname or alias.name
        for block in blocks
        if block.test.id == "TYPE_CHECKING"
        for statement in block.body
        for alias in statement.names
    }


def test_help_loads_no_torch(tmp_path):
    script = HELP.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("train", "tune", "evaluate", "distill", "recommend", "datasets build", "kernels build", "papers"):
        assert f"Usage: hgraph {command} " in done.stdout


def test_type_checkers_see_what_is_exported():
    exported = {name for names in hgraph._EXPORTS.values() for name in names}
    assert exported == set(hgraph.__all__) - {"errors"}
    assert type_checked(hgraph) == exported | set(hgraph._SUBPACKAGES)


@pytest.mark.parametrize("name", hgraph.__all__)
def test_every_name_is_that_of_its_package(name):
    homes = [package for package, names in hgraph._EXPORTS.items() if name in names]
    for package in homes:
        assert getattr(hgraph, name) is getattr(importlib.import_module(package), name)
    assert len(homes) == (name != "errors")
    assert name in dir(hgraph)


@pytest.mark.parametrize("name", hgraph._SUBPACKAGES)
def test_subpackages_are_attributes(name):
    assert getattr(hgraph, name) is importlib.import_module(f"hgraph.{name}")
    assert name in dir(hgraph)


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(AttributeError, match="module 'hgraph' has no attribute 'Grahp'"):
        hgraph.Grahp
    with pytest.raises(ImportError):
        from hgraph import Grahp  # noqa: F401
