"""Common behavior of all structures: cached values, moves, torch.compile, export and data loaders."""

import copy
import gc
import io
import multiprocessing
import pickle
import weakref

import pytest
import torch
from torch.utils.data import DataLoader

from hgraph import Adjacency, Data, Graph, Hypergraph, SoftAdjacency, SoftHypergraph, cache, collate, patterns
from hgraph.cache import cached
from hgraph.errors import ArgumentError
from hgraph.testing import degenerate_adjacencies, random_adjacency, random_graph, random_hypergraph

DEGENERATE = degenerate_adjacencies()


def nouns():
    return {
        "adjacency": random_adjacency(4, 5, 9, weighted=True),
        "graph": random_graph(5, 9, weighted=True),
        "hypergraph": random_hypergraph(6, 4, 12, weighted=True),
        "soft": SoftAdjacency.from_weight(torch.rand(3, 4)),
        "masked soft": SoftAdjacency.from_weight(torch.rand(3, 4), mask=torch.rand(3, 4) > 0.5),
        "soft hypergraph": SoftHypergraph.from_participation(torch.rand(2, 5, 3)).select(
            torch.tensor([[0, 2], [1, 1]])
        ),
        "tokens": patterns.dilated(9, 3, 2) | patterns.sinks(9, 1),
        "tiles": (patterns.causal(40) | patterns.global_tokens(40, [0])).tiles(2),
    }


# ---------------------------------------------------------------------- cached values


class Counter:
    """A value that counts how often it was computed."""

    def __init__(self, value=None):
        self.count, self.value = 0, value

    def __call__(self):
        self.count += 1
        return torch.tensor(self.count) if self.value is None else self.value()


def test_cached_computes_once_per_structure_and_key():
    adj, compute = random_adjacency(4, 5, 9), Counter()
    assert cached(adj, "a", compute) is cached(adj, "a", compute)
    assert compute.count == 1
    cached(adj, "b", compute)
    cached(random_adjacency(4, 5, 9), "a", compute)
    assert compute.count == 3


def test_cached_notices_writes_in_place():
    adj, compute = random_adjacency(4, 5, 9, weighted=True), Counter()
    hg = Hypergraph(adj)
    cached(hg, "a", compute)
    adj.weight.mul_(2)
    cached(hg, "a", compute)
    cached(hg, "a", compute)
    assert compute.count == 2


def test_values_with_gradients_are_not_cached():
    adj, compute = random_adjacency(4, 5, 9, weighted=True), Counter()
    learned = adj.with_weight(adj.weight.clone().requires_grad_())
    for _ in range(3):
        cached(learned, "a", compute)
    assert compute.count == 3
    assert learned not in cache._BY_STRUCTURE


def test_values_under_function_transforms_are_not_cached():
    adj, compute = random_adjacency(4, 5, 9), Counter()

    def f(x):
        cached(adj, "a", compute)
        return x.sum()

    torch.func.grad(f)(torch.ones(2))
    assert compute.count == 1
    assert adj not in cache._BY_STRUCTURE


def test_values_cached_in_inference_mode_work_in_training():
    adj = random_adjacency(4, 5, 9)
    with torch.inference_mode():
        value = cached(adj, "norm", lambda: adj.normalize("row").weight)
    assert not value.is_inference()
    (value * torch.ones(9, requires_grad=True)).sum().backward()


def test_the_cache_is_deleted_with_the_structure():
    adj = random_adjacency(4, 5, 9)
    reference = weakref.ref(cached(adj, "a", lambda: torch.ones(3)))
    assert reference() is not None
    gc.collect()  # objects of other tests
    before = len(cache._BY_STRUCTURE)
    del adj
    gc.collect()
    assert reference() is None
    assert len(cache._BY_STRUCTURE) == before - 1


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_cached_values_are_not_copied(again):
    adj, compute = random_adjacency(4, 5, 9), Counter()
    size = len(pickle.dumps(adj))
    cached(adj, "a", lambda: torch.zeros(10_000))
    assert len(pickle.dumps(adj)) == size
    cached(again(adj), "a", compute)
    assert compute.count == 1


def test_cached_values_are_not_stale_after_a_move():
    adj = random_adjacency(4, 5, 9)
    assert cached(adj, "degree", adj.target_degree).device.type == "cpu"
    moved = adj.to("meta")
    assert cached(moved, "degree", moved.target_degree).device.type == "meta"


def test_the_cache_is_neither_read_nor_written_while_compiling():
    adj, warm = random_adjacency(4, 4, 9), random_adjacency(4, 4, 9)
    cached(warm, "a", lambda: torch.tensor(-1.0))
    seen = []

    @torch.compile(backend=lambda graph, _: seen.append(graph) or graph.forward, fullgraph=True)
    def f(structure, x):
        return x * cached(structure, "a", lambda: structure.indptr.sum() * 0 + 7.0)

    for structure in (adj, warm):
        assert f(structure, torch.tensor(2.0)) == 14
    assert len(seen) == 1
    assert adj not in cache._BY_STRUCTURE
    torch.compiler.reset()


# ---------------------------------------------------------------------- moves


@pytest.mark.parametrize("kind", nouns())
def test_to_moves_every_tensor(kind):
    structure = nouns()[kind]
    moved = structure.to("meta")
    assert type(moved) is type(structure)
    assert moved.device == torch.device("meta")
    assert [t.shape for t in moved.tensors()] == [t.shape for t in structure.tensors()]
    assert {t.device.type for t in moved.tensors()} == {"meta"}
    assert structure.device.type == "cpu"
    assert structure.to("cpu") is structure  # as `torch.Tensor.to`: its cached values are not recomputed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
