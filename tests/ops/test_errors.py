"""Every wrong argument is named, with what was expected and what was given, before any work is done."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hgraph import (
    Additive,
    AttendResult,
    Graph,
    SoftAdjacency,
    attend,
    attention_weights,
    edge_score,
    edge_softmax,
    merge,
    propagate,
)
from hgraph.errors import ArgumentError, ArgumentTypeError, HgraphError
from hgraph.testing import random_adjacency

ADJ = random_adjacency(5, 4, 7)
GRAPH = Graph.from_edge_index([[0], [1]], num_nodes=4, directed=True)
SOFT = SoftAdjacency.from_weight(torch.ones(5, 4))
META = torch.device("meta")


def f(*shape: int, **options: object) -> Tensor:
    return torch.zeros(shape, **options)


def att(q: object = None, k: object = None, v: object = None, adj: object = ADJ, **options: object) -> AttendResult:
    """Call `attend` with valid arguments, except for the given ones."""
    q, k, v = (f(*s, 2, 3) if t is None else t for t, s in ((q, (5,)), (k, (4,)), (v, (4,))))
    return attend(adj, q, k, v, **options)


def weights(q: object = None, k: object = None, lse: object = None, **options: object) -> Tensor:
    q, k = (f(n, 2, 3) if t is None else t for t, n in ((q, 5), (k, 4)))
    return attention_weights(ADJ, q, k, f(5, 2) if lse is None else lse, **options)


def result(*shape: int) -> AttendResult:
    return AttendResult(f(*shape), f(*shape[:-1]))


VALUE: dict[str, tuple[Callable[[], object], str]] = {
    "reduction": (
        lambda: propagate(ADJ, f(4, 2), reduce="median"),
        "reduce: expected one of sum, mean, max, min, got 'median'",
    ),
    "transposed": (
        lambda: propagate(ADJ, f(5, 2)),
        "x: expected shape [..., 4, D], got shape [5, 2]. One row per source",
    ),
    "flat x": (lambda: propagate(ADJ, f(4)), "x: expected shape [..., 4, D], got shape [4]"),
    "scalar x": (lambda: propagate(ADJ, f()), "x: expected shape [..., 4, D], got shape []"),
    "x elsewhere": (
        lambda: propagate(ADJ, f(4, 2, device=META)),
        "x: expected a tensor on cpu, the device of the structure, got meta",
    ),
    "weight rows": (
        lambda: propagate(ADJ, f(4, 2), weight=f(6)),
        "weight: expected shape [7], got shape [6]. Weights are in row-sorted",
    ),
    "weight rows, heads": (
        lambda: propagate(ADJ, f(4, 2), weight=f(6, 2)),
        "weight: expected shape [7, K], got shape [6, 2]",
    ),
    "weight dimensions": (
        lambda: propagate(ADJ, f(4, 2), weight=f(7, 1, 1)),
        "weight: expected shape [7] or [7, K], got shape [7, 1, 1]",
    ),
    "weight heads": (
        lambda: propagate(ADJ, f(4, 2), weight=f(7, 3)),
        "weight: expected K columns that divide the 2 channels of x, got 3",
    ),
    "weight no heads": (
        lambda: propagate(ADJ, f(4, 2), weight=f(7, 0)),
        "weight: expected K columns that divide the 2 channels of x, got 0",
    ),
    "weight elsewhere": (lambda: propagate(ADJ, f(4, 2), weight=f(7, device=META)), "weight: expected a tensor on cpu"),
    "soft x": (lambda: propagate(SOFT, f(5, 2)), "x: expected shape [..., 4, D], got shape [5, 2]"),
    "soft weight": (lambda: propagate(SOFT, f(4, 2), weight=f(7)), "weight: expected None with a SoftAdjacency"),
    "soft max": (
        lambda: propagate(SOFT, f(4, 2), reduce="max"),
        "reduce: expected 'sum' or 'mean' with a SoftAdjacency, got 'max'",
    ),
    "score batch": (
        lambda: edge_score(ADJ, f(2, 5, 2, 3), f(2, 4, 2, 3)),
        "q: expected shape [5, 2, 3], got shape [2, 5, 2, 3]. Batches need attend",
    ),
    "score square batch": (
        lambda: edge_score(ADJ, f(5, 5, 2, 3), f(5, 4, 2, 3)),
        "q: expected shape [5, 2, 3], got shape [5, 5, 2, 3]",
    ),
    "score flat q": (lambda: edge_score(ADJ, f(5, 2), f(4, 2)), "q: expected shape [..., T, H, D], got shape [5, 2]"),
    "score rows": (
        lambda: edge_score(ADJ, f(4, 2, 3), f(4, 2, 3)),
        "q: expected shape [5, 2, 3], got shape [4, 2, 3]. One row per target",
    ),
    "score sources": (
        lambda: edge_score(ADJ, f(5, 2, 3), f(5, 2, 3)),
        "k: expected shape [4, H_kv, 3], got shape [5, 2, 3]. One row per source",
    ),
    "score heads": (
        lambda: edge_score(ADJ, f(5, 2, 3), f(4, 1, 3)),
        "k: expected shape [4, 2, 3], got shape [4, 1, 3]",
    ),
    "score features": (
        lambda: edge_score(ADJ, f(5, 2, 3), f(4, 2, 2)),
        "k: expected shape [4, H_kv, 3], got shape [4, 2, 2]",
    ),
    "score vector": (
        lambda: edge_score(ADJ, f(5, 2, 3), f(4, 2, 3), score=Additive(f(2, 2))),
        "score.a: expected shape [2, 3], got shape [2, 2]",
    ),
    "additive": (lambda: edge_score(ADJ, f(5, 2, 3), f(4, 2, 3), score=Additive()), "q: expected shape"),
    "softmax rows": (
        lambda: edge_softmax(ADJ, f(6)),
        "score: expected shape [7], got shape [6]. Scores are in row-sorted order",
    ),
    "softmax dimensions": (
        lambda: edge_softmax(ADJ, f(7, 1, 1)),
        "score: expected shape [7] or [7, H], got shape [7, 1, 1]",
    ),
    "softmax elsewhere": (lambda: edge_softmax(ADJ, f(7, device=META)), "score: expected a tensor on cpu"),
    "group rows": (
        lambda: edge_softmax(ADJ, f(7), group=torch.zeros(6, dtype=torch.long)),
        "group: expected shape [7], got shape [6]",
    ),
    "group elsewhere": (
        lambda: edge_softmax(ADJ, f(7), group=torch.zeros(7, dtype=torch.long, device=META)),
        "group: expected a tensor on cpu",
    ),
    "attend targets": (
        lambda: att(q=f(4, 2, 3)),
        "q: expected shape [5, 2, 3], got shape [4, 2, 3]. One row per target",
    ),
    "attend sources": (lambda: att(k=f(5, 2, 3)), "k: expected shape [4, H_kv, 3], got shape [5, 2, 3]"),
    "attend values": (lambda: att(v=f(5, 2, 3)), "v: expected shape [4, 2, D_v], got shape [5, 2, 3]"),
    "attend value heads": (
        lambda: att(v=f(4, 1, 3)),
        "v: expected shape [4, 2, D_v], got shape [4, 1, 3]. One row per source, heads as k has",
    ),
    "attend dimensions": (lambda: att(q=f(5, 2)), "q: expected shape [..., T, H, D], got shape [5, 2]"),
    "attend additive dimensions": (
        lambda: att(q=f(5), k=f(4), score=Additive()),
        "q: expected shape [..., T, H], got shape [5]",
    ),
    "attend features": (lambda: att(k=f(4, 2, 2)), "k: expected shape [4, H_kv, 3], got shape [4, 2, 2]"),
    "attend batch": (lambda: att(q=f(6, 5, 2, 3)), "k: expected shape [6, 4, H_kv, 3], got shape [4, 2, 3]"),
    "attend value batch": (
        lambda: att(q=f(6, 5, 2, 3), k=f(6, 4, 2, 3)),
        "v: expected shape [6, 4, 2, D_v], got shape [4, 2, 3]",
    ),
    "attend heads": (lambda: att(q=f(5, 3, 3)), "k: expected a number of heads that divides the 3 of q, got 2"),
    "attend no heads": (
        lambda: att(k=f(4, 0, 3), v=f(4, 0, 3)),
        "k: expected a number of heads that divides the 2 of q, got 0",
    ),
    "attend vector": (lambda: att(score=Additive(f(3, 3))), "score.a: expected shape [2, 3], got shape [3, 3]"),
    "attend bias": (lambda: att(bias=f(6)), "bias: expected shape [7], got shape [6]"),
    "attend bias heads": (lambda: att(bias=f(7, 3)), "bias: expected shape [7, 2], got shape [7, 3]"),
    "attend bias dimensions": (lambda: att(bias=f(1, 7, 2)), "bias: expected shape [7] or [7, 2], got "),
    "dropout": (lambda: att(dropout=1.0), "dropout: expected a probability in [0, 1), got 1.0"),
    "negative dropout": (lambda: att(dropout=-0.1), "dropout: expected a probability in [0, 1), got -0.1"),
    "nan dropout": (lambda: att(dropout=float("nan")), "dropout: expected a probability in [0, 1), got nan"),
    "head mask heads": (
        lambda: att(head_mask=torch.ones(5, 3, dtype=torch.bool)),
        "head_mask: expected shape [..., 5 or 1, 2], got ",
    ),
    "head mask one head": (
        lambda: att(head_mask=torch.ones(5, 1, dtype=torch.bool)),
        "head_mask: expected shape [..., 5 or 1, 2], got ",
    ),
    "head mask rows": (
        lambda: att(head_mask=torch.ones(4, 2, dtype=torch.bool)),
        "head_mask: expected shape [..., 5 or 1, 2], got ",
    ),
    "head mask batch": (
        lambda: att(head_mask=torch.ones(6, 5, 2, dtype=torch.bool)),
        "head_mask: expected shape [..., 5 or 1, 2], got ",
    ),
    "flat head mask": (
        lambda: att(head_mask=torch.ones(2, dtype=torch.bool)),
        "head_mask: expected shape [..., 5 or 1, 2], got ",
    ),
    "weights of a batch": (
        lambda: weights(q=f(6, 5, 2, 3), k=f(6, 4, 2, 3)),
        "q: expected no batch dimensions, got shape [6, 5, 2, 3]",
    ),
    "weights targets": (lambda: weights(q=f(4, 2, 3)), "q: expected shape [5, 2, 3], got shape [4, 2, 3]"),
    "weights sources": (lambda: weights(k=f(5, 2, 3)), "k: expected shape [4, H_kv, 3], got shape [5, 2, 3]"),
    "weights lse": (lambda: weights(lse=f(4, 2)), "lse: expected shape [5, 2], got shape [4, 2]"),
    "weights bias": (lambda: weights(bias=f(8)), "bias: expected shape [7], got shape [8]"),
    "weights heads": (
        lambda: weights(q=f(5, 3, 3), lse=f(5, 3)),
        "k: expected a number of heads that divides the 3 of q, got 2",
    ),
    "merge shapes": (
        lambda: merge(result(5, 2, 3), result(5, 2, 4)),
        "a, b: expected results of the same shape, got [5, 2, 3] and [5, 2, 4]",
    ),
    "merge targets": (
        lambda: merge(result(5, 2, 3), result(4, 2, 3)),
        "a, b: expected results of the same shape, got [5, 2, 3] and [4, 2, 3]",
    ),
}

TYPE: dict[str, tuple[Callable[[], object], str]] = {
    "propagate graph": (
        lambda: propagate(GRAPH, f(4, 2)),
        "adj: expected Adjacency or SoftAdjacency, got Graph. Pass the .adj of a Graph",
    ),
    "propagate tensor": (lambda: propagate(f(5, 4), f(4, 2)), "adj: expected Adjacency or SoftAdjacency, got Tensor"),
    "x list": (lambda: propagate(ADJ, [[0.0]] * 4), "x: expected a floating-point tensor, got list"),
    "x integers": (
        lambda: propagate(ADJ, torch.zeros(4, 2, dtype=torch.long)),
        "x: expected a floating-point tensor, got torch.int64",
    ),
    "x complex": (
        lambda: propagate(ADJ, f(4, 2, dtype=torch.complex64)),
        "x: expected a floating-point tensor, got torch.complex64",
    ),
    "weight integers": (
        lambda: propagate(ADJ, f(4, 2), weight=torch.ones(7, dtype=torch.long)),
        "weight: expected a floating-point tensor, got torch.int64",
    ),
    "weight number": (
        lambda: propagate(ADJ, f(4, 2), weight=2.0),
        "weight: expected a floating-point tensor, got float",
    ),
    "score graph": (
        lambda: edge_score(GRAPH, f(4, 2, 3), f(4, 2, 3)),
        "adj: expected Adjacency or SoftAdjacency, got Graph",
    ),
    "score name": (
        lambda: edge_score(ADJ, f(5, 2, 3), f(4, 2, 3), score="dot"),
        "score: expected Dot() or Additive(), got str",
    ),
    "score q": (lambda: edge_score(ADJ, None, f(4, 2, 3)), "q: expected a floating-point tensor, got NoneType"),
    "score k": (lambda: edge_score(ADJ, f(5, 2, 3), None), "k: expected a floating-point tensor, got NoneType"),
    "score vector": (
        lambda: edge_score(ADJ, f(5, 2, 3), f(4, 2, 3), score=Additive([1.0])),
        "score.a: expected a floating-point tensor, got list",
    ),
    "weights soft": (
        lambda: attention_weights(SOFT, f(5, 2, 3), f(4, 2, 3), f(5, 2)),
        "adj: expected Adjacency, got SoftAdjacency",
    ),
    "softmax integers": (
        lambda: edge_softmax(ADJ, torch.zeros(7, dtype=torch.int32)),
        "score: expected a floating-point tensor, got torch.int32",
    ),
    "group floats": (
        lambda: edge_softmax(ADJ, f(7), group=f(7)),
        "group: expected an integer tensor, got torch.float32",
    ),
    "group booleans": (
        lambda: edge_softmax(ADJ, f(7), group=f(7) > 0),
        "group: expected an integer tensor, got torch.bool",
    ),
    "group list": (lambda: edge_softmax(ADJ, f(7), group=[0] * 7), "group: expected an integer tensor, got list"),
    "attend score": (lambda: att(score=lambda q, k: q), "score: expected Dot() or Additive(), got function"),
    "attend class": (lambda: att(score=Additive), "score: expected Dot() or Additive(), got type"),
    "attend q": (lambda: att(q=[0.0]), "q: expected a floating-point tensor, got list"),
    "attend k": (
        lambda: att(k=torch.zeros(4, 2, 3, dtype=torch.long)),
        "k: expected a floating-point tensor, got torch.int64",
    ),
    "attend v": (
        lambda: att(v=torch.zeros(4, 2, 3, dtype=torch.long)),
        "v: expected a floating-point tensor, got torch.int64",
    ),
    "attend bias": (
        lambda: att(bias=torch.zeros(7, dtype=torch.bool)),
        "bias: expected a floating-point tensor, got torch.bool",
    ),
    "head mask": (lambda: att(head_mask=f(5, 2)), "head_mask: expected a boolean tensor, got torch.float32"),
    "weights lse": (lambda: weights(lse=[0.0]), "lse: expected a floating-point tensor, got list"),
    "merge tuple": (lambda: merge(result(5, 2, 3), (f(5, 2, 3), f(5, 2))), "b: expected an AttendResult, got tuple"),
    "merge tensor": (lambda: merge(f(5, 2, 3), result(5, 2, 3)), "a: expected an AttendResult, got Tensor"),
}


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any kernel, and any gathering of edges, fails the test."""

    def worked(*arguments: object) -> None:
        pytest.fail("work before the check")

    for module in ("attend", "edge", "propagate"):
        monkeypatch.setattr(importlib.import_module(f"hgraph.ops.{module}"), "rows", worked)
    monkeypatch.setattr(torch, "rand", worked)


@pytest.mark.parametrize("name", VALUE)
def test_wrong_values(name: str) -> None:
    call, message = VALUE[name]
    with pytest.raises(ArgumentError, match="^" + re.escape(message)) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, HgraphError)


@pytest.mark.parametrize("name", TYPE)
def test_wrong_types(name: str) -> None:
    call, message = TYPE[name]
    with pytest.raises(ArgumentTypeError, match="^" + re.escape(message)) as caught:
        call()
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, HgraphError)


@pytest.mark.parametrize(
    "call", [lambda: propagate(ADJ, f(4, 2)), att, weights], ids=["propagate", "attend", "weights"]
)
def test_right_arguments_do_reach_the_work(call: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="work before"):
        call()
