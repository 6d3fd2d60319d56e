"""Each public network that writes images pixel by pixel."""

from __future__ import annotations

import pytest

from hgraph.models import AxialTransformer


def axial():
    return AxialTransformer(
        3, 4, 2, num_classes=3, dim=8, num_heads=2, exterior=2, outer=2, inner=1, mlp_ratio=2, residual_scale=1.0
    )


# tests/test_meta.py fails when a public model is in no conftest.py under tests/models.
CASES = {
    "AxialTransformer": axial,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))