@pytest.mark.parametrize("kind", nouns())
def test_pin_memory(kind):
    pinned = nouns()[kind].pin_memory()
    assert all(t.is_pinned() for t in pinned.tensors())
    assert pinned.equal(nouns()[kind])


# ---------------------------------------------------------------------- exported programs


class Degrees(torch.nn.Module):
    """A small program over a structure of any size."""

    def forward(self, adj: Adjacency, x: torch.Tensor) -> torch.Tensor:
        summed = x.new_zeros(adj.indptr.shape[0] - 1, x.shape[1]).index_add(0, adj.target, x[adj.indices])
        return summed + adj.indptr.diff()[:, None]


def exported():
    first = random_adjacency(4, 5, 9)
    auto = torch.export.Dim.AUTO
    # The leaves are the tensors of the structure, without integers or cached values.
    assert len(torch.utils._pytree.tree_leaves(first)) == len(first.tensors()) == 9
    dynamic = {"adj": [{0: auto}] * 9, "x": {0: auto}}
    return torch.export.export(Degrees(), (first, torch.rand(5, 3)), dynamic_shapes=dynamic)


def test_export_runs_on_other_sizes_and_from_a_file():
    program = exported()
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for ran in (program.module(), torch.export.load(file).module()):
        for t, s, e in ((4, 5, 9), (7, 3, 20), (6, 6, 11)):
            adj, x = random_adjacency(t, s, e, seed=1), torch.rand(s, 3)
            expected = adj.dense() @ x + adj.target_degree()[:, None]
            torch.testing.assert_close(ran(adj, x), expected)


@pytest.mark.parametrize("kind", nouns())
def test_structures_are_trees_and_load_safely(kind):
    structure = nouns()[kind]
    leaves, tree = torch.utils._pytree.tree_flatten(structure)
    assert torch.utils._pytree.tree_unflatten(leaves, tree).equal(structure)
    file = io.BytesIO()
    torch.save(structure, file)
    file.seek(0)
    assert torch.load(file, weights_only=True).equal(structure)


# ---------------------------------------------------------------------- loaders


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers_return_structures(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this platform")
    items = list(nouns().values())
    loader = DataLoader(items, batch_size=None, num_workers=1, multiprocessing_context=method)
    for got, sent in zip(loader, items, strict=True):
        assert type(got) is type(sent)
        assert got.equal(sent)


def example(seed):
    hg = random_hypergraph(3 + seed, 2 + seed, 6, seed=seed, weighted=seed % 2 == 1)
    x = torch.full((hg.num_nodes, 2), float(seed))
    return Data(hg, x, torch.full((hg.num_nodes,), seed), meta={"class_names": ["a", "b", "c"], "note": seed})


def test_collate_works_in_a_loader():
    loader = DataLoader([example(i) for i in range(5)], batch_size=2, collate_fn=collate, num_workers=1)
    batches = list(loader)
    assert [b.meta["num_items"] for b in batches] == [2, 2, 1]
    assert batches[1].meta["batch"].tolist() == [0] * 5 + [1] * 6
    assert batches[1].y.tolist() == [2] * 5 + [3] * 6
    assert batches[1].num_classes == 3
    assert batches[1].validate().structure.equal(collate([example(2).structure, example(3).structure]))


def test_collate_is_block_diagonal():
    items = [*DEGENERATE.values(), random_adjacency(3, 4, 7, weighted=True)]
    joined = collate(items)
    dense = [adj.dense().double() for adj in items]
    assert torch.equal(joined.dense().double(), torch.block_diag(*dense))
    assert joined.weight is not None
    assert collate(items[:-1]).weight is None
    values = torch.arange(float(sum(len(adj.input_order) for adj in items)))
    parts = values.split([len(adj.input_order) for adj in items])
    expected = torch.cat([adj.sort_edges(v) for adj, v in zip(items, parts, strict=True)])
    assert torch.equal(joined.sort_edges(values), expected)


def test_collate_of_sums_keeps_the_input_order():
    one = Adjacency.from_coo(target=[1, 0, 1], source=[0, 0, 0], num_targets=2, num_sources=1, duplicates="sum")
    two = collate([one, one])
    assert two.sort_edges(torch.tensor([1.0, 2, 3, 4, 5, 6])).tolist() == [2, 4, 5, 10]


def test_collate_hypergraphs_fills_missing_weights_with_ones():
    plain, heavy = random_hypergraph(3, 2, 5), random_hypergraph(4, 3, 7, weighted=True)
    joined = collate([plain, heavy])
    assert joined.hyperedge_weight.tolist() == [1, 1, *heavy.hyperedge_weight.tolist()]
    assert joined.node_weight.tolist() == [1, 1, 1, *heavy.node_weight.tolist()]
    assert torch.equal(joined.incidence(), torch.block_diag(plain.incidence(), heavy.incidence()))
    assert collate([plain, plain]).hyperedge_weight is None


def test_collate_one_label_per_example():
    data = [Data(random_graph(n, 4), torch.ones(n, 1), torch.tensor(float(n))) for n in (2, 3)]
    joined = collate(data)
    assert joined.y.tolist() == [2, 3]
    assert isinstance(joined.structure, Graph)
    assert "class_names" not in joined.meta


def test_collate_refuses():
    with pytest.raises(ArgumentError, match="items: expected at least one example, got none"):
        collate([])
    with pytest.raises(ArgumentError, match="items: expected .* all of one type, got Adjacency, Graph"):
        collate([random_graph(2, 1), random_graph(2, 1).adj])
    with pytest.raises(ArgumentError, match="got SoftAdjacency"):
        collate([nouns()["soft"]])
