"""In the production setting, nothing of an unseen node reaches training: for every set with labeled nodes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch

import hgraph.datasets as datasets
from hgraph.builders import knn_hypergraph, radius_hypergraph
from hgraph.data import Data, HyperedgeSplit, LinkSplit, Split, reorder
from hgraph.data.derived import FEATURES_FROM, STRUCTURE_FROM, features_from, features_on
from hgraph.data.leaks import inverse_triples
from hgraph.datasets.tables import build
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Graph, Hypergraph
from hgraph.testing import random_graph
from hgraph.train import training_view

EMBEDDED = ("davis", "digits", "karate", "lesmis")
LARGE = ("cooking-recipes", "mathoverflow-answers", "walmart-products", "wikipedia")
LISTED = [n for n in datasets.names() if n not in EMBEDDED and datasets.info(n).task == "node classification"]


def rewired(structure, unseen):
    """The structure with other edges or memberships of the unseen nodes; those of the others stay."""
    generator = torch.Generator().manual_seed(0)
    is_unseen = torch.zeros(structure.num_nodes, dtype=torch.bool)
    is_unseen[unseen] = True
    other = torch.randint(0, structure.num_nodes, (len(unseen),), generator=generator)
    if isinstance(structure, Graph):
        stay = ~is_unseen[structure.edge_index].any(0)
        weight = None
        if structure.adj.weight is not None:
            weight = torch.cat([structure.adj.weight[stay], torch.ones(2 * len(unseen))])
        added = torch.stack([torch.cat([unseen, other]), torch.cat([other, unseen])])
        edges = torch.cat([structure.edge_index[:, stay], added], 1)
        return Graph.from_edge_index(
            edges, num_nodes=structure.num_nodes, directed=True, weight=weight, duplicates="keep"
        )
    stay = ~is_unseen[structure.v2e.indices.long()]
    hyperedge = structure.v2e.target.long()[stay]
    present = torch.cat([hyperedge, other.new_zeros(1)])
    joined = present[torch.randint(0, len(present), (len(unseen),), generator=generator)]
    return Hypergraph.from_coo(
        node=torch.cat([structure.v2e.indices.long()[stay], unseen]),
        hyperedge=torch.cat([hyperedge, joined]),
        num_nodes=structure.num_nodes,
        num_hyperedges=structure.num_hyperedges,
    )


def with_other_unseen(data, unseen):
    """The data as it would be, had the unseen nodes other features, labels, edges and memberships."""
    x, y = data.x.clone(), data.y.clone()
    x[unseen] = torch.rand(len(unseen), x.shape[1], generator=torch.Generator().manual_seed(1)).to(x)
    y[unseen] = y[unseen].flip(0)
    recipe = data.meta.get(STRUCTURE_FROM)
    if recipe is None:
        structure = rewired(data.structure, unseen)
    else:
        structure = knn_hypergraph(x, recipe["k"])
    changed = Data(structure, x, y, {}, data.meta)
    again = features_on(changed, structure)
    return changed if again is None else dataclasses.replace(changed, x=again)


def bits(view):
    return [t.contiguous() for t in (*view.structure.tensors(), view.x, view.y, view.train, view.val)]


def assert_unseen_do_not_matter(data, split):
    production = Split.production(data, split, seed=3)
    changed = with_other_unseen(data, production.unseen)
    changed = dataclasses.replace(changed, splits={"p": dataclasses.replace(production).rebuilt(changed)})
    data = dataclasses.replace(data, splits={"p": production})
    assert len(production.unseen)
    assert not data.structure.equal(changed.structure)
    production.validate(data)
    views = [training_view(d, "p") for d in (data, changed)]
    assert all(torch.equal(a, b) for a, b in zip(*map(bits, views), strict=True))
    assert views[0].x.shape[0] == views[0].structure.num_nodes == len(production.observed)


def assert_derived_features_are_declared(data):
    """A column that is a function of the degree is only known to be one if the set says so."""
    columns = [features_from(name, data.structure).to(data.x) for name in ("degree", "one and log degree")]
    from_degree = any(torch.equal(data.x, found) for found in columns)
    assert from_degree == (FEATURES_FROM in data.meta)


@pytest.mark.parametrize("name", EMBEDDED)
def test_of_embedded_sets(name):
    data = datasets.load(name)[0]
    assert_derived_features_are_declared(data)
    assert_unseen_do_not_matter(data, data.split())


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in LISTED])
def test_of_listed_sets(name, mirror, load_set):
    files = datasets.info(name).files
    if not files or not all(Path(mirror, file).is_file() for file in files):
        pytest.skip(f"the mirror has no {name}")
    data = load_set(name)[0]
    split = data.splits.get("default") or Split(data.structure, *torch.arange(data.num_nodes).tensor_split(3))
    assert_derived_features_are_declared(data)
    assert_unseen_do_not_matter(data, split)


def test_of_tables_with_and_without_columns(monkeypatch):
    ids = [str(i) for i in range(60)]
    edges = {"source": ids, "target": ids[7:] + ids[:7]}
    table = {"id": ids, "label": [str(i % 3) for i in range(60)]}
    columns = table | {"size": [i**2 for i in range(60)], "color": [str(i % 5) for i in range(60)]}
    for nodes, identity in ((columns, 2048), (table, 2048), (table, 5)):
        monkeypatch.setattr(build, "_IDENTITY", identity)
        data = datasets.from_tables(nodes, edges=edges, label="label", shares=(0.3, 0.2, 0.5))[0]
        assert (FEATURES_FROM in data.meta) == (identity == 5)
        assert_unseen_do_not_matter(data, data.split())


def test_encoders_do_not_see_unseen_rows():
    """The encoder of a table is fitted on training rows: other cells in the rows of testing give the same features."""
    ids = [str(i) for i in range(30)]
    edges = {"source": ids, "target": ids[1:] + ids[:1]}
    nodes = {"id": ids, "label": ["a", "b"] * 15, "size": [*range(30)], "color": ["red", "blue", "green"] * 10}
    nodes["part"] = ["train"] * 15 + ["val"] * 5 + ["test"] * 10
    other = dict(nodes, size=[*range(20), *range(900, 910)], color=nodes["color"][:20] + ["black"] * 10)
    options = {"edges": edges, "label": "label", "split": "given", "split_column": "part"}
    a, b = (datasets.from_tables(t, **options)[0] for t in (nodes, other))
    assert torch.equal(a.x[:20], b.x[:20])
    assert a.meta["feature_names"] == b.meta["feature_names"]


@pytest.mark.parametrize("cells", [["n/k"] * 5, ["2.5"] * 5, ["2020-01-01"] * 5, ["7"] * 5])
@pytest.mark.parametrize("values", [[0, 1], [1.5, 2.5, 3.5], ["red", "blue"], ["2024-01-01", "2024-02-01"]])
def test_kinds_of_columns_do_not_depend_on_test_rows(cells, values):
    """Other cells in test rows change no feature of the other rows; those of another kind are refused by place."""
    ids = [str(i) for i in range(30)]
    nodes = {"id": ids, "label": ["a", "b"] * 15, "part": ["train"] * 15 + ["val"] * 5 + ["test"] * 10}
    options = {"edges": {"source": ids, "target": ids[1:] + ids[:1]}, "label": "label", "split_column": "part"}
    column = [str(values[i % len(values)]) for i in range(30)]
    expected = datasets.from_tables(nodes | {"c": column}, split="given", **options)[0]
    try:
        other = datasets.from_tables(nodes | {"c": column[:25] + cells}, split="given", **options)[0]
    except DataError as error:
        said = str(error)
    else:
        assert torch.equal(other.x[:20], expected.x[:20])
        assert other.meta["feature_names"] == expected.meta["feature_names"]
        return
    kind = "numeric" if values == [0, 1] and cells[0] != "n/k" and "-" not in cells[0] else "categorical"
    assert re.search(rf"row 2[56].*'c'.*types={{'c': '{kind}'}}", said)


@pytest.mark.parametrize("name", ["degree", "one and log degree"])
def test_degrees_for_held_out_links_and_hyperedges(name):
    """`features_on` of the training structure is the same, whatever is held out; degrees of the whole are not."""
    graph = Graph.from_edge_index([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]], num_nodes=8, directed=False)
    split = LinkSplit.by_time(graph, torch.arange(12) % 6, val_fraction=0, test_fraction=0.4)
    held = Graph.from_edge_index(torch.cat([split.structure.edge_index, torch.tensor([[6], [7]])], 1), num_nodes=8,
                                 directed=True)  # fmt: skip
    hg = Hypergraph.from_lists([[0, 1], [1, 2, 3], [3, 4], [5, 6, 7]], num_nodes=8)
    other = Hypergraph.from_lists([[0, 1], [1, 2, 3], [3, 4], [0, 2, 3]], num_nodes=8)
    last = HyperedgeSplit.by_time(hg, torch.arange(4), val_fraction=0, test_fraction=0.25)
    same = HyperedgeSplit.by_time(other, torch.arange(4), val_fraction=0, test_fraction=0.25)
    for whole, changed, training, training_changed in (
        (graph, held, split.structure, split.structure),
        (hg, other, last.structure, same.structure),
    ):
        data, changed_data = (
            Data(s, features_from(name, s), torch.zeros(8).long(), meta={FEATURES_FROM: name}) for s in (whole, changed)
        )
        assert not torch.equal(data.x, changed_data.x)
        assert torch.equal(features_on(data, training), features_on(changed_data, training_changed))
        assert not torch.equal(features_on(data, training), data.x)


# ---------------------------------------------------------------------- recipes


def points():
    x = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    meta = {STRUCTURE_FROM: {"builder": "knn_hypergraph", "k": 3}}
    data = Data(knn_hypergraph(x, 3), x, torch.arange(30) % 2, meta=meta)
    return data, Split.per_class(data.structure, data.y, num_train_per_class=5, num_val_per_class=3)


def degrees():
    graph = random_graph(30, 90)
    x = features_from("degree", graph)
    data = Data(graph, x, torch.arange(30) % 2, meta={FEATURES_FROM: "degree"})
    return data, Split.per_class(graph, data.y, num_train_per_class=5, num_val_per_class=3)


def test_no_hyperedge_is_made_from_an_unseen_row():
    data, split = points()
    production = Split.production(data, split, unseen_fraction=0.5)
    assert production.structure.equal(knn_hypergraph(data.x[production.observed], 3))
    induced = dataclasses.replace(production, structure=data.structure.subhypergraph(production.observed))
    with pytest.raises(DataError, match=r"made from the features of the observed nodes. Split.rebuilt"):
        induced.validate(data)
    assert Split.by_time(data.structure, torch.arange(30)).rebuilt(data).validate(data) is None


def test_degrees_are_those_of_the_observed_structure():
    data, split = degrees()
    production = Split.production(data, split, unseen_fraction=0.5)
    assert torch.equal(production.x, features_from("degree", production.structure))
    assert not torch.equal(production.x, data.x[production.observed])
    for x in (None, data.x[production.observed]):
        with pytest.raises(DataError, match=r"x is not computed from .* Split.rebuilt"):
            dataclasses.replace(production, x=x).validate(data)
    with pytest.raises(DataError, match="x is not computed"):
        dataclasses.replace(split, x=data.x).validate(data)


@pytest.mark.parametrize("make", [points, degrees])
def test_recipes_survive_folders_and_new_numbers(make, tmp_path):
    data, split = make()
    production = Split.production(data, split, unseen_fraction=0.5)
    data = dataclasses.replace(data, splits={"default": split, "production": production})
    card = {"task": "t", "target_spec": {}, "license": "CC0", "redistribute": True, "citation": "none"}
    datasets.save(datasets.registry.Dataset("set", [data], **card), tmp_path / "set")
    again = datasets.load(tmp_path / "set")[0]
    assert again.meta == data.meta
    for part in ("structure", "x"):
        a, b = getattr(again.split("production"), part), getattr(production, part)
        assert a is b is None or (torch.equal(a, b) if part == "x" else a.equal(b))
    reorder(data).result.validate()


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({STRUCTURE_FROM: {"builder": "eval", "source": "1"}}, "a 'builder' among"),
        ({STRUCTURE_FROM: "knn_hypergraph"}, "a 'builder' among"),
        ({STRUCTURE_FROM: {"builder": ["knn_hypergraph"]}}, "a 'builder' among"),
        ({STRUCTURE_FROM: {"builder": "knn_hypergraph", "neighbors": 3}}, "options of its builder"),
        ({STRUCTURE_FROM: {"builder": "knn_hypergraph", "k": 99}}, "k: expected"),
        ({FEATURES_FROM: "age"}, "one of"),
        ({FEATURES_FROM: ["degree"]}, "one of"),
    ],
)
def test_wrong_recipes_are_refused(meta, said):
    data, split = points()
    with pytest.raises(ArgumentError, match=said):
        Split.production(dataclasses.replace(data, meta=meta), split)


def test_a_radius_is_a_recipe_too():
    data, split = points()
    recipe = {STRUCTURE_FROM: {"builder": "radius_hypergraph", "radius": 0.4}}
    data = dataclasses.replace(data, structure=radius_hypergraph(data.x, 0.4), meta=recipe)
    production = Split.production(data, split)
    assert production.structure.equal(radius_hypergraph(data.x[production.observed], 0.4))


# ---------------------------------------------------------------------- triples


@pytest.mark.parametrize("name", [n for n in datasets.names() if datasets.info(n).task == "triple prediction"])
def test_cards_count_test_triples_with_their_inverse_in_training(name, load_set):
    found = [text.split(" of ")[0] for text in inverse_triples(load_set(name)[0]) if " test triples " in text]
    stated = [text.split(" of ")[0] for text in datasets.info(name).caveats if "their inverse in training" in text]
    assert found == stated
