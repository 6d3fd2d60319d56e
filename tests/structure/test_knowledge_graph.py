"""`KnowledgeGraph`: construction, queries, derived graphs, files, batches and plots."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.torch import save_file

import hgraph
from hgraph import KnowledgeGraph, collate
from hgraph.draw import knowledge as draw_knowledge
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError
from hgraph.structure import Names
from hgraph.testing import knowledge_graphs, random_knowledge_graph

SOME = settings(max_examples=40, deadline=None, derandomize=True)
BOOKS = [
    ("Dune", "by", "Herbert"),
    ("Solaris", "by", "Lem"),
    ("Dune", "is a", "novel"),
    ("Solaris", "is a", "novel"),
    ("Dune", "praised by", "Lem"),
]


def made(**changed):
    arguments = {"head": [0, 1, 1], "relation": [0, 0, 1], "tail": [2, 2, 0], "num_nodes": 3, "num_relations": 2}
    return KnowledgeGraph.from_triples(**{**arguments, **changed})


def listed(kg):
    return [tuple(row) for row in kg.triples.tolist()]


# ---------------------------------------------------------------------- construction


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"head": [0, 1, 3]}, ArgumentError, r"head: expected nodes in 0 .. 2, got 3 at position 2"),
        ({"tail": [0, 1, -1]}, ArgumentError, r"tail: expected nodes in 0 .. 2, got -1"),
        ({"relation": [0, 0, 2]}, ArgumentError, r"relation: expected relations in 0 .. 1, got 2"),
        ({"relation": [0, 0]}, ArgumentError, r"relation: expected 3 entries, as many as head, got 2"),
        ({"tail": [0, 1]}, ArgumentError, r"tail: expected 3 entries"),
        ({"head": [0.0, 1.0, 1.0]}, ArgumentTypeError, r"head: expected integer indices"),
        ({"num_nodes": -1}, ArgumentError, r"num_nodes: expected a size >= 0"),
        ({"num_relations": 1.5}, ArgumentTypeError, r"num_relations: expected an integer"),
        ({"duplicates": "sum"}, ArgumentError, r"duplicates: expected 'error', 'drop' or 'keep'"),
        ({"node_type": [0, 1]}, ArgumentError, r"node_type: expected 3 entries"),
        ({"node_type": [0, -1, 1]}, ArgumentError, r"node_type: expected non-negative types"),
        ({"node_names": ["a"]}, ArgumentError, r"node_names: expected 3 strings \(one per node\), got 1"),
        ({"relation_names": ["a"]}, ArgumentError, r"relation_names: expected 2 strings"),
        ({"node_names": ["a", "b", 3]}, ArgumentTypeError, r"names: expected strings, got int at position 2"),
        ({"node_type": [0, 1, 2], "type_names": ["x"]}, ArgumentError, r"type_names: expected more than 2 strings"),
    ],
)
def test_wrong_arguments_are_named(changed, error, message):
    with pytest.raises(error, match=message):
        made(**changed)


def test_parallel_triples_and_duplicates():
    twice = {"head": [0, 0, 0], "relation": [1, 0, 1], "tail": [2, 2, 2]}
    with pytest.raises(ArgumentError, match=r"each triple once, got 1 repeated, \(0, 1, 2\)"):
        made(**twice)
    assert listed(made(**twice, duplicates="keep")) == [(0, 0, 2), (0, 1, 2), (0, 1, 2)]
    once = made(**twice, duplicates="drop")
    assert listed(once) == [(0, 0, 2), (0, 1, 2)]
    assert once.adj.sort_edges(torch.tensor([1.0, 2.0, 4.0])).tolist() == [2.0, 5.0]


@SOME
@given(knowledge_graphs())
def test_sorted_counted_grouped(kg):
    expected = listed(kg)
    assert expected == sorted(expected, key=lambda f: (f[0], f[2], f[1]))
    for relation in range(kg.num_relations):
        own = [i for i, f in enumerate(expected) if f[1] == relation]
        assert kg.edges_of(relation).tolist() == own
        assert sorted(kg.view(relation).edge_index.T.tolist()) == sorted([expected[i][2], expected[i][0]] for i in own)
    met = torch.zeros(kg.num_edges)
    for block in kg.blocks():
        met[block.edges] += 1
        for edge, t, s in zip(block.edges.tolist(), block.adj.target.tolist(), block.adj.indices.tolist(), strict=True):
            assert expected[edge] == (int(block.head[t]), block.relation, int(block.tail[s]))
    assert bool((met == 1).all())


@SOME
@given(knowledge_graphs())
def test_the_order_of_the_input_does_not_matter(kg):
    order = torch.randperm(kg.num_edges, generator=torch.Generator().manual_seed(1))
    head, relation, tail = kg.triples[order].unbind(1)
    sizes = {"num_nodes": kg.num_nodes, "num_relations": kg.num_relations}
    other = KnowledgeGraph.from_triples(
        head=head, relation=relation, tail=tail, **sizes, node_type=kg.node_type, node_names=kg.node_names,
        relation_names=kg.relation_names, type_names=kg.type_names, duplicates="keep",
    )  # fmt: skip
    assert other.equal(kg)
    assert torch.equal(other.adj.sort_edges(relation.double()), kg.relation.double())


def test_from_names():
    kg = KnowledgeGraph.from_names(BOOKS)
    assert list(kg.node_names) == ["Dune", "Herbert", "Solaris", "Lem", "novel"]
    assert {tuple(f) for f in kg.find_triples()} == set(BOOKS)
    assert [f.tail for f in kg.find_triples("Dune", "by")] == ["Herbert"]
    with pytest.raises(ArgumentError, match=r"triples\[1\]: expected \(head, relation, tail\), got \('a', 'b'\)"):
        KnowledgeGraph.from_names([("a", "b", "c"), ("a", "b")])
    with pytest.raises(ArgumentError, match="each triple once"):
        KnowledgeGraph.from_names([("a", "b", "c")] * 2)


# ---------------------------------------------------------------------- queries


def test_names_and_ids():
    kg = KnowledgeGraph.from_names(BOOKS)
    assert kg.node("Lem") == kg.node(3) == 3
    with pytest.raises(ArgumentError, match=r"got 'Dun'. Did you mean 'Dune'\?"):
        kg.node("Dun")
    with pytest.raises(ArgumentError, match=r"node: expected an id in 0 .. 4, got 5"):
        kg.node(5)
    with pytest.raises(ArgumentTypeError, match="an id or a name, got float"):
        kg.node(1.0)
    with pytest.raises(ArgumentError, match="an id, as this graph has no names"):
        made().node("Lem")
    with pytest.raises(ArgumentError, match=r"the name of \[0, 1\]"):
        made(node_names=["same", "same", "c"]).node("same")


def test_neighbors_and_neighborhoods():
    kg = KnowledgeGraph.from_names(BOOKS)
    assert kg.neighbors("Dune").tolist() == [1, 3, 4]
    assert kg.neighbors("Dune", "by").tolist() == [1]
    assert kg.neighbors("novel").tolist() == []
    assert kg.neighborhood("Herbert", 0).tolist() == [1]
    assert kg.neighborhood("Herbert", 1).tolist() == [0, 1]
    assert kg.neighborhood("Herbert", 2).tolist() == [0, 1, 3, 4]
    assert kg.neighborhood("Herbert", 9).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ArgumentError, match="num_hops"):
        kg.neighborhood(0, -1)


def all_paths(kg, start, end, steps):
    """All simple paths by brute force: (weight, nodes, edges)."""
    expected, weight = listed(kg), torch.ones(kg.num_edges) if kg.adj.weight is None else kg.adj.weight
    found = []

    def go(nodes, edges, product):
        if nodes[-1] == end:
            found.append((product, len(edges), nodes, edges))
        elif len(edges) < steps:
            for e, (h, _, t) in enumerate(expected):
                if h == nodes[-1] and t not in nodes:
                    go((*nodes, t), (*edges, e), product * float(weight[e]))

    if start != end:
        go((start,), (), 1.0)
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_paths_are_the_best_ones(weighted, seed):
    kg = random_knowledge_graph(7, 22, seed=seed, weighted=weighted)
    for start, end in itertools.product(range(3), range(3, 6)):
        expected = sorted(all_paths(kg, start, end, 3), key=lambda p: (-p[0], p[1]))
        found = kg.paths(start, end, max_steps=3, limit=5)
        assert [(pytest.approx(p[0]), p[1]) for p in expected[:5]] == [(p.weight, len(p.edges)) for p in found]
        assert {(p.nodes, p.edges) for p in found} <= {p[2:] for p in expected}
        assert len({p.edges for p in found}) == len(found)


def test_paths_stop_where_weights_are_zero():
    kg = made().with_weight(torch.tensor([0.0, 1.0, 1.0]))
    assert kg.paths(0, 2) == []
    assert [p.nodes for p in kg.paths(1, 2)] == [(1, 2)]
    assert kg.paths(0, 0) == []
    with pytest.raises(ArgumentError, match="non-negative weights"):
        kg.with_weight(-torch.ones(3)).paths(0, 2)
    with pytest.raises(ArgumentError, match="max_steps"):
        kg.paths(0, 2, max_steps=0)


# ---------------------------------------------------------------------- derived graphs


@SOME
@given(knowledge_graphs())
def test_reversed_and_inverses(kg):
    expected, count = listed(kg), kg.num_relations
    assert sorted(listed(kg.reversed())) == sorted((t, r, h) for h, r, t in expected)
    assert kg.reversed().reversed().equal(kg)
    both = kg.with_inverses()
    assert sorted(listed(both)) == sorted(expected + [(t, r + count, h) for h, r, t in expected])
    assert both.num_relations == 2 * count
    values = torch.arange(2 * kg.num_edges).double()  # of the triples, then of their inverses
    assert torch.equal(both.adj.unsort_edges(both.relation)[: kg.num_edges], kg.relation)
    assert torch.equal(both.adj.unsort_edges(both.adj.sort_edges(values)), values)


def test_weights_are_kept():
    kg = random_knowledge_graph(6, 15, seed=2, weighted=True)
    expected = dict.fromkeys([], None)
    for triple, weight in zip(listed(kg), kg.adj.weight.tolist(), strict=True):
        expected.setdefault(triple, []).append(weight)
    turned = kg.reversed()
    for (h, r, t), weight in zip(listed(turned), turned.adj.weight.tolist(), strict=True):
        assert weight in expected[t, r, h]
    part = kg.subgraph(torch.tensor([4, 0, 2]))
    names = [4, 0, 2]
    for (h, r, t), weight in zip(listed(part), part.adj.weight.tolist(), strict=True):
        assert weight in expected[names[h], r, names[t]]
    assert part.num_edges == sum(h in names and t in names for h, _, t in listed(kg))
    assert kg.view(1).adj.num_edges == len(kg.edges_of(1))
    assert torch.equal(kg.view(1).adj.weight.sort().values, kg.adj.weight[kg.edges_of(1)].sort().values)


def test_the_ids_of_the_collaborative_graph():
    kg = made(node_names=["i0", "i1", "e"], relation_names=["by", "of"])
    both = kg.with_interactions([1, 0], [0, 1], num_users=2).with_inverses()
    assert both.num_nodes == 5
    assert both.num_relations == 2 * (2 + 1)
    forward = {(1, 0, 2), (0, 0, 3), (2, 1, 4), (3, 1, 4), (3, 2, 2)}
    assert set(listed(both)) == forward | {(t, r + 3, h) for h, r, t in forward}
    assert both.node_type.tolist() == [0, 0, 1, 1, 1]
    assert list(both.type_names) == ["user", "entity"]
    assert both.node_names[1] == "user 1"
    assert both.relation_names[3] == "inverse of interacts with"
    with pytest.raises(ArgumentError, match="users: expected users in 0 .. 0, got 1"):
        kg.with_interactions([1], [0], num_users=1)
    with pytest.raises(ArgumentError, match="items: expected items in 0 .. 2, got 3"):
        kg.with_interactions([0], [3], num_users=1)
    with pytest.raises(ArgumentError, match="each interaction once"):
        kg.with_interactions([0, 0], [1, 1], num_users=1)


def test_subgraph_keeps_names_and_types():
    kg = KnowledgeGraph.from_names(BOOKS).with_interactions([0], [0], num_users=1)
    part = kg.subgraph(torch.tensor([1, 0]))
    assert list(part.node_names) == ["Dune", "user 0"]
    assert part.node_type.tolist() == [1, 0]
    assert [tuple(f) for f in part.find_triples()] == [("user 0", "interacts with", "Dune")]
    with pytest.raises(ArgumentError, match="distinct nodes"):
        kg.subgraph(torch.tensor([1, 1]))


# ---------------------------------------------------------------------- files, copies, batches


@settings(max_examples=25, deadline=None, derandomize=True)
@given(knowledge_graphs())
def test_round_trips(tmp_path_factory, kg):
    path = tmp_path_factory.getbasetemp() / "kg.safetensors"
    kg.save(path)
    again = hgraph.load(path)
    assert again.equal(kg)
    for mine, other in zip(kg.tensors(), again.tensors(), strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)
    for other in (copy.deepcopy(kg), pickle.loads(pickle.dumps(kg)), kg.to("cpu")):
        assert other.equal(kg)


def test_weights_are_saved(tmp_path):
    kg = random_knowledge_graph(5, 9, weighted=True)
    kg.save(tmp_path / "kg")
    assert hgraph.load(tmp_path / "kg").equal(kg)
    assert not hgraph.load(tmp_path / "kg").equal(kg.with_weight(None))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("relation", lambda t: t + 9),
        ("relation", lambda t: t[:-1]),
        ("relation_indptr", lambda t: t.flip(0)),
        ("relation_indptr", lambda t: t[:0]),
        ("node_names.text", lambda t: t.fill_(255)),
        ("node_names.text", lambda t: t[:-1]),
        ("node_names.indptr", lambda t: t.flip(0)),
        ("node_type", lambda t: -t - 1),
    ],
)
def test_damaged_files_are_refused(name, damage, tmp_path):
    KnowledgeGraph.from_names(BOOKS).with_interactions([0], [2], num_users=1).save(tmp_path / "kg")
    with safe_open(str(tmp_path / "kg"), framework="pt") as file:
        tensors, header = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    tensors[name] = damage(tensors[name].clone()).contiguous()
    save_file(tensors, tmp_path / "kg", metadata=header)
    with pytest.raises(DataError, match="kg: "):
        hgraph.load(tmp_path / "kg")


def test_collate():
    kg = KnowledgeGraph.from_names(BOOKS)
    both = collate([kg, kg])
    assert both.node_names[5] == "Dune"
    assert listed(both) == listed(kg) + [(h + 5, r, t + 5) for h, r, t in listed(kg)]
    assert torch.equal(
        both.adj.sort_edges(torch.arange(10.0)),
        torch.cat([kg.adj.sort_edges(torch.arange(5.0)), kg.adj.sort_edges(torch.arange(5.0)) + 5]),
    )
    with pytest.raises(ArgumentError, match="the same relations, got"):
        collate([made(), made(num_relations=3)])
    with pytest.raises(ArgumentError, match="other relation_names"):
        collate([made(), made(relation_names=["a", "b"])])


def test_compiles_as_an_argument():
    def count(kg, x):
        return x[kg.adj.indices] * kg.relation.unsqueeze(1)

    kg = random_knowledge_graph(6, 12)
    compiled = torch.compile(count, fullgraph=True, dynamic=True, backend="aot_eager")
    assert torch.equal(compiled(kg, torch.ones(6, 2)), count(kg, torch.ones(6, 2)))


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "ü", "日本"], ["a"] * 3])
def test_names(texts):
    names = Names.of(texts)
    assert list(names) == texts
    assert [names[i] for i in range(len(texts))] == texts
    assert names.equal(Names.of(texts))
    assert not names.equal(Names.of([*texts, "x"]))
    with pytest.raises(IndexError):
        names[len(texts)]


# ---------------------------------------------------------------------- pictures


def test_draw_shows_every_triple_and_both_legends():
    kg = KnowledgeGraph.from_names([*BOOKS, ("Lem", "is a", "Lem")]).with_interactions([0, 0], [0, 2], num_users=1)
    ax = kg.draw(title="books")
    arrows = [p for p in ax.patches if type(p).__name__ == "FancyArrowPatch"]
    assert len(arrows) == kg.num_edges - 1
    assert ax.get_title() == "books"
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["entity", "user", "interacts with", "by", "is a", "praised by"]


def test_draw_without_names_and_with_parallel_triples():
    kg = random_knowledge_graph(4, 40, 30, seed=1)
    ax = kg.draw()
    bends = [p.get_connectionstyle().rad for p in ax.patches if type(p).__name__ == "FancyArrowPatch"]
    assert len(set(bends)) > 3
    KnowledgeGraph.from_names([]).draw()
    # of thirty relations three remain: three colors, no dashes
    part = KnowledgeGraph.from_triples(
        head=[0, 1, 2], relation=[4, 11, 25], tail=[1, 2, 3], num_nodes=4, num_relations=30, node_type=[0, 0, 1, 1]
    )
    arrows = [p for p in part.draw().patches if type(p).__name__ == "FancyArrowPatch"]
    assert {p.get_linestyle() for p in arrows} <= {"-", "solid"}
    dots = {c for p in part.draw().collections for c in map(tuple, p.get_facecolor())}
    colors = {p.get_edgecolor()[:3] for p in arrows}
    assert len(colors) == 3
    assert not colors & {dot[:3] for dot in dots}
    with pytest.raises(ArgumentError, match="names: expected 4 strings"):
        kg.draw(names=["a"])


def test_names_leave_the_tips_of_arrows_free():
    """The arrow comes from above, where the name is otherwise."""
    kg = KnowledgeGraph.from_names([("the upper one", "above", "the lower one")])
    ax = kg.draw(positions=[[0, 2], [0, 0]])
    place = {text.get_text(): text.get_position() for text in ax.texts}
    assert place["the upper one"][1] > 2
    x, y = place["the lower one"]
    assert y < 0 or x != 0


@pytest.mark.parametrize("curve", [0.0, 0.4, -0.2])
def test_points_along_an_arrow_are_matplotlib_s(curve):
    from matplotlib.patches import ConnectionStyle

    start, end = np.array([0.0, 1.0]), np.array([3.0, -1.0])
    drawn = ConnectionStyle.Arc3(rad=curve).connect(start, end)
    (curved,) = [segment for segment, code in drawn.iter_segments() if code == 3]
    middle = np.asarray(curved[:2])
    points = draw_knowledge._along(start, end, curve, 0.1)
    assert points[0].tolist() == start.tolist()
    assert points[-1].tolist() == end.tolist()
    t = np.linspace(0, 1, len(points))[:, None]
    expected = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    np.testing.assert_allclose(points, expected, atol=1e-12)


def test_paths_of_another_graph_are_rejected():
    kg = KnowledgeGraph.from_names(BOOKS)
    both = kg.with_inverses()
    head, _, tail = kg.triples[0].tolist()
    (path, *_) = both.paths(tail, head, max_steps=1)
    assert "inverse of" in both.tell(path)
    with pytest.raises(ArgumentError, match="path: expected a path of this graph"):
        kg.tell(path)
