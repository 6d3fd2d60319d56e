"""Each layer and model is in its registry once, and what the registry says of it is so."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

import hgraph
from hgraph import models, train
from hgraph import nn as layers
from hgraph.cli import choices
from hgraph.data import Data, Interactions, TripleSplit
from hgraph.errors import ArgumentError
from hgraph.models import registry
from hgraph.nn import registry as layer_registry
from hgraph.nn.attention import AttentionKind
from hgraph.papers import papers
from hgraph.structure import Graph, Hypergraph, KnowledgeGraph
from hgraph.testing import random_graph, random_hypergraph, random_knowledge_graph

PAPERS = {paper["id"] for paper in papers()}
EXPORTED = {n for n in models.__all__ if isinstance(getattr(models, n), type)}
LAYERS = {n for n in layers.__all__ if isinstance(getattr(layers, n), type)}
BY_NAME = pytest.mark.parametrize("entry", registry.MODELS, ids=lambda entry: entry.name)
BY_LAYER = pytest.mark.parametrize("entry", layer_registry.LAYERS, ids=lambda entry: entry.name)


def data_of(entry):
    """Small data of the kind, and the arguments that such data does not decide."""
    if entry.data == "interactions":
        kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert"), ("Ubik", "by", "Dick")])
        return Interactions.from_pairs([[0, 1], [0, 2]], [[], []], [[], []], kg, num_users=2, num_items=3), {}
    if entry.data == "triples":
        kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "r", "c"), ("c", "s", "a"), ("a", "s", "c")])
        return TripleSplit.random(kg, val_fraction=0.25, test_fraction=0.25, seed=0), {}
    if entry.data == "sequences":
        options = {"PositionalTransformer": {"in_channels": 1, "out_channels": 1, "num_positions": 6}}
        options["AarenEncoder"] = {"num_heads": 2, "hidden_channels": 16}
        options["TransNormer"] = {"vocab_size": 5, "num_heads": 2, "num_layers": 2, "hidden_channels": 12}
        return None, {"dim": 8, **options[entry.class_name]}
    if entry.data == "images":
        options = {"ViT": {"image_size": 8, "num_classes": 3, "dim": 16, "num_heads": 2, "num_layers": 1}}
        options["AxialTransformer"] = {"height": 4, "width": 4, "channels": 3, "dim": 8, "num_heads": 2}
        return None, options.get(entry.class_name, {})
    made = {"hypergraph": lambda: random_hypergraph(6, 3, 12, seed=0)}
    made["knowledge graph"] = lambda: random_knowledge_graph(6, 12, 2, seed=0)
    structure = made.get(entry.data, lambda: random_graph(6, 12, seed=0))()
    return Data(structure, torch.ones(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])), {}


# ---------------------------------------------------------------------- models


def test_every_model_is_listed_once():
    around = {"GraphClassifier"}  # takes any of them
    assert {entry.class_name for entry in registry.MODELS} == EXPORTED - around
    paths = [entry.path for entry in registry.MODELS if "layer" not in entry.options]
    assert len(set(paths)) == len(paths)
    assert len({entry.name for entry in registry.MODELS}) == len(registry.MODELS)


@BY_NAME
def test_the_entry_of_a_model_is_right(entry):
    kind = entry.load()
    assert kind is getattr(models, entry.class_name)
    assert kind.__module__ == entry.module
    assert entry.name == entry.name.lower()
    assert entry.data in registry.DATA
    assert entry.task in registry.TASKS
    parameters = set(inspect.signature(kind).parameters)
    if "layer" in entry.options:  # a stack passes other arguments on to its layers
        parameters |= set(inspect.signature(layer_registry.find(entry.options["layer"]).load()).parameters)
    assert {*entry.sizes, *entry.widths, *entry.options} <= parameters
    assert all(name in LAYERS for name in entry.layers)
    assert set(entry.sizes.values()) <= set(registry.SIZES)
    assert set(entry.layers) <= LAYERS
    assert all(registry.find(name).task == entry.task for name in entry.starts_from)
    assert entry.paper is None or entry.paper in PAPERS


@BY_NAME
def test_a_model_is_built_from_data_under_a_seed(entry):
    data, options = data_of(entry)
    before = torch.random.get_rng_state()
    one, two = (train.build_model(entry.name, data, seed=3, **options) for _ in range(2))
    assert isinstance(one, entry.load())
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    if entry.widths:
        smaller = train.build_model(entry, data, seed=3, hidden_size=16, **options)
        assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in one.parameters())


@pytest.mark.parametrize(
    ("name", "annotation"),
    [("graph", Graph), ("hypergraph", Hypergraph), ("knowledge graph", KnowledgeGraph)],
)
def test_the_data_of_a_model_are_what_its_forward_reads(name, annotation):
    found = registry.select(data=name)
    assert found
    for entry in found:
        forward = entry.load().forward
        second = list(inspect.signature(forward).parameters)[2]
        assert typing.get_type_hints(forward)[second] in (
            annotation, Graph | Hypergraph, Sequence[Graph] | annotation,
        )  # fmt: skip


def test_data_of_another_kind_are_refused():
    data, _ = data_of(registry.find("gcn"))
    with pytest.raises(ArgumentError, match="data: expected Interactions of users with items for KGAT, got Data"):
        train.build_model("kgat", data, seed=0)
    with pytest.raises(ArgumentError, match="Did you mean 'hgnn'"):
        registry.find("hgnnn")


def test_the_commands_offer_what_is_listed():
    nodes = registry.select(task="node classification")
    recommend = tuple(entry.name for entry in registry.select(task="recommendation"))
    reads = {entry.name: entry.data for entry in nodes}
    assert [kind.value for kind in choices.Teacher] == [n for n, d in reads.items() if d in ("graph", "hypergraph")]
    classify = [n for n, d in reads.items() if d in ("graph", "hypergraph")]
    classify += [n for kind in ("features", "knowledge graph") for n, d in reads.items() if d == kind]
    triples = tuple(entry.name for entry in registry.select(task="triple completion"))
    assert [kind.value for kind in choices.Network] == [*classify, *recommend, *triples]
    assert triples == choices.TRIPLES
    assert {kind.value for kind in choices.Pretrained} == {n for e in registry.MODELS for n in e.starts_from}
    assert recommend == choices.RECOMMENDERS
    assert registry.find(choices.TOWERS).student


@BY_NAME
def test_a_model_that_begins_from_another_takes_its_vectors(entry):
    if entry.starts_from:
        assert callable(entry.load().take_factors)


# ---------------------------------------------------------------------- layers


def test_every_layer_is_listed_once():
    assert sorted(entry.name for entry in layer_registry.LAYERS) == sorted(LAYERS)


STRUCTURE_OF = {
    "Graph": "graph",
    "Graph | Adjacency": "graph",
    "Sequence[Graph]": "graphs",
    "Hypergraph": "hypergraph",
    "KnowledgeGraph": "knowledge graph",
}


@BY_LAYER
def test_the_entry_of_a_layer_is_right(entry):
    kind = entry.load()
    assert issubclass(kind, nn.Module)
    assert kind is getattr(layers, entry.name)
    assert kind is getattr(getattr(hgraph.nn, entry.package), entry.name)
    assert entry.structure in layer_registry.STRUCTURES
    assert entry.paper is None or entry.paper in PAPERS
    parameters = inspect.signature(kind.forward).parameters
    second = list(parameters.values())[2:3]
    named = {STRUCTURE_OF.get(str(p.annotation)) for p in second} - {None}
    assert not named or named == {entry.structure}
    assert (entry.structure in STRUCTURE_OF.values()) == bool(named)
    kinds = getattr(kind, "kinds", frozenset())
    assert bool(kinds) == (entry.package == "attention")
    if entry.structure != "chain":  # whose order is its structure: every layer over it may be causal
        assert entry.causal == bool(kinds & {AttentionKind.CAUSAL_SELF, AttentionKind.CAUSAL_CROSS})
    assert entry.cross == bool(kinds & {AttentionKind.NONCAUSAL_CROSS, AttentionKind.CAUSAL_CROSS})
    assert entry.state == ("state" in parameters)
    assert entry.edge_features == bool({"edge_features", "edge_attr"} & set(parameters))


def test_layers_are_found_by_name_and_package():
    assert layer_registry.find("GCNConv").load() is layers.GCNConv
    folders = {path.name for path in Path(layers.__file__).parent.iterdir() if (path / "__init__.py").exists()}
    assert {entry.package for entry in layer_registry.LAYERS} == folders
    assert layer_registry.select("graph")[0].name == "GCNConv"
    with pytest.raises(ArgumentError, match="Did you mean 'GCNConv'"):
        layer_registry.find("GCNCon")
