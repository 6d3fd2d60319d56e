"""Who may import whom."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Top-level folders that install under another name.
MAPPED = {"hgraph.kernels": "kernels", "hgraph.datasets": "datasets", "hgraph.benchmarks": "benchmarks"}

# Part of hgraph -> the parts it may import, the line of DESIGN.md; a part may import those of its own row's parts.
# `hgraph/__init__.py`, `testing`, `papers`, `benchmarks` and `cli` are above all of them.
LINE: dict[str, set[str]] = {"_torch": set(), "_lazy": set(), "errors": set(), "kernels": set()}
for _parts, _below in (
    (("memory",), {"errors"}),
    (("checks", "files", "cache", "schema", "report"), {"_torch", "_lazy", "errors", "memory"}),
    (("structure",), {"checks", "files", "cache", "schema", "report", "memory"}),
    (("patterns", "data", "draw"), {"structure"}),
    (("convert",), {"patterns", "data", "draw"}),
    (("builders",), {"convert"}),
    (("datasets",), {"builders"}),
    (("ops",), {"structure", "patterns", "kernels"}),
    (("distributed",), {"ops"}),
    (("nn",), {"distributed"}),
    (("models",), {"nn", "data", "draw"}),
    (("train",), {"models"}),
    (("distill", "explain", "analysis"), {"train", "datasets"}),
    (("recipes",), {"distill", "explain", "analysis"}),
):
    _all = set().union(_below, *(LINE[part] for part in _below))
    LINE |= {part: set(_all) for part in _parts}
ALLOWED = {part: {part, *below} for part, below in LINE.items()}
UPWARD = {"draw", "data"}  # what a structure's draw() and save() import when they are called


def python_files(*folders: str) -> Iterator[Path]:
    """Every Python file below the folders, links not followed."""
    for folder in folders:
        for path, names, files in os.walk(ROOT / folder):
            names[:] = [name for name in names if name not in ("__pycache__", "studies")]  # studies are not shipped
            yield from (Path(path, file) for file in sorted(files) if file.endswith(".py"))


def module_name(path: Path) -> str:
    """The name a file of the package is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in MAPPED.values():
        parts = ("hgraph", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in python_files("hgraph", *MAPPED.values())}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}


