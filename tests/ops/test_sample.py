"""`sample_neighbors`: which edges, with which probability, and equal results for all backends and thread counts."""

from __future__ import annotations

import pytest
import torch

from hgraph import Adjacency, backend, errors
from hgraph.ops import sample_neighbors
from hgraph.ops.random import bits, draw_seed
from hgraph.testing import degenerate_adjacencies, random_adjacency

STRUCTURES = degenerate_adjacencies()


def seeded(adj: Adjacency, targets: torch.Tensor, fanout: int, seed: int = 0) -> tuple[Adjacency, torch.Tensor]:
    return sample_neighbors(adj, targets, fanout, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fanout", [1, 3, 200])
@pytest.mark.parametrize("name", STRUCTURES)
def test_each_target_selects_the_edges_with_the_smallest_numbers(name: str, fanout: int) -> None:
    adj = STRUCTURES[name].with_weight(torch.arange(float(STRUCTURES[name].num_edges)))
    targets = torch.cat([torch.arange(adj.num_targets).flip(0), torch.arange(min(adj.num_targets, 2))])
    sampled, edges = seeded(adj, targets, fanout)
    seed = draw_seed(torch.Generator().manual_seed(0), adj.device)
    number = bits(seed, torch.arange(adj.num_edges)).tolist()
    wanted = []
    for t in targets.tolist():
        own = range(int(adj.indptr[t]), int(adj.indptr[t + 1]))
        wanted.append(sorted(sorted(own, key=lambda e: (number[e], e))[:fanout]))
    assert edges.tolist() == [e for row in wanted for e in row]
    assert sampled.indptr.diff().tolist() == [len(row) for row in wanted]
    assert torch.equal(sampled.indices, adj.indices[edges])
    assert torch.equal(sampled.weight, edges.float())
    assert sampled.shape == (len(targets), adj.num_sources)


def test_every_edge_is_as_likely_and_draws_are_fresh() -> None:
    adj = Adjacency.from_coo(target=[0] * 10, source=range(10), num_targets=1, num_sources=10)
    generator, times = torch.Generator().manual_seed(0), torch.zeros(10)
    for _ in range(2000):
        _, edges = sample_neighbors(adj, torch.tensor([0]), 3, generator=generator)
        times[edges] += 1
    assert float((times / 2000 - 0.3).abs().max()) < 5 * (0.3 * 0.7 / 2000) ** 0.5


def test_a_larger_fanout_only_adds() -> None:
    adj, targets = STRUCTURES["hub"], torch.arange(11)
    few, many = (set(seeded(adj, targets, fanout)[1].tolist()) for fanout in (4, 9))
    assert few < many


def test_threads_and_native_kernels_draw_the_same(native_present: None, threads: None) -> None:
    adj, targets = random_adjacency(300, 200, 9000), torch.randperm(300)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(seeded(adj, targets, 5)[1])
    with backend("torch"):
        found.append(seeded(adj, targets, 5)[1])
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize(
    ("targets", "fanout", "match"),
    [
        (torch.tensor([0]), 0, "fanout: expected a whole number, 1 or more, got 0"),
        (torch.tensor([17]), 2, r"targets: expected rows in 0 \.\. 16, got 17"),
        (torch.tensor([[0]]), 2, "targets: expected shape"),
    ],
)
def test_wrong_arguments_are_named(targets: torch.Tensor, fanout: int, match: str) -> None:
    with pytest.raises(errors.ArgumentError, match=match):
        sample_neighbors(STRUCTURES["odd"], targets, fanout)
    with pytest.raises(errors.ArgumentTypeError, match="targets: expected an integer tensor"):
        sample_neighbors(STRUCTURES["odd"], torch.tensor([0.5]), 1)
