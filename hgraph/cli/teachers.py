"""The networks a command can name, and the data as each of them takes it."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import TYPE_CHECKING, Any

from hgraph.errors import ArgumentError

if TYPE_CHECKING:
    import torch

    from hgraph.data import Data, Dataset
    from hgraph.structure import Graph, Hypergraph


class Teacher(Enum):
    """Which network teaches."""

    HGNN = "hgnn"
    HGNNP = "hgnn+"
    GCN = "gcn"
    GAT = "gat"


class Student(Enum):
    """Which MLP learns: that of LightHGNN, or one for word counts that is better on vertices it has not seen."""

    PUBLISHED = "published"
    WORDS = "words"


class Setting(Enum):
    """What training may see: every vertex, or all but a share of the test vertices."""

    TRANSDUCTIVE = "transductive"
    PRODUCTION = "production"


# teacher -> (class in hgraph.models, what it says of itself, whether it takes a hypergraph)
TEACHERS = {
    Teacher.HGNN: ("HGNN", "HGNN", True),
    Teacher.HGNNP: ("HGNNP", "HGNN+", True),
    Teacher.GCN: ("GCN", "GCN", False),
    Teacher.GAT: ("GAT", "GAT", False),
}
# student -> (options of hgraph.models.MLP, what the report says of it)
STUDENTS: dict[Student, tuple[dict[str, Any], str]] = {
    Student.PUBLISHED: ({}, "BatchNorm, dropout 0.5"),
    Student.WORDS: (
        {"norm": False, "unit_rows": True, "input_dropout": 0.5},
        "no BatchNorm, rows of length one, half of the features dropped in training, dropout 0.5",
    ),
}
TEACHER_HIDDEN, STUDENT_HIDDEN, UNSEEN = 32, 128, 0.2  # LightHGNN's sizes; GLNN's share of unseen test vertices


def prepare(dataset: Dataset, teacher: Teacher, setting: Setting, seed: int) -> Data:
    """The data with the split of the setting and structures of the kind the teacher takes."""
    from hgraph.data import Split

    data = dataset[0]
    if "default" not in data.splits:
        raise ArgumentError("dataset", "one with a split to train and test on", repr(dataset.name))
    splits = {"default": data.split()}
    if setting is Setting.PRODUCTION:
        splits["production"] = Split.production(data, data.split(), unseen=UNSEEN, seed=seed)
    adapt = as_hypergraph if TEACHERS[teacher][2] else as_graph
    whole = adapt(data.structure)
    for name, split in splits.items():
        structure = whole if split.structure is data.structure else adapt(split.structure)
        splits[name] = dataclasses.replace(split, structure=structure)
    return dataclasses.replace(data, structure=whole, splits=splits)


def split_of(setting: Setting) -> str:
    """The name of the setting's split in what `prepare` returns."""
    return "default" if setting is Setting.TRANSDUCTIVE else setting.value


def networks_of(data: Data, teacher: Teacher, student: Student, seed: int) -> dict[str, torch.nn.Module]:
    """The ``teacher``, the ``mlp`` and the ``student`` of a distillation, initialised under the seed."""
    from hgraph import models
    from hgraph.train import seeded

    def made(name: str, hidden: int, **options: Any) -> torch.nn.Module:
        with seeded(seed):
            network = getattr(models, name)(data.num_features, hidden, data.num_classes, **options)
        return network.to(data.x.device)

    # a GAT's width is a head's: 8 heads of 4
    name, width, more = TEACHERS[teacher][0], TEACHER_HIDDEN, {}
    if teacher is Teacher.GAT:
        width, more = 4, {"heads": 8, "dropout": 0.5}
    alike = STUDENTS[student][0]
    return {
        "mlp": made("MLP", STUDENT_HIDDEN, **alike),
        "teacher": made(name, width, **more),
        "student": made("MLP", STUDENT_HIDDEN, **alike),
    }


def as_hypergraph(structure: Graph | Hypergraph) -> Hypergraph:
    """A hypergraph without isolated vertices: of a graph, each edge (both directions one) becomes a hyperedge."""
    import torch

    from hgraph.structure import Graph, Hypergraph

    if isinstance(structure, Graph):
        edges, weight = structure.edge_index, structure.adj.weight
        pairs, first = torch.unique(edges.sort(0).values, dim=1, return_inverse=True)
        if weight is not None:
            weight = weight.new_zeros(pairs.shape[1]).scatter_reduce(0, first, weight, "amax", include_self=False)
        ids, proper = torch.arange(pairs.shape[1]), pairs[0] != pairs[1]
        structure = Hypergraph.from_coo(
            vertex=torch.cat([pairs[0], pairs[1][proper]]),
            hyperedge=torch.cat([ids, ids[proper]]),
            num_vertices=structure.num_nodes,
            num_hyperedges=len(ids),
            hyperedge_weight=weight,
        )
    return structure.with_singletons()


def as_graph(structure: Graph | Hypergraph) -> Graph:
    """A graph as it is; a hypergraph's clique expansion."""
    from hgraph.structure import Hypergraph

    return structure.clique() if isinstance(structure, Hypergraph) else structure
