"""Start suites in separate processes, with threads and allocator set before any import."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# Read once by torch and the C library at startup. All measurements of a process share these settings.
ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "huge-pages": {"THP_MEM_ALLOC_ENABLE": "1"},
    "kept": {
        "MALLOC_MMAP_THRESHOLD_": str(2 * 2**30),
        "MALLOC_TRIM_THRESHOLD_": str(4 * 2**30),
        "MALLOC_TOP_PAD_": str(2**28),
    },
}
# Cached compiled backwards are found by their forward only: an older source could be measured.
_COMPILER = {"TORCHINDUCTOR_AUTOGRAD_CACHE": "0"}
_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

# Run the suites of a folder with the hgraph on the path, so that older versions can be measured too.
_START = """
import importlib.util, sys
import hgraph
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location("hgraph.benchmarks", folder + "/__init__.py",
                                              submodule_search_locations=[folder])
hgraph.benchmarks = sys.modules["hgraph.benchmarks"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hgraph.benchmarks)
from hgraph.benchmarks.runner import main
sys.exit(main(sys.argv[2:]))
"""


def environment(threads: int, allocator: str) -> dict[str, str]:
    """The environment of this process, without variables that affect speed."""
    replaced = {name for settings in ALLOCATORS.values() for name in settings}
    others = {name: value for name, value in os.environ.items() if name not in replaced}
    return others | dict.fromkeys(_POOLS, str(threads)) | _COMPILER | ALLOCATORS[allocator]


def start(arguments: Sequence[str], *, threads: int, allocator: str, quiet: bool, tables: str = "stdout") -> int:
    """Run suites with the hgraph imported here; ``tables`` is where they are printed. Returns the exit code."""
    command = [sys.executable, "-m", "hgraph.benchmarks", *arguments]
    return _run(command, environment(threads, allocator), quiet, tables)


def start_on(tree: Path, suites: Path, arguments: Sequence[str], *, threads: int, allocator: str) -> int:
    """Run the suites of one folder with the hgraph of another folder, quietly."""
    command = [sys.executable, "-c", _START, str(suites), *arguments]
    with tempfile.TemporaryDirectory() as empty:  # a working directory without accidental imports
        around = environment(threads, allocator) | {"PYTHONPATH": _path(tree)}
        return subprocess.run(command, env=around, cwd=empty, stdout=subprocess.DEVNULL, check=False).returncode


def _path(tree: Path) -> str:
    """The path with the tree first."""
    return os.pathsep.join([str(tree), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])


def _run(command: Sequence[str], around: Mapping[str, str], quiet: bool, tables: str) -> int:
    target = subprocess.DEVNULL if quiet else sys.stderr if tables == "stderr" else None
    return subprocess.run(command, env=around, stdout=target, check=False).returncode
