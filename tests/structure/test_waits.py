"""How often constructors wait for the device: once, for all checks of values together."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.overrides import TorchFunctionMode

from hgraph import Adjacency, Graph, Hypergraph, KnowledgeGraph
from hgraph.checks import Checks
from hgraph.errors import ArgumentError
from hgraph.ops import prepare

READS = {torch.Tensor.tolist, torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__}
READS |= {torch.Tensor.__index__, torch.Tensor.nonzero, torch.nonzero, torch.equal, torch.Tensor.equal, torch.unique}
READS |= {torch.Tensor.unique, torch.masked_select, torch.Tensor.cpu, torch.Tensor.numpy, torch.unique_consecutive}


class Waits(TorchFunctionMode):
    """Counts operations that would make the host wait for a device: reads, and sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        index = args[1] if func is torch.Tensor.__getitem__ else ()
        by_mask = any(
            getattr(i, "dtype", None) is torch.bool for i in (index if isinstance(index, tuple) else (index,))
        )
        repeats = func in (torch.Tensor.repeat_interleave, torch.repeat_interleave) and "output_size" not in kwargs
        self.count += func in READS or by_mask or repeats
        return func(*args, **kwargs)


SIZES = {"num_targets": 4, "num_sources": 5}
PAIRS = {"num_nodes": 5, "num_hyperedges": 4}
TRIPLES = {"num_nodes": 5, "num_relations": 2}


class Given:
    """Arguments on a device."""

    def __init__(self, device: str) -> None:
        self.target, self.source, self.kind, self.types, self.ends = (
            torch.tensor(values, device=device)
            for values in ([2, 0, 2, 1], [1, 0, 0, 3], [0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 1, 4])
        )
        self.ends_weight, self.weight = torch.rand(5, device=device), torch.rand(4, device=device)
        self.once = {"target": self.target, "source": self.source}
        self.twice = {name: torch.cat([t, t]) for name, t in self.once.items()}
        self.triples = {"head": self.target, "relation": self.kind, "tail": self.source}
        self.repeated = {name: torch.cat([t, t]) for name, t in self.triples.items()}
        self.score = torch.rand(3, 4, device=device)


ONE_WAIT = {
    "pairs": lambda g: Adjacency.from_coo(**g.once, **SIZES),
    "weighted": lambda g: Adjacency.from_coo(**g.once, weight=g.weight, **SIZES),
    "parallel": lambda g: Adjacency.from_coo(**g.twice, **SIZES, duplicates="keep"),
    "sums": lambda g: Adjacency.from_coo(**g.twice, **SIZES, duplicates="sum"),
    "nothing to sum": lambda g: Adjacency.from_coo(**g.once, **SIZES, duplicates="sum"),
    "no edges": lambda g: Adjacency.from_coo(target=g.target[:0], source=g.source[:0], **SIZES),
    "graph": lambda g: Graph.from_edge_index(torch.stack([g.source, g.target]), num_nodes=4, directed=True),
    "hypergraph": lambda g: Hypergraph.from_coo(
        node=g.source, hyperedge=g.target, hyperedge_weight=g.weight, node_weight=g.ends_weight, **PAIRS
    ),
    "triples": lambda g: KnowledgeGraph.from_triples(**g.triples, **TRIPLES, node_type=g.types, type_names=["a", "b"]),
    "parallel triples": lambda g: KnowledgeGraph.from_triples(**g.repeated, **TRIPLES, duplicates="keep"),
    "triples once": lambda g: KnowledgeGraph.from_triples(**g.repeated, **TRIPLES, duplicates="drop"),
    "coalesce": lambda g: prepare.coalesce(**g.twice, **SIZES),
}
NO_WAIT = {
    "trusted": lambda g: Adjacency.trusted(indptr=g.ends, indices=g.source, num_sources=5),
    "from_pairs": lambda g: prepare.from_pairs(**g.once, **SIZES),
    "invert": lambda g: prepare.invert(g.ends, g.source, 5),
    "top_sources": lambda g: prepare.top_sources(g.score, 2),
}
CASES = [*((name, make, 1) for name, make in ONE_WAIT.items()), *((name, make, 0) for name, make in NO_WAIT.items())]


@pytest.mark.parametrize(("make", "count"), [pytest.param(make, count, id=name) for name, make, count in CASES])
def test_at_most_one_wait_per_construction(make, count) -> None:
    given = Given("cpu")
    with Waits() as seen:
        make(given)
    assert seen.count == count


@pytest.mark.gpu
@pytest.mark.parametrize(("make", "count"), [pytest.param(make, count, id=name) for name, make, count in CASES])
def test_as_torch_counts_them(make, count) -> None:
    given = Given("cuda")
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            make(given)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert sum("synchroniz" in str(warning.message) for warning in seen) == count


def test_the_counter_counts_waits() -> None:
    x = torch.tensor([1, 2])
    for read in (x.tolist, lambda: bool(x[0]), lambda: x[x > 1], lambda: x.repeat_interleave(x), x.unique):
        with Waits() as seen:
            read()
        assert seen.count == 1


def test_the_first_failing_check_is_named() -> None:
    checks = Checks()
    checks.in_range("a", torch.tensor([0, 1]), 2, "ids")
    checks.in_range("b", torch.tensor([0, 5, -1]), 2, "ids")
    checks.no_nan("c", torch.tensor([float("nan")]))
    with pytest.raises(ArgumentError, match="b: expected ids in 0 .. 1, got 5 at position 1"):
        checks.read()
    assert Checks().read() == []
    assert Checks().read(torch.tensor(3), torch.tensor(True)) == [3, 1]
