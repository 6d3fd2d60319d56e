"""No verb depends on the memory layout of its inputs or of the gradients of its outputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from hgraph import (
    Additive,
    Affine,
    Memory,
    Relative,
    SoftAdjacency,
    SoftmaxState,
    attend,
    attend_groups,
    attention_weights,
    backend,
    edge_score,
    edge_softmax,
    gather,
    merge,
    patterns,
    propagate,
    scan,
    scatter,
    segment_reduce,
)
from hgraph.testing import assert_layout_independent, random_adjacency

H, D, B = 2, 4, 2
ADJ = random_adjacency(9, 7, 26, seed=2)
SOFT = SoftAdjacency(torch.rand(9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
SOURCE, GROUP = ADJ.indices.long(), ADJ.indices.long() % 2


@dataclass(frozen=True)
class Verb:
    """A function of a structure and tensors, whose shapes are given by letters."""

    call: Callable[..., Any]
    structure: Any
    shapes: str


def _relative(graph: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Any:
    return attend(graph, q, k, v, bias=Relative(table))


def _dropped(graph: Any, q: Tensor, k: Tensor, v: Tensor) -> Any:
    return attend(graph, q, k, v, dropout=0.5, generator=torch.Generator().manual_seed(3))


QKV = "BTHD BSHD BSHD"
EDGES = {
    "sum": Verb(lambda adj, x: propagate(adj, x), ADJ, "BSD"),
    "weighted sum": Verb(lambda adj, x, w: propagate(adj, x, weight=w), ADJ, "SD E"),
    "sum by head": Verb(lambda adj, x, w: propagate(adj, x, weight=w), ADJ, "BSD EH"),
    "sum by channel": Verb(lambda adj, x, w: propagate(adj, x, weight=w), ADJ, "SD ED"),
    "mean": Verb(lambda adj, x, w: propagate(adj, x, weight=w, reduce="mean"), ADJ, "SD EH"),
    "max": Verb(lambda adj, x, w: propagate(adj, x, weight=w, reduce="max"), ADJ, "BSD E"),
    "min": Verb(lambda adj, x: propagate(adj, x, reduce="min"), ADJ, "SD"),
    "soft sum": Verb(propagate, SOFT, "BSD"),
    "dot score": Verb(edge_score, ADJ, "THD SHD"),
    "additive score": Verb(lambda adj, q, k: edge_score(adj, q, k, score=Additive()), ADJ, "TH SH"),
    "vector score": Verb(lambda adj, q, k, a: edge_score(adj, q, k, score=Additive(a)), ADJ, "THD SHD HD"),
    "softmax": Verb(edge_softmax, ADJ, "EH"),
    "grouped softmax": Verb(lambda adj, s: edge_softmax(adj, s, group=GROUP), ADJ, "EH"),
    "attend": Verb(lambda adj, q, k, v, b: attend(adj, q, k, v, bias=b), ADJ, f"{QKV} EH"),
    "attend by groups": Verb(attend, ADJ, "THD SKD SKD"),
    "attend, one bias": Verb(lambda adj, q, k, v, b: attend(adj, q, k, v, bias=b), ADJ, "THD SHD SHD E"),
    "additive attend": Verb(lambda adj, q, k, v: attend(adj, q, k, v, score=Additive()), ADJ, "BTH BSH BSHD"),
    "vector attend": Verb(lambda adj, q, k, v, a: attend(adj, q, k, v, score=Additive(a)), ADJ, "THD SHD SHD HD"),
    "soft attend": Verb(attend, SOFT, QKV),
    "merge": Verb(lambda adj, q, k, v: merge(attend(adj, q, k, v), attend(adj, k[:, :1] + q, k, v)), ADJ, QKV),
    "weights": Verb(attention_weights, ADJ, "THD SHD TH"),
    "scatter mean": Verb(lambda adj, x: scatter(x, SOURCE, 0, dim_size=7, reduce="mean"), ADJ, "ED"),
    "scatter, wide index": Verb(lambda adj, x: scatter(x, SOURCE[:, None].expand(-1, D), 0, dim_size=7), ADJ, "ED"),
    "segments": Verb(lambda adj, x: segment_reduce(x, adj.indptr, reduce="max"), ADJ, "ED"),
    "gather": Verb(lambda adj, x: gather(x, SOURCE, 0), ADJ, "SD"),
    "affine scan": Verb(lambda adj, a, b, h: scan(Affine(), (a, b), initial=h, segments=adj.indptr), ADJ, "ED ED TD"),
    "memory scan": Verb(lambda _, q, k, v, a: scan(Memory("scalar"), (q, k, v, -(a**2))), ADJ, "ED ED ED E"),
    "channel scan": Verb(lambda _, q, k, v, a: scan(Memory("diagonal"), (q, k, v, -(a**2))), ADJ, "ED ED ED ED"),
    "softmax scan": Verb(lambda _, s, v: scan(SoftmaxState(), (s, v)).states.out, ADJ, "E ED"),
}  # fmt: skip
WINDOW = patterns.sliding_window(24, 5, causal=True)
HUBS = patterns.sliding_window(40, 3) | patterns.global_tokens(40, [0])
TOKENS = {
    "full": Verb(attend, patterns.full(16), QKV),
    "cross": Verb(attend, patterns.full(13, 21), QKV),
    "window": Verb(attend, WINDOW, QKV),
    "key groups": Verb(attend, WINDOW, "BTHD BSKD BSKD"),
    "other values": Verb(attend, WINDOW, "BTHD BSHD BSHF"),
    "one feature": Verb(attend, patterns.causal(19), "TH1 SH1 SH1"),
    "dilated": Verb(attend, patterns.dilated(24, 5, 2), QKV),
    "tiles": Verb(attend, WINDOW.tiles(8), QKV),
    "tiles of one": Verb(attend, patterns.power(21).tiles(1), QKV),
    "tiles with hubs": Verb(attend, HUBS.tiles(16), QKV),
    "by head": Verb(attend, patterns.sink_band(24, [4, 9], num_sink=1, block_size=2), QKV),
    "biased": Verb(_relative, WINDOW, f"{QKV} HL"),
    "dropout": Verb(_dropped, WINDOW, QKV),
    "groups": Verb(attend_groups, patterns.full(3, 5), "BTQHD BSHD BSPHD BSPHF"),
}
ALL = EDGES | TOKENS
WITHOUT_KERNELS = {"groups", "soft sum", "soft attend", "tiles", "tiles of one"}  # tiles of 16 tokens or more


def given(verb: Verb, dtype: torch.dtype) -> list[Tensor]:
    s = verb.structure
    size = {"T": s.num_targets, "S": s.num_sources, "E": ADJ.num_edges, "B": B, "H": H, "K": 1, "D": D, "F": D + 1}
    size |= {"L": 9, "Q": 3, "P": 2, "1": 1}
    shapes = [tuple(size[letter] for letter in word) for word in verb.shapes.split()]
    return [torch.randn(s, generator=torch.Generator().manual_seed(i)).to(dtype) for i, s in enumerate(shapes)]


LIMITS = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 0.05}


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", ALL)
def test_verbs_do_not_depend_on_strides(name: str, dtype: torch.dtype) -> None:
    verb, structure = ALL[name], ALL[name].structure
    if isinstance(structure, SoftAdjacency):
        structure = SoftAdjacency(structure.weight.to(dtype))
    with backend("torch"):
        assert_layout_independent(
            lambda *inputs: verb.call(structure, *inputs), *given(verb, dtype), seeds=range(6), tolerance=LIMITS[dtype]
        )


@pytest.mark.parametrize("name", ALL)
def test_native_kernels_do_not_depend_on_strides(name: str, native_present: None) -> None:
    verb = ALL[name]
    structure = SoftAdjacency(SOFT.weight.float()) if verb.structure is SOFT else verb.structure
    inputs = given(verb, torch.float32)
    assert_layout_independent(lambda *inputs: verb.call(structure, *inputs), *inputs, seeds=range(6), tolerance=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_kernels_do_not_depend_on_strides(name: str) -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    verb = ALL[name]
    if name in WITHOUT_KERNELS:
        pytest.skip("has no kernel")
    structure = SoftAdjacency(SOFT.weight.float()) if verb.structure is SOFT else verb.structure
    with backend("triton"):
        assert_layout_independent(
            lambda *inputs: verb.call(structure, *inputs), *given(verb, torch.float32), seeds=range(2), tolerance=1e-5
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tokens", [12, 16, 150])
def test_values_that_are_views(tokens: int, dtype: torch.dtype) -> None:
    """The mean of token numbers over a full graph, which came out as 7.5, -7.5, 7.5 for 16 tokens."""
    number = torch.arange(tokens, dtype=dtype).view(tokens, 1, 1).expand(tokens, 1, 3).contiguous()
    graph, q = patterns.full(tokens), torch.zeros(tokens, 1, 3, dtype=dtype)
    views = {
        "slice": torch.stack([number, -number], -1)[..., 0],
        "expanded": number[..., :1].expand(-1, -1, 3),
        "transposed": number.mT.contiguous().mT,
        "channels": number.permute(2, 1, 0).contiguous().permute(2, 1, 0),
    }
    for name, v in views.items():
        for form in (graph, graph.tiles(64)):
            expected = torch.full((tokens, 1, 3), (tokens - 1) / 2, dtype=dtype)
            torch.testing.assert_close(attend(form, q, q, v).out, expected, rtol=0.01, atol=0.01, msg=name)
