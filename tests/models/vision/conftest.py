"""Each public network over images."""

from __future__ import annotations

import pytest

from hgraph.models import YOLOv13

# tests/test_meta.py fails when a public model is neither here nor in tests/models/conftest.py.
CASES = {
    "YOLOv13": lambda: YOLOv13("n", num_classes=3),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))
