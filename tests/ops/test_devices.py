"""Results are on the device of the inputs, tested with meta-like tensors of a second GPU that does not exist."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import hgraph
from hgraph.testing import random_adjacency

GPU = torch.device("cuda:1")
ADJ = random_adjacency(6, 5, 17, seed=1)
TILES = (hgraph.patterns.sliding_window(70, 3) | hgraph.patterns.global_tokens(70, [0])).tiles(16)


def there(value: Any) -> Any:
    """The structure, with tensors that report this device."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=GPU)
    if not dataclasses.is_dataclass(value):
        return value
    own = {f.name: there(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **own)  # type: ignore[type-var]


def number(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device=GPU)


CALLS = {
    "sum": lambda: hgraph.propagate(there(ADJ), number(2, 5, 8), weight=number(17, 2)),
    "mean": lambda: hgraph.propagate(there(ADJ), number(5, 8), reduce="mean"),
    "max": lambda: hgraph.propagate(there(ADJ), number(5, 8), reduce="max"),
    "score": lambda: hgraph.edge_score(there(ADJ), number(6, 2, 4), number(5, 2, 4)),
    "vector score": lambda: hgraph.edge_score(
        there(ADJ), number(6, 2, 4), number(5, 2, 4), score=hgraph.Additive(number(2, 4))
    ),
    "softmax": lambda: hgraph.edge_softmax(there(ADJ), number(17, 2)),
    "attend": lambda: hgraph.attend(
        there(ADJ), number(6, 4, 8), number(5, 2, 8), number(5, 2, 3), bias=number(17, 4), dropout=0.5
    ),
    "tiles": lambda: hgraph.attend(
        there(TILES), number(70, 4, 8), number(70, 2, 8), number(70, 2, 8),
        bias=hgraph.Relative(number(4, 9)), dropout=0.5,
    ),
    "scan": lambda: hgraph.scan(hgraph.Memory("scalar"), (number(9, 4), number(9, 4), number(9, 3), number(9))),
}  # fmt: skip


@pytest.mark.parametrize("verb", CALLS)
def test_results_are_on_the_device_of_the_inputs(verb: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=False), torch.no_grad():
        result = CALLS[verb]()
    for t in (result,) if isinstance(result, Tensor) else result:
        assert t.device == GPU
        assert t.dtype in (torch.bfloat16, torch.float32)
