"""What all tests share: the real data, and how many tests met it."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
import torch
from hypothesis import settings

# Without a GPU kernels are interpreted, which triton decides as it is imported.
assert "triton" not in sys.modules
if importlib.util.find_spec("triton") is not None and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

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