def imported(source: str, name: str = "", *, package: bool = False) -> list[tuple[int, str]]:
    """(line, absolute name) of every import in the source, inside functions and under TYPE_CHECKING too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")
                parents = parents[: len(parents) - node.level + package]
                base = ".".join([*parents, base] if base else parents)
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def importers_of_bare_names(source: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in imported(source) if name.split(".")[0] in MAPPED.values()]


def wrong_way(source: str, name: str, *, package: bool = False) -> list[str]:
    """Imports of hgraph in module `name` that do not point down."""
    part = name.split(".")[1] if "." in name else ""
    if part not in ALLOWED:
        return []
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = {line for f in functions for line in range(f.lineno, (f.end_lineno or f.lineno) + 1)}

    def allowed(line: int) -> set[str]:
        return ALLOWED[part] | (UPWARD if part == "structure" and line in inside else set())

    targets = [(line, to.split(".")) for line, to in imported(source, name, package=package)]
    return [
        f"{name}:{line} imports {'.'.join(to)}"
        for line, to in targets
        if to[0] == "hgraph" and (len(to) == 1 or to[1] not in allowed(line))
    ]


def test_no_bare_imports():
    """`import kernels` works by accident in the root of a clone, and finds another project's package elsewhere."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files("hgraph", "kernels", "datasets", "tests", "tutorials", "benchmarks")
        for line, name in importers_of_bare_names(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(["use hgraph.kernels and hgraph.datasets:", *wrong])


@pytest.mark.parametrize(
    "source",
    ["import kernels", "import datasets.x as d", "from datasets import load", "def f():\n from kernels.x import y"],
)
def test_bare_import_is_seen(source):
    assert importers_of_bare_names(source)


@pytest.mark.parametrize("source", ["from . import kernels", "import hgraph.kernels", "from hgraph import datasets"])
def test_qualified_import_is_not_bare(source):
    assert not importers_of_bare_names(source)


def test_no_module_hides_a_name():
    """Importing a module sets an attribute of its package: a function of that name there would be gone."""
    hidden = []
    for package in PACKAGES:
        own = {name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == package}
        taken = {to.rpartition(".")[2]: to for _, to in imported(MODULES[package].read_text(encoding="utf-8"), package)}
        # A module's own name may be that of what it defines: it is imported before the name is set.
        hidden += [
            f"{package}.{n}" for n in own & set(taken) if taken[n] not in (f"{package}.{n}.{n}", f"{package}.{n}")
        ]
    assert not hidden


def test_every_module_lies_in_a_package():
    orphans = [str(path.relative_to(ROOT)) for name, path in MODULES.items() if path.parent not in package_folders()]
    assert not orphans, f"folders without __init__.py are not installed: {orphans}"


def package_folders() -> set[Path]:
    return {MODULES[name].parent for name in PACKAGES}


def test_imports_point_one_way():
    wrong = [
        line
        for name, path in sorted(MODULES.items())
        for line in wrong_way(path.read_text(encoding="utf-8"), name, package=name in PACKAGES)
    ]
    assert not wrong, "\n".join(["DESIGN.md draws the line of imports:", *wrong])


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def import_graph(modules: dict[str, Path]) -> dict[str, set[str]]:
    """The modules that each module imports, at any depth of its code; what a structure's draw() and save() import is
    left out."""
    homes = {}  # name that a package re-exports -> the module it takes it from
    for name in PACKAGES:
        for _, to in imported(MODULES[name].read_text(encoding="utf-8"), name, package=True):
            if "." not in to:
                continue
            homes[f"{name}.{to.rsplit('.', 1)[1]}"] = to
    graph = {}
    for name, path in modules.items():
        own = set()
        for _, to in imported(path.read_text(encoding="utf-8"), name, package=name in PACKAGES):
            while to in homes and to not in modules and homes[to] != to:
                to = homes[to]
            own.add(to if to in modules else to.rsplit(".", 1)[0])
        own = {to for to in own if to in modules and to != name}
        if name.startswith("hgraph.structure"):
            own = {to for to in own if to.split(".")[1] not in UPWARD}
        graph[name] = own
    return graph


def test_no_import_circles():
    """Type-only and lazy imports count: a circle of names is one of ideas, too. Packages that re-export are looked
    through, as importing one of their modules runs them anyway."""
    modules = {name: path for name, path in MODULES.items() if name not in PACKAGES}
    assert not (found := circles(import_graph(modules))), found


def test_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert not circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def private_across(source: str, name: str, *, package: bool = False) -> list[str]:
    """Names with an underscore that a module takes from another package of hgraph."""
    own = name if package else name.rpartition(".")[0]

    def home(to: str, at: int) -> str:
        """The package that the private part of a name belongs to."""
        before = ".".join(to.split(".")[:at])
        return before if before in PACKAGES else before.rpartition(".")[0]

    return [
        f"{name}:{line} imports {to}"
        for line, to in imported(source, name, package=package)
        for at, part in enumerate(to.split(".") if to.startswith("hgraph.") else [])
        if part.startswith("_") and not part.startswith("__") and part not in ("_torch", "_lazy")
        if not f"{own}.".startswith(f"{home(to, at)}.")
    ]


def test_no_private_name_crosses_packages():
    wrong = [
        line
        for name, path in sorted(MODULES.items())
        for line in private_across(path.read_text(encoding="utf-8"), name, package=name in PACKAGES)
    ]
    assert not wrong, "\n".join(["an underscore is private to its package:", *wrong])


def test_a_private_name_is_seen():
    source = "from hgraph.structure import _tiling\nfrom hgraph.ops.edge import _check"
    assert len(private_across(source, "hgraph.nn.graph.gcn")) == 2
    assert not private_across(source, "hgraph.structure.graph")[1:]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("hgraph.structure.graph", "from hgraph.ops import propagate"),
        ("hgraph.structure.graph", "def f():\n    from ..ops.edge import edge_softmax"),
        ("hgraph.structure.graph", "from .. import nn"),
        ("hgraph.structure.graph", "from hgraph.data.io import save"),
        ("hgraph.ops.edge", "import hgraph"),
        ("hgraph.ops.edge", "from hgraph import Graph"),
        ("hgraph.nn.graph.gcn", "from ...train import fit"),
        ("hgraph.kernels.spmm", "from hgraph.errors import HgraphError"),
        ("hgraph.datasets.planetoid", "import hgraph.ops"),
        ("hgraph.models.node.gcn", "import hgraph.testing"),
        ("hgraph.distill.fit", "from hgraph.cli import main"),
        ("hgraph.models.node.gcn", "import hgraph.datasets"),
        ("hgraph.train.fit", "from hgraph import datasets"),
        ("hgraph.ops.edge", "from hgraph.data import Data"),
    ],
)
def test_wrong_way_is_seen(name, source):
    assert len(wrong_way(source, name)) == 1


@pytest.mark.parametrize(
    ("name", "source", "package"),
    [
        ("hgraph.structure.graph", "from ..errors import ShapeError\nfrom . import adjacency", False),
        ("hgraph.ops", "from .edge import edge_softmax\nfrom ..structure import Adjacency", True),
        ("hgraph.ops.edge", "import hgraph.kernels.softmax\nimport torch", False),
        ("hgraph.distill.teach", "from hgraph import datasets", False),
        ("hgraph.structure.graph", "def draw():\n    from hgraph.draw.hypergraphs import draw_graph", False),
        ("hgraph.datasets.registry", "from hgraph.data.data import Data", False),
        ("hgraph.testing", "import hgraph", False),
        ("hgraph.cli", "from hgraph import __version__", False),
        ("hgraph", "from .nn import GCNConv", True),
    ],
)
def test_right_way_is_allowed(name, source, package):
    assert not wrong_way(source, name, package=package)
