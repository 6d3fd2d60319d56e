"""What is installed, what an import costs, and who may import whom."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
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
    (("checks", "files", "cache"), {"_torch", "_lazy", "errors"}),
    (("structure",), {"checks", "files", "cache"}),
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


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run in a folder from which nothing of the repository can be imported by accident."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(command, cwd=cwd, env=inherited, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("folder", MAPPED.values())
def test_link_points_to_folder(folder):
    link = ROOT / "hgraph" / folder
    if not (ROOT / ".git").exists() and not os.path.lexists(link):
        pytest.skip("a source archive carries no links")
    assert link.is_symlink(), f"git keeps hgraph/{folder} as a link to ../{folder}"
    assert os.readlink(link) == f"../{folder}"
    assert link.resolve() == ROOT / folder


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


def test_packages_listed_in_setup_cfg_are_the_folders():
    config = setup_cfg()
    listed = config["options"]["packages"].split()
    assert sorted(listed) == sorted(PACKAGES)
    mapping = dict(re.split(r"\s*=\s*", line) for line in config["options"]["package_dir"].split("\n") if line)
    assert mapping == MAPPED


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


def test_import_hgraph_is_light(tmp_path):
    """Optional and heavy packages load when they are used."""
    heavy = {"triton", "matplotlib", "scipy", "sklearn", "networkx", "pandas", "typer", "tqdm", "safetensors"}
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import hgraph; "
        "assert not {'torch', 'numpy'} & set(sys.modules); import torch, numpy; before = set(sys.modules); "
        "hgraph.Graph, hgraph.scan, hgraph.Data; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before})); "
        "import hgraph.distill, hgraph.cli; "  # the compiler takes seconds, and answering needs none
        "assert 'torch._dynamo' in before or 'torch._dynamo' not in sys.modules"
    )
    done = run(sys.executable, "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "hgraph" in loaded
    assert not loaded & heavy


def shipped_files() -> set[str]:
    """Code and data of the package folders, by the path they install to."""
    listing = run("git", "ls-files", "hgraph", *MAPPED.values(), cwd=ROOT) if (ROOT / ".git").exists() else None
    if listing is not None and listing.returncode == 0:
        files = [Path(line) for line in listing.stdout.split("\n") if line and not (ROOT / line).is_symlink()]
    else:
        files = [path.relative_to(ROOT) for path in python_files("hgraph", *MAPPED.values())]
    here = (("benchmarks", "results"), ("benchmarks", "studies"))  # in the repository alone
    files = [file for file in files if file.parts[:2] not in here and file.suffix != ".md"]
    return {file.as_posix() if file.parts[0] == "hgraph" else f"hgraph/{file.as_posix()}" for file in files}


def wheel_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.mark.slow
def test_wheel_and_sdist(tmp_path):
    """Wheel from the tree, wheel from the sdist, and an installation that offers hgraph.kernels but no kernels."""
    pytest.importorskip("build")
    site_packages = sysconfig.get_path("purelib")

    def build(source: Path, kind: str, out: str) -> Path:
        done = run(sys.executable, "-m", "build", f"--{kind}", "--outdir", tmp_path / out, source, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "absent from the `packages` configuration" not in done.stdout + done.stderr
        (result,) = (tmp_path / out).iterdir()
        return result

    # A copy, since an earlier build leaves modules that are gone by now in ROOT/build.
    tree = tmp_path / "tree"
    everywhere = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "results")
    at_the_top = shutil.ignore_patterns("build", "dist", "runs")  # below, hgraph.builders is a package

    def skip(folder: str, names: list[str]) -> set[str]:
        return everywhere(folder, names) | (at_the_top(folder, names) if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, tree, symlinks=True, ignore=skip)
    wheel = build(tree, "wheel", "from-tree")
    with tarfile.open(build(tree, "sdist", "sdist")) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    files = wheel_files(wheel)
    assert wheel_files(build(source, "wheel", "from-sdist")) == files
    assert {name.split("/")[0] for name in files} == {"hgraph", wheel.name.split("-py3")[0] + ".dist-info"}
    assert not shipped_files() - files, "add these to package_data in setup.cfg"

    venv = tmp_path / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path).returncode == 0
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).stdout.strip()
    done = run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", purelib, wheel, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # The dependencies of the running interpreter, without its editable hgraph: a .pth named by a .pth is not read.
    Path(purelib, "dependencies.pth").write_text("\n".join({site_packages, *site.getsitepackages()}), encoding="utf-8")
    done = run(
        python,
        "-c",
        "import hgraph, hgraph.kernels as k, hgraph.datasets as d; print(k.__file__, d.__file__)",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert all(file.startswith(purelib) for file in done.stdout.split()), done.stdout
    for folder in MAPPED.values():
        done = run(
            python,
            "-c",
            f"import importlib.util as u, sys; sys.exit(u.find_spec({folder!r}) is not None)",
            cwd=tmp_path,
        )
        assert done.returncode == 0, f"an installed hgraph must not offer a bare {folder}"
