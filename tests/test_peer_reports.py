"""Public bug reports of other libraries, each tried here; CHECKS.md lists them with the outcome."""

from __future__ import annotations

import pytest
import torch

from hgraph import Graph, HyperedgeSplit, Hypergraph, Interactions, KnowledgeGraph, LinkSplit, TripleSplit, propagate
from hgraph.convert import read_triples
from hgraph.data import Data, collate
from hgraph.errors import ArgumentError
from hgraph.models import DistMult
from hgraph.nn import GATConv, GCNConv, HGNNConv
from hgraph.train import PairSampler, triple_ranking


def pairs_of(index):
    """The pairs of [2, K], smaller node first."""
    return {tuple(sorted(pair)) for pair in index.T.tolist()}


# ---------------------------------------------------------------------- splits


@pytest.mark.reported(
    "pyg-team/pytorch_geometric #10706",
    "Negatives of an undirected graph appear as (a, b) in validation and as (b, a) in test.",
    "No pair is used twice as a negative, in either direction.",
)
def test_negatives_of_validation_and_test_are_different_pairs():
    path = Graph.from_edge_index([[0, 1, 2], [1, 2, 3]], num_nodes=4, directed=False)
    for seed in range(8):
        split = LinkSplit.random(path, val_fraction=1 / 3, test_fraction=1 / 3, seed=seed)
        assert not pairs_of(split.val_negatives) & pairs_of(split.test_negatives)
        split.validate(path)


@pytest.mark.reported(
    "pyg-team/pytorch_geometric #9425",
    "In a bipartite undirected graph, the reverse of a held-out edge is among the training edges.",
    "Both directions of an edge stay in the same part; `node_type=` draws negatives between the two sides.",
)
def test_no_direction_of_a_held_out_link_is_trained_on():
    index = torch.tensor([[0, 0, 1, 1, 2, 2, 3], [4, 5, 5, 6, 6, 7, 7]])
    graph = Graph.from_edge_index(index, num_nodes=8, directed=False)
    split = LinkSplit.random(graph, node_type=torch.arange(8) // 4, val_fraction=0.2, test_fraction=0.3)
    held = pairs_of(split.val) | pairs_of(split.test)
    assert len(held) == 3
    assert not held & pairs_of(split.structure.edge_index)
    assert not held & pairs_of(split.train)


@pytest.mark.reported(
    "pyg-team/pytorch_geometric #5581",
    "A dense graph gets too few negatives or none, without an error.",
    "Too few pairs without an edge are an error; if there are just enough, all are found.",
)
def test_dense_graphs_get_every_negative_or_an_error():
    every = torch.combinations(torch.arange(5)).T
    with pytest.raises(ArgumentError, match="at least 2 pairs without an edge"):
        LinkSplit.random(Graph.from_edge_index(every, num_nodes=5, directed=False), val_fraction=0.1, test_fraction=0.1)
    graph = Graph.from_edge_index(every[:, 2:], num_nodes=5, directed=False)
    split = LinkSplit.random(graph, val_fraction=0.125, test_fraction=0.125)
    assert pairs_of(split.val_negatives) | pairs_of(split.test_negatives) == pairs_of(every[:, :2])


@pytest.mark.reported(
    "Coco-Hut/DHG-Bench #5",
    "The hypergraph that the encoder sees contains the hyperedges that it should predict.",
    "The training hypergraph contains none of them, even under another id; `validate` verifies this.",
)
def test_held_out_hyperedges_are_not_in_the_training_structure():
    hg = Hypergraph.from_lists([[0, 1], [1, 2], [0, 1], [3, 4], [2, 3, 4], [0, 4]], num_nodes=5)
    split = HyperedgeSplit.random(hg, val_fraction=0.2, test_fraction=0.3)
    split.validate(hg)
    held = {tuple(hg.to_lists()[e]) for e in torch.cat([split.val, split.test]).tolist()}
    assert held
    assert not held & {tuple(e) for e in split.structure.to_lists()}


# ---------------------------------------------------------------------- facts


@pytest.mark.reported(
    "pykeen/pykeen #397",
    "Filtered ranking counts true triples of the validation part as wrong answers: MRR 0.66 instead of 0.80.",
    "`TripleSplit.known` returns the triples of all three parts, and filtered ranking leaves out all of them.",
)
def test_filtered_ranks_leave_out_facts_of_all_parts():
    facts = torch.tensor([[0, 0, 1], [0, 0, 2], [0, 0, 3]])
    split = TripleSplit.of_triples(list(facts.split(1)), num_nodes=4, num_relations=1)
    model = DistMult(4, 1, dim=1)
    with torch.no_grad():
        model.entity.copy_(torch.tensor([[1.0], [4.0], [3.0], [2.0]]))
        for name, parameter in model.named_parameters():
            if "relation" in name:
                parameter.fill_(1.0)
    # nodes 1 and 2 are scored above node 3 as its tail, and are true: of training and of validation
    ranks = triple_ranking(model, split.test.triples, split.known())
    without = triple_ranking(model, split.test.triples, split.train.triples)
    assert ranks["mrr"] > without["mrr"]
    assert split.known().tolist() == facts.tolist()


@pytest.mark.reported(
    "pykeen/pykeen #531",
    "The same triples get different scores if files are read differently: every read assigns new ids to names.",
    "Files that are read together share one set of ids; parts with different names or ids are an error.",
)
def test_one_reading_gives_one_numbering(tmp_path):
    for name, text in (("train", "a\tr\tb\nb\tr\tc\n"), ("new", "c\tr\ta\n")):
        (tmp_path / name).write_text(text)
    one, two = read_triples([tmp_path / "train", tmp_path / "new"])
    assert (one.node("c"), two.node("c")) == (2, 2)
    with pytest.raises(ArgumentError, match="parts with the same node and relation ids"):
        TripleSplit(*(read_triples(tmp_path / name) for name in ("train", "new", "new")))


@pytest.mark.reported(
    "pykeen/pykeen #854, #21",
    "After a random split, some entities or a relation occur only in the test part.",
    "`TripleSplit.unseen` counts such triples, training reports them, and `cover=True` keeps every name in training.",
)
def test_every_name_can_be_kept_in_training():
    kg = KnowledgeGraph.from_names([(f"a{i}", f"r{i % 4}", f"b{i % 5}") for i in range(20)])
    splits = [TripleSplit.random(kg, val_fraction=0.1, test_fraction=0.3, seed=s, cover=True) for s in range(4)]
    assert all(split.unseen() == {"val": 0, "test": 0} for split in splits)
    assert TripleSplit.random(kg, val_fraction=0.1, test_fraction=0.3).unseen()["test"] > 0


# ---------------------------------------------------------------------- recommendation


@pytest.mark.reported(
    "RUCAIBox/RecBole #1028, #2019",
    "A user who took every item has no negatives: sampling fails or never ends.",
    "Batches leave out such users.",
)
def test_a_user_who_took_everything_does_not_stop_sampling():
    kg = KnowledgeGraph.from_triples(head=[0], relation=[0], tail=[1], num_nodes=3, num_relations=1)
    taken = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 0]])
    data = Interactions.from_pairs(taken, taken[:, :0], taken[:, :0], kg, num_users=2, num_items=3)
    users, positive, negative = PairSampler(data.train).draw(64)
    assert set(users.tolist()) == {1}
    assert set(positive.tolist()) == {0}
    assert not set(negative.tolist()) & {0}


