"""Training on batches of graphs: what is learned, scored, resumed and refused."""

import dataclasses

import pytest
import torch

from hgraph.data import Data, Parts
from hgraph.errors import ArgumentError
from hgraph.models import GraphClassifier, Stack
from hgraph.structure import Graph, Hypergraph
from hgraph.testing import random_graph
from hgraph.train import TrainingError, fit_graphs, graph_labels, graph_outputs, seeded

NONE = torch.empty(0, dtype=torch.long)


def cycles(count=24, kind="classification"):
    """Two triangles or a hexagon, in which every node has two neighbors and a random sign."""
    made, found = torch.Generator().manual_seed(0), []
    triangles, hexagon = ([0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]), ([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0])
    for i in range(count):
        graph = Graph.from_edge_index(triangles if i % 2 else hexagon, num_nodes=6, directed=False)
        x = torch.randn(6, 2, generator=made)
        x = torch.cat([x, x + (i % 2)], 1)
        y = {"classification": torch.tensor(i % 2), "regression": torch.tensor([float(i % 2)])}[kind]
        found.append(Data(graph, x, y, target="graph"))
    return found


def network(classes=2, **options):
    with seeded(0):
        return GraphClassifier(Stack("GINConv", 4, 8, classes, jump="cat", dropout=0.0, **options))


def parts(count=24):
    ids = torch.arange(count)
    return Parts(ids[: count // 2], ids[count // 2 : -4], ids[-4:])


def test_graphs_are_learned():
    examples, model = cycles(), network()
    fit = fit_graphs(model, examples, parts(), epochs=40, batch=5, progress=False)
    assert fit.best["validation"] >= 0.85
    assert fit.history[-1]["loss"] < 0.5 * fit.history[0]["loss"]
    right = graph_outputs(model, examples, parts().test).argmax(1) == graph_labels(examples)[parts().test]
    assert right.float().mean() >= 0.75
    assert not model.training


def test_numbers_are_learned():
    examples, model = cycles(kind="regression"), network(1)
    fit = fit_graphs(model, examples, parts(), epochs=30, batch=6, progress=False)
    assert -fit.best["validation"] < 0.35  # the mean absolute error; the training mean has 0.5


def test_hypergraphs_are_learned():
    examples = []
    for i in range(16):
        members = [[0, 1, 2], [3, 4, 5]] if i % 2 else [[0, 1], [2, 3], [4, 5]]
        examples.append(
            Data(Hypergraph.from_lists(members, num_nodes=6), torch.ones(6, 4), torch.tensor(i % 2), target="graph")
        )
    with seeded(0):
        model = GraphClassifier(Stack("UniGINConv", 4, 8, 2, dropout=0.0))
    fit = fit_graphs(model, examples, Parts(torch.arange(16), NONE, NONE), epochs=30, progress=False)
    assert len(fit.history) == 30


def test_a_batch_gives_what_its_examples_give_one_by_one():
    examples, model = cycles(9), network().eval()
    each = torch.cat([model(data.x, data.structure) for data in examples])
    torch.testing.assert_close(graph_outputs(model, examples), each)
    torch.testing.assert_close(graph_outputs(model, examples, torch.tensor([3, 1])), each[[3, 1]])


def test_a_stopped_training_ends_as_one_that_was_not(tmp_path):
    options = {"batch": 5, "progress": False, "save_every": 1}
    whole, cut = network(norm="batch"), network(norm="batch")
    expected = fit_graphs(whole, cycles(), parts(), epochs=6, **options)
    fit_graphs(cut, cycles(), parts(), epochs=3, checkpoint=tmp_path / "c", **options)
    found = fit_graphs(cut, cycles(), parts(), epochs=6, checkpoint=tmp_path / "c", **options)
    assert found.history == expected.history
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), cut.state_dict().values(), strict=True))


def test_unlabeled_examples_are_not_trained_on():
    examples = cycles()
    hidden = [dataclasses.replace(d, y=torch.tensor(-1)) if i == 0 else d for i, d in enumerate(examples)]
    without = Parts(parts().train[1:], parts().val, parts().test)
    a, b = network(), network()
    assert fit_graphs(a, hidden, parts(), epochs=2, progress=False).history == fit_graphs(
        b, hidden, without, epochs=2, progress=False).history  # fmt: skip


def test_the_schedule_is_applied():
    frozen, start = network(), network().state_dict()
    fit_graphs(frozen, cycles(), parts(), epochs=2, schedule=lambda epoch, epochs: 0.0, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(frozen.state_dict().values(), start.values(), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs"), ({"batch": 0}, "batch"), ({"lr": float("nan")}, "lr"),
        ({"patience": 0}, "patience"),
        ({"eval_every": 0}, "eval_every"), ({"save_every": 0}, "save_every"), ({"weight_decay": -1.0}, "weight_decay"),
        ({"parts": Parts(NONE, NONE, NONE)}, "at least one training example"),
        ({"examples": []}, "graphs with one label each, got none"),
        ({"examples": [Data(random_graph(4, 6), torch.ones(4, 4), torch.zeros(4).long())]}, "labels of a node"),
    ],
)  # fmt: skip
def test_errors(options, message):
    given = {"examples": cycles(), "parts": parts(), "progress": False} | options
    with pytest.raises(ArgumentError, match=message):
        fit_graphs(network(), given.pop("examples"), given.pop("parts"), **given)


def test_a_training_that_diverges_says_so():
    with pytest.raises(TrainingError, match="smaller lr"):
        fit_graphs(network(), cycles(), parts(), epochs=30, lr=1e30, progress=False)


def test_a_checkpoint_is_of_one_set_and_split(tmp_path):
    options = {"batch": 5, "progress": False, "checkpoint": tmp_path / "c"}
    fit_graphs(network(), cycles(), parts(), epochs=2, **options)
    for examples, own in ((cycles()[1:] + cycles()[:1], parts()), (cycles(), Parts(parts().val, parts().train, NONE))):
        with pytest.raises(ArgumentError, match="data: expected"):
            fit_graphs(network(), examples, own, epochs=3, **options)


def test_batch_norm_of_single_nodes():
    """A graph of one node that is left over joins the batch before; alone it is refused by name."""
    examples = [Data(random_graph(1, 0), torch.ones(1, 4) * i, torch.tensor(i % 2), target="graph") for i in range(5)]
    ids = Parts(torch.arange(5), NONE, NONE)
    assert len(fit_graphs(network(norm="batch"), examples, ids, epochs=1, batch=2, progress=False).history) == 1
    with pytest.raises(ArgumentError, match="at least two nodes in training"):
        fit_graphs(network(norm="batch"), examples, ids, epochs=1, batch=1, progress=False)


def test_ids_out_of_range():
    with pytest.raises(ArgumentError, match="examples in 0 .. 3, got 77"):
        graph_outputs(network(), cycles(4), [77])
