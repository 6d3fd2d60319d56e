"""Verbs in CUDA graphs and on several GPUs: nothing is copied from or to the device while they run.

Without a GPU the first is watched in the interpreter; the graphs themselves, and a second device, are for a GPU.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import backend

_SPEC = importlib.util.spec_from_file_location("verbs", Path(__file__).with_name("verbs.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
verbs = sys.modules["verbs"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(verbs)
VERBS, numbers, run, structures = verbs.VERBS, verbs.numbers, verbs.run, verbs.structures


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_copied_between_host_and_device(verb: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = structures(verb, device)[0]
    leaves = numbers(verb, edges)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a GPU would be waited for")

    # indices and decays are checked only on a CPU
    for name in ("scatter", "scan"):
        monkeypatch.setattr(importlib.import_module(f"hgraph.ops.{name}"), "_seen", lambda _: False)
    for name in ("item", "tolist", "nonzero", "__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(Tensor, name, refuse)
    for name in ("tensor", "as_tensor", "nonzero", "unique", "masked_select"):
        monkeypatch.setattr(torch, name, refuse)
    run(verb, edges, leaves)


@pytest.mark.gpu
@pytest.mark.parametrize("verb", VERBS)
def test_a_cuda_graph_gives_the_bits_of_eager_steps(verb: str) -> None:
    edges = structures(verb, "cuda")[0]
    leaves = numbers(verb, edges)
    with backend("triton"):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # kernels are compiled and structures copied before the capture
            run(verb, edges, leaves)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            held = run(verb, edges, leaves)
        for t in leaves:
            t.detach().mul_(-0.5)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(held, run(verb, edges, leaves), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("verb", VERBS)
def test_a_second_gpu_gives_the_bits_of_the_first(verb: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    with backend("triton"):
        # the current device stays the first
        one, two = (
            run(verb, edges, numbers(verb, edges)) for edges, _ in (structures(verb, f"cuda:{i}") for i in (0, 1))
        )
    assert all(b.device.index == 1 and torch.equal(a.cpu(), b.cpu()) for a, b in zip(one, two, strict=True))
