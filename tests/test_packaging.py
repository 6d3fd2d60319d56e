"""What is installed, and what importing it costs."""

from __future__ import annotations

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
from pathlib import Path

import pytest

from tests.test_imports import MAPPED, PACKAGES, ROOT, python_files


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


def test_packages_listed_in_setup_cfg_are_the_folders():
    config = setup_cfg()
    listed = config["options"]["packages"].split()
    assert sorted(listed) == sorted(PACKAGES)
    mapping = dict(re.split(r"\s*=\s*", line) for line in config["options"]["package_dir"].split("\n") if line)
    assert mapping == MAPPED


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
