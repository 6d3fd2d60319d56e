"""What all tests share: the real data, and how many tests met it."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from tqdm import tqdm

# Without a GPU kernels are interpreted, which triton decides as it is imported.
assert "triton" not in sys.modules
if importlib.util.find_spec("triton") is not None and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# What a user has built does not change what the tests run; those of the native kernels build their own.
os.environ["HGRAPH_CACHE"] = os.path.join(os.path.dirname(__file__), "nothing-is-built-here")

# torch keeps compiled backwards on disk and finds them by the forward alone: those of an older source would run.
os.environ["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "0"

# A progress bar's lock is one with those of forked processes: a test that kills one would leave it locked for ever.
tqdm.set_lock(threading.RLock())

# `make test` draws the same examples each time, so that it fails by a change and not by chance or a busy machine;
# `make test-full` looks further each time.
settings.register_profile("fast", derandomize=True, deadline=None)
if os.environ.get("HGRAPH_FAST"):
    settings.load_profile("fast")


@pytest.fixture(scope="session")
def mirror() -> str:
    """Where the real data lie. A test that asks for it is marked ``real_data`` and skips where there are none."""
    if not os.environ.get("HGRAPH_MIRROR"):
        pytest.skip("real data: HGRAPH_MIRROR is not set")
    return os.environ["HGRAPH_MIRROR"]


@pytest.fixture(scope="session")
def native_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache folder with the native kernels, built once for all workers. Without a compiler its tests skip."""
    from hgraph.kernels import native

    if native.compiler() is None:
        pytest.skip("the native kernels need a C++ compiler, there is none")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "native-kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HGRAPH_CACHE", str(folder))
        try:
            folder.mkdir()
        except FileExistsError:  # another worker builds: a second build beside it would take both twice as long
            end = time.monotonic() + 600
            while not (folder / "ended").exists() and time.monotonic() < end:
                time.sleep(0.2)
        try:
            native.build()  # what is there already is not built again
        finally:
            (folder / "ended").touch()
    return str(folder)


@pytest.fixture
def native_present(native_cache: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``"auto"`` finds the native kernels in this test."""
    from hgraph.ops.dispatch.backend import refresh

    monkeypatch.setenv("HGRAPH_CACHE", native_cache)
    refresh()
    yield
    monkeypatch.undo()
    refresh()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_data: meets the real data of HGRAPH_MIRROR; set by the fixture `mirror`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "mirror" in getattr(item, "fixturenames", ()):
            item.add_marker("real_data")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    def count(*outcomes: str) -> int:
        reports = {
            r.nodeid
            for o in outcomes
            for r in terminalreporter.getreports(o)
            if "real_data" in getattr(r, "keywords", ())
        }
        return len(reports)

    terminalreporter.write_line(f"real data: {count('passed', 'failed', 'error')} run, {count('skipped')} skipped")
