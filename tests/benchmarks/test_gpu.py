"""The cases for a GPU run small on a CPU: their arguments fit, and every way that is here computes the same."""

from __future__ import annotations

import pytest

from hgraph.benchmarks import gpu, harness, ops

SIZES = {"edges": 400, "tokens": 256, "window": 128}
QUICK = harness.Setting(rounds=2, seconds=0.0)
SUITE = gpu.suite("cpu", SIZES)


NAMES = [
    "far sum F=64 float32", "far sum F=64 bfloat16", "tiles, window, 8x64 f+b", "tiles, documents, 8x64",
    "tiles, causal, 8x64", "linear attention, decay scalar, 8x128", "linear attention, decay none, 8x128",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", NAMES)
def test_ways_agree(name: str) -> None:
    methods, left_out, _ = harness.agreeing(SUITE[name](), QUICK)
    assert "hgraph" in methods
    assert not [why for why in left_out.values() if why.startswith("differs")]


def test_memory_is_asked_of_a_gpu_alone() -> None:
    with pytest.raises(harness.NotHereError, match="GPU memory needs"):
        SUITE["memory of tiles, causal, 8x64"]()


def test_the_ops_suite_takes_them_on_a_gpu() -> None:
    assert set(SUITE) <= set(ops.suite("cuda"))
    assert not set(SUITE) & set(ops.suite("cpu"))
