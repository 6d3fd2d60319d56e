"""Targets that `y` can describe, and data sets of examples with splits."""

import pytest
import torch

from hgraph import Data, Dataset, Graph, Hypergraph, Split, collate
from hgraph.data import Parts
from hgraph.errors import ArgumentError, DataError

HG = Hypergraph.from_lists([[0, 1], [1, 2, 3], [3]], num_nodes=5)
G = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=5, directed=False)


@pytest.mark.parametrize(
    ("structure", "target", "rows"), [(HG, "node", 5), (HG, "hyperedge", 3), (G, "node", 5), (G, "edge", 4)]
)
def test_one_row_of_y_per_target(structure, target, rows):
    x, y = torch.ones(5, 1), torch.arange(rows)
    data = Data(structure, x, y, target=target)
    assert data.validate().num_targets == rows
    assert data.num_classes == rows
    for wrong in (torch.arange(rows + 1), torch.tensor(1)):
        with pytest.raises(ArgumentError, match=f"y: expected {rows} rows .one per {target}."):
            Data(structure, x, wrong, target=target).validate()


@pytest.mark.parametrize(("structure", "target"), [(HG, "edge"), (G, "hyperedge")])
def test_targets_that_a_structure_does_not_have(structure, target):
    with pytest.raises(ArgumentError, match="target: expected a target of a"):
        Data(structure, torch.ones(5, 1), torch.arange(5), target=target).validate()


def test_several_labels_per_node():
    assert Data(HG, torch.ones(5, 1), torch.zeros(5, 7, dtype=torch.bool)).validate().num_classes == 7


def test_labels_of_whole_graphs_are_stacked():
    items = [Data(HG, torch.ones(5, 1), torch.tensor(label), target="graph").validate() for label in (2, 0)]
    both = collate(items).validate()
    assert (both.y.tolist(), both.num_targets, both.num_classes, both.target) == ([2, 0], 2, 3, "graph")
    many = collate([Data(G, torch.ones(5, 1), torch.tensor([True, False]), target="graph").validate()] * 3).validate()
    assert many.y.shape == (3, 2)
    assert many.num_classes == 2
    with pytest.raises(ArgumentError, match="the same target, got graph, node"):
        collate([items[0], Data(HG, torch.ones(5, 1), torch.arange(5))])


def test_splits_of_hyperedges_name_hyperedges():
    ids = torch.arange(3)
    data = Data(HG, torch.ones(5, 1), ids, {"default": Split(HG, ids[:1], ids[1:2], ids[2:])}, target="hyperedge")
    data.validate()
    beyond = Split(HG, ids[:1], ids[1:2], torch.tensor([3]))
    with pytest.raises(DataError, match=r"ids must be in 0 \.\. 2"):
        beyond.validate(data)


def dataset(splits=None):
    card = {"task": "t", "target_spec": {}, "license": "CC0", "redistribute": True, "citation": "c"}
    return Dataset("letters", "abcde", splits=splits, **card)


def test_parts_of_a_dataset():
    parts = Parts(torch.tensor([4, 0]), torch.tensor([1]), torch.tensor([2]))
    found = dataset({"fold-1": parts})
    chosen = found.select(found.split("fold-1").train)
    assert (list(chosen), chosen[-1], chosen.task, chosen.splits) == (["e", "a"], "a", "t", {})
    assert list(found.select([-1])) == ["e"]
    with pytest.raises(ArgumentError, match=r"split: expected one of \['fold-1'\], got 'default'"):
        found.split()
    with pytest.raises(ArgumentError, match=r"numbers: expected examples in 0 \.\. 4, got 5"):
        found.select([1, 5])


@pytest.mark.parametrize("parts", [([0], [0], [1]), ([0, 0], [1], [2]), ([0], [1], [5]), ([-1], [1], [2])], ids=str)
def test_parts_that_overlap_or_are_out_of_range(parts):
    with pytest.raises(DataError, match="split: "):
        dataset({"bad": Parts(*map(torch.tensor, parts))})
