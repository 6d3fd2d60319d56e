"""Labeled graphs and sets of graphs: numbers of the published descriptions that are not on the cards."""

from __future__ import annotations

import pytest
import torch

from hgraph.data import collate

# undirected edges without self-loops, self-loops, labels per node
PRONE = {
    "ppi": (37_845, 894, 1.707),
    "wikipedia": (92_295, 222, 1.417),
    "cornell": (283, 3, 1),
    "texas": (280, 18, 1),
    "wisconsin": (459, 20, 1),
    "washington": (366, 51, 1),
}
# class sizes, test ids of the ten folds
FOLDED = {
    "mutag": ([63, 125], 180),
    "ptc": ([192, 152], 340),
    "proteins": ([663, 450], 1110),
    "imdb-binary": ([500, 500], 1000),
    "imdb-multi": ([500, 500, 500], 1500),
    "nci1": ([2053, 2057], 4110),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) if name in ("nci1", "imdb-multi") else name for name in FOLDED]


@pytest.mark.parametrize("name", PRONE)
def test_edges_loops_and_labels(name, load_set):
    data, (edges, loops, labels) = load_set(name)[0], PRONE[name]
    source, target = data.structure.edge_index
    assert int((source == target).sum()) == loops
    assert int((source < target).sum()) == edges
    assert not data.structure.directed
    if data.y.dim() == 2:
        assert float(data.y.sum(1).double().mean()) == pytest.approx(labels, abs=5e-4)
    else:
        assert int(data.y.min()) == 0
    without = load_set(name, self_loops=False)[0].structure
    assert without.num_edges == 2 * edges


@pytest.mark.parametrize("name", SLOW)
def test_classes_and_folds(name, load_set):
    found, (classes, tested) = load_set(name), FOLDED[name]
    y = torch.stack([data.y for data in found])
    assert y.bincount().tolist() == classes
    folds = [found.split(f"fold-{i}") for i in range(1, 11)]
    for fold in folds:
        assert len(fold.val) == 0
        assert torch.equal(torch.cat([fold.train, fold.test]).sort().values, torch.arange(len(found)))
    tests = torch.cat([fold.test for fold in folds])
    assert len(tests.unique()) == len(tests) == tested
    default = found.split()
    assert len(default.train) + len(default.val) + len(default.test) == len(found)


def test_graphs_are_symmetric_without_loops_and_tags_are_one_hot(load_set):
    found = load_set("mutag")
    for data in found:
        source, target = data.structure.edge_index
        assert not data.structure.directed
        assert not bool((source == target).any())
        assert data.x.sum(1).tolist() == [1.0] * data.num_nodes
    assert found[0].meta["tags"] == tuple(range(7))
    assert load_set("ptc")[0].meta["tags"][0] == 1


def test_the_first_compound_of_the_file(load_set, mirror, tmp_path):
    from hgraph.datasets.download import fetch_listed

    lines = fetch_listed("graphs_dgcnn", "MUTAG/MUTAG.txt", tmp_path).read_text().splitlines()
    rows = [[int(n) for n in line.split()] for line in lines[2:25]]
    data = load_set("mutag")[0]
    assert lines[1].split() == [str(data.num_nodes), data.meta["class_names"][data.y]]
    for node, row in enumerate(rows):
        assert data.meta["tags"][int(data.x[node].argmax())] == row[0]
        assert data.structure.edge_index[0][data.structure.edge_index[1] == node].tolist() == sorted(row[2:])


def test_actors_have_their_degree(load_set):
    data = load_set("imdb-binary")[3]
    torch.testing.assert_close(data.x[:, 0].expm1(), data.structure.degree().float())


def test_enzymes(load_set, mirror, tmp_path):
    found = load_set("enzymes")
    assert torch.stack([data.y for data in found]).bincount().tolist() == [100] * 6
    assert int(found[0].y) == 5
    kinds = sum(data.x[:, 18:].sum(0) for data in found)
    assert kinds.tolist() == [9457, 9665, 458]
    assert sum(int((data.structure.degree() == 0).sum()) for data in found) == 106
    whole = collate(list(found.select(range(3))))
    assert whole.y.tolist() == [5, 5, 5]
    assert whole.num_targets == 3
    torch.testing.assert_close(found[0].x[0, :4], torch.tensor([11.0, 15.887014, 37.78, -0.51]))
