"""Numbers that fit no memory: an error before anything is taken, and a bound that can be set."""

from __future__ import annotations

import pytest
import torch

from hgraph import Adjacency, Graph, Hypergraph, KnowledgeGraph, builders, errors, memory, patterns, train
from hgraph.data import Data
from hgraph.errors import ArgumentError
from hgraph.nn import GCNConv, SelfAttention

B = 10**12


def data():
    return Data(Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False), torch.eye(2), torch.tensor([0, 1]))


def hub():
    return Hypergraph.from_lists([range(60_000)], num_nodes=60_000)


TOO_MUCH = {
    "adj": lambda: Adjacency.from_coo(target=[0], source=[0], num_targets=B, num_sources=2),
    "adj2": lambda: Adjacency.from_coo(target=[0], source=[0], num_targets=2, num_sources=B),
    "adj62": lambda: Adjacency.from_coo(target=[2**62], source=[0], num_targets=2**62 + 1, num_sources=2),
    "graph": lambda: Graph.from_edge_index([[0], [1]], num_nodes=B, directed=False),
    "hg": lambda: Hypergraph.from_lists([[0, 1]], num_nodes=B),
    "hgcoo": lambda: Hypergraph.from_coo(node=[0], hyperedge=[0], num_nodes=2, num_hyperedges=B),
    "kg": lambda: KnowledgeGraph.from_triples(head=[0], relation=[0], tail=[1], num_nodes=2, num_relations=B),
    "kgn": lambda: KnowledgeGraph.from_triples(head=[0], relation=[0], tail=[1], num_nodes=B, num_relations=2),
    "eye": lambda: Adjacency.eye(B),
    "full": lambda: patterns.full(B),
    "causal": lambda: patterns.causal(B),
    "window": lambda: patterns.sliding_window(B, 3),
    "window2": lambda: patterns.sliding_window((10**6, 10**6), 3),
    "dilated": lambda: patterns.dilated(B, 3, 2),
    "strided": lambda: patterns.strided(B, 2),
    "power": lambda: patterns.power(B),
    "sinks": lambda: patterns.sinks(B, 2),
    "blocklocal": lambda: patterns.block_local(B, 16),
    "random": lambda: patterns.random(10**6, 10**6, seed=0),
    "random2": lambda: patterns.random(B, 2, seed=0),
    "axial": lambda: patterns.axial((10**6, 10**6), 0),
    "none": lambda: patterns.none(B),
    "padded": lambda: patterns.padded(B, [2]),
    "packed": lambda: patterns.packed([B]),
    "clique": lambda: hub().clique(),
    "dense": lambda: Adjacency.from_coo(target=[0], source=[0], num_targets=10**6, num_sources=10**7).dense(),
    "er": lambda: builders.erdos_renyi_graph(10**6, 0.5),
    "er2": lambda: builders.erdos_renyi_graph(B, 1e-12),
    "ug": lambda: builders.uniform_graph(10**6, 10**11),
    "uh": lambda: builders.uniform_hypergraph(10**6, B, 3),
    "model": lambda: train.build_model("gcn", data(), seed=0, hidden_size=B),
    "conv": lambda: GCNConv(B, 3),
    "conv2": lambda: GCNConv(2**62, 2**3),
    "attn": lambda: SelfAttention(10**9, 1),
    "line": lambda: hub().dual().line(),
    "tiles": lambda: patterns.causal(10**6).tiles(1),
}


@pytest.fixture(autouse=True)
def bound(monkeypatch):
    """A gibibyte, so that a wrong estimate takes no more of the machine than a test may."""
    monkeypatch.setenv("HGRAPH_MAX_BYTES", str(2**30))


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_fits_no_memory_is_refused_before_it_is_taken(name):
    with pytest.raises(
        ArgumentError, match=r"expected (a size that fits into 1 GiB of memory|fewer than 2\*\*63)"
    ) as caught:
        TOO_MUCH[name]()
    assert "GiB" in str(caught.value) or "2**63" in str(caught.value)


SEEDS = {
    "build_model": lambda seed: train.build_model("gcn", data(), seed=seed),
    "builders": lambda seed: builders.erdos_renyi_graph(5, 0.5, seed=seed),
    "patterns": lambda seed: patterns.random(5, 2, seed=seed),
    "seeded": lambda seed: train.seeded(seed).__enter__(),
}


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, None, "0"])
@pytest.mark.parametrize("name", SEEDS)
def test_seeds_of_more_than_64_bits_are_refused(name, seed):
    with pytest.raises(errors.HgraphError, match="seed: expected 0 .. 18446744073709551615"):
        SEEDS[name](seed)


def test_the_bound_can_be_raised_and_must_be_a_number(monkeypatch):
    monkeypatch.setenv("HGRAPH_MAX_BYTES", "1e15")
    memory.check_memory("x", 10**14, "much")
    monkeypatch.setenv("HGRAPH_MAX_BYTES", "plenty")
    with pytest.raises(ArgumentError, match="HGRAPH_MAX_BYTES: expected a number of bytes, got 'plenty'"):
        memory.check_memory("x", 10**14, "much")


VERSIONS = {
    "version 2": ("0::/{}\n", "", ("memory.max", "memory.current"), "inactive_file 100\nactive_file 50\nanon 250\n"),
    "version 1": ("4:cpu,memory:/{}\n0::/\n", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"),
                  "cache 7\ntotal_inactive_file 100\ntotal_active_file 50\n"),
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_the_smallest_of_all_bounds_counts(version, monkeypatch, tmp_path):
    own, folder, names, stat = VERSIONS[version]
    monkeypatch.delenv("HGRAPH_MAX_BYTES", raising=False)
    monkeypatch.setattr(memory, "_MOUNTS", str(tmp_path / "mounts"))
    monkeypatch.setattr(memory, "_OWN_GROUPS", str(tmp_path / "own"))
    system = memory._system()
    root = tmp_path / "mounts" / folder
    inner = root / "a" / "b"
    inner.mkdir(parents=True)

    def group(place, limit, used):
        for name, value in zip(names, (limit, used), strict=True):
            (place / name).write_text(f"{value}\n", encoding="ascii")

    group(root, 1000, 400)  # /proc/self/cgroup is missing: the root of a container
    assert memory.available_bytes() == 600
    (root / "memory.stat").write_text(stat, encoding="ascii")  # the page cache is free
    assert memory.available_bytes() == 750
    (tmp_path / "own").write_text(own.format("a/b"), encoding="ascii")
    group(inner, 700, 300)  # the own group, below the root
    assert memory.available_bytes() == 400
    group(inner.parent, 500, 300)  # one between them
    assert memory.available_bytes() == 200
    group(inner, "max", 300)
    group(inner.parent, 100, 300)
    assert memory.available_bytes() == 0
    for damaged in ("", "nonsense\n", "0::/../../etc\n", "\0:::"):
        (tmp_path / "own").write_text(damaged, encoding="ascii")
        assert memory.available_bytes() == 750
    group(root, "max", 400)
    assert memory.available_bytes() == system or system is None or memory.available_bytes() > 2**20