# ---------------------------------------------------------------------- layers and operations


@pytest.mark.reported(
    "pyg-team/pytorch_geometric #6918",
    "`HypergraphConv` uses hyperedge weights only in the degree, not in the product.",
    "`HGNNConv` matches the formula, with W in both places, to 1e-12.",
)
def test_hyperedge_weights_are_in_the_product():
    hg = Hypergraph.from_coo(
        node=[0, 1, 1, 2, 3], hyperedge=[0, 0, 1, 1, 1], num_nodes=4, num_hyperedges=2,
        hyperedge_weight=torch.tensor([2.0, 5.0], dtype=torch.float64),
    )  # fmt: skip
    layer, x = HGNNConv(3, 2, bias=False).double(), torch.eye(4, 3, dtype=torch.float64)
    h = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 1]], dtype=torch.float64)
    w, root = torch.diag(torch.tensor([2.0, 5.0], dtype=torch.float64)), (h @ torch.tensor([2.0, 5.0]).double()).rsqrt()
    smooth = root[:, None] * (h @ w @ torch.diag(1 / h.sum(0)) @ h.T) * root
    torch.testing.assert_close(layer(x, hg), smooth @ x @ layer.linear.weight.T, atol=1e-12, rtol=0)


@pytest.mark.reported(
    "pyg-team/pytorch_geometric #1801, #2226",
    "`HypergraphConv` crashes with more hyperedges than nodes.",
    "Any numbers of nodes and hyperedges work, including zero.",
)
@pytest.mark.parametrize(("nodes", "lists"), [(2, [[0, 1], [0], [1], [0, 1], []]), (3, []), (5, [[0]])])
def test_any_numbers_of_nodes_and_hyperedges(nodes, lists):
    out = HGNNConv(3, 2)(torch.ones(nodes, 3), Hypergraph.from_lists(lists, num_nodes=nodes))
    assert out.shape == (nodes, 2)
    assert out.isfinite().all()


