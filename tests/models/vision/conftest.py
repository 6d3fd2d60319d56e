"""Each public network over images."""

from __future__ import annotations

import pytest

from hgraph.models import ViT, YOLOv13
from hgraph.nn import SoftHGNN


def small_vit():
    last = SoftHGNN(8, 4, dropout=0.0)
    return ViT(32, 3, patch=8, dim=8, num_layers=2, num_heads=2, dropout=0.0, small_data=True, last=last)


# How to make it, and the sides of its images. tests/test_meta.py fails when a public model is neither here nor in
# tests/models/conftest.py.
CASES = {
    "ViT": (small_vit, (32, 32)),
    "YOLOv13": (lambda: YOLOv13("n", num_classes=3), (64, 32)),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))