@pytest.mark.reported(
    "iMoonLab/HGNN #14",
    "Nodes without a hyperedge have degree 0, and the features become NaN.",
    "Such nodes get 0; `Hypergraph.with_singletons` gives each its own hyperedge.",
)
def test_nodes_in_no_hyperedge_get_zero():
    hg = Hypergraph.from_lists([[0, 1]], num_nodes=3)
    out = HGNNConv(2, 2)(torch.ones(3, 2), hg)
    assert out[2].tolist() == [0, 0]
    assert out.isfinite().all()


@pytest.mark.reported(
    "dmlc/dgl #4124, #1245",
    "`GATConv` raises an error for nodes without incoming edges, even if only one graph of a batch has no edges.",
    "Every node attends to itself, so a graph without edges works, forward and backward.",
)
def test_attention_works_without_incoming_edges():
    graph = Graph.from_edge_index([[0], [1]], num_nodes=3, directed=True)
    for structure in (graph, Graph.from_edge_index(torch.empty(2, 0, dtype=torch.long), num_nodes=3, directed=True)):
        x = torch.randn(3, 2, requires_grad=True)
        out = GATConv(2, 4, num_heads=2)(x, structure)
        out.sum().backward()
        assert out.isfinite().all()
        assert x.grad.isfinite().all()


@pytest.mark.reported(
    "pyg-team/pytorch_geometric #190, #1824, #5846",
    "The number of nodes is guessed from the largest index: isolated last nodes are lost, and batches are shifted.",
    "Sizes are passed, never guessed; an empty last graph and isolated last nodes keep their rows.",
)
def test_isolated_last_nodes_and_empty_graphs_keep_their_rows():
    with pytest.raises(TypeError, match="num_nodes"):
        Graph.from_edge_index([[0], [1]], directed=True)
    sizes = (3, 2, 4)
    none = torch.empty(2, 0, dtype=torch.long)
    items = []
    for i, n in enumerate(sizes):
        graph = Graph.from_edge_index([[0], [1]] if n > 2 else none, num_nodes=n, directed=True)
        items.append(Data(graph, torch.full((n, 1), float(n)), torch.full((n,), i)))
    batch = collate(items)
    assert batch.num_nodes == sum(sizes)
    assert batch.meta["batch"].bincount().tolist() == list(sizes)
    assert batch.structure.edge_index.tolist() == [[0, 5], [1, 6]]


@pytest.mark.reported(
    "rusty1s/pytorch_scatter #118",
    "The backward pass of a segment mean fails if a segment is empty.",
    "Empty rows give 0 and no gradient; first and second derivatives are checked.",
)
def test_the_mean_of_an_empty_row_has_a_gradient():
    graph = Graph.from_edge_index([[0, 1], [2, 2]], num_nodes=4, directed=True)
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    out = propagate(graph.adj, x, reduce="mean")
    assert out[3].tolist() == [0, 0]
    out.sum().backward()
    assert x.grad.tolist() == [[0.5, 0.5], [0.5, 0.5], [0, 0], [0, 0]]
    assert torch.autograd.gradgradcheck(lambda v: propagate(graph.adj, v, reduce="mean") ** 2, x)


@pytest.mark.reported(
    "pyg-team/pytorch_geometric #446, #859, #2788",
    "Two runs with the same seed differ, because scatter adds in no fixed order.",
    "Results are bitwise reproducible for the same inputs, forward and backward; sums run over sorted rows.",
)
def test_two_runs_give_the_same_bits():
    index = torch.randint(50, (2, 400), generator=torch.Generator().manual_seed(0)).unique(dim=1)
    graph, seen = Graph.from_edge_index(index, num_nodes=50, directed=True), []
    layer = GCNConv(8, 4)
    for _ in range(2):
        x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = layer(x, graph)
        seen.append((out, *torch.autograd.grad(out.square().sum(), (x, layer.linear.weight))))
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


@pytest.mark.reported(
    "pyg-team/pytorch_geometric #795, #10549",
    "Negative edge weights give NaN in `GCNConv` and can hang on a GPU.",
    "Negative degrees are an error when the graph is first used; results with learnable weights stay finite.",
)
def test_negative_weights_are_no_nan():
    weight = torch.tensor([-2.0, 1.0])
    graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=True, weight=weight)
    with pytest.raises(ArgumentError, match="weight: expected weights with a positive sum"):
        GCNConv(1, 2)(torch.ones(3, 1), graph)
