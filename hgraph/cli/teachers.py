"""Teachers and students of `hgraph distill`, and their input data."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import TYPE_CHECKING, Any

from hgraph.errors import ArgumentError
from hgraph.models.registry import ModelEntry, select

if TYPE_CHECKING:
    import torch

    from hgraph.data import Data, Dataset, Split
    from hgraph.structure import Graph, Hypergraph, KnowledgeGraph


class Student(Enum):
    """Kinds of MLP: that of LightHGNN, or one for word counts that is better on new nodes."""

    PUBLISHED = "published"
    WORDS = "words"


class Setting(Enum):
    """Nodes that are in training: all, or all but a fraction of the test nodes."""

    TRANSDUCTIVE = "transductive"
    PRODUCTION = "production"


MLP = select(task="node classification", student=True)[0]
# student -> (options of the MLP, description for the report)
STUDENTS: dict[Student, tuple[dict[str, Any], str]] = {
    Student.PUBLISHED: ({}, "BatchNorm, dropout 0.5"),
    Student.WORDS: (
        {"norm": False, "unit_rows": True, "input_dropout": 0.5},
        "no BatchNorm, rows normalized to length one, input dropout 0.5, dropout 0.5",
    ),
}
POSITIONS = 64  # coordinates of a node in the structure that a student of NOSMOG reads
UNSEEN = 0.2  # fraction of test nodes that GLNN leaves out of training


def prepare(dataset: Dataset, model: ModelEntry, setting: Setting, seed: int) -> Data:
    """The data with the splits of the setting and with structures of the kind that the model needs."""
    from hgraph.data import Split
    from hgraph.structure import Hypergraph

    data = dataset[0]
    if setting is Setting.PRODUCTION and model.of_one_graph:
        hint = "Use --setting transductive, or another --model"
        raise ArgumentError("setting", f"transductive ({model.title} learns a vector per node)", setting.value, hint)
    if "default" not in data.splits:
        raise ArgumentError("dataset", "a data set with a train and test split", repr(dataset.name))
    splits = {"default": data.split()}
    if setting is Setting.PRODUCTION:
        splits["production"] = Split.production(data, data.split(), unseen_fraction=UNSEEN, seed=seed)
    if model.data == "knowledge graph":
        return _with_triples(data, model, splits)
    adapt = as_graph if model.data == "graph" else as_hypergraph
    whole = adapt(data.structure)
    for name, split in splits.items():
        structure = whole if split.structure is data.structure else adapt(split.structure)
        splits[name] = dataclasses.replace(split, structure=structure)
    meta = dict(data.meta)
    if (names := meta.get("hyperedge_names")) and isinstance(whole, Hypergraph):
        meta["hyperedge_names"] = (*names, *[""] * (whole.num_hyperedges - len(names)))  # those of isolated nodes
    return dataclasses.replace(data, structure=whole, splits=splits, meta=meta)


def _with_triples(data: Data, model: ModelEntry, splits: dict[str, Split]) -> Data:
    """The data with its triples and their inverses as the structure."""
    whole: Any = structure_for(model, data)
    for name, split in splits.items():
        structure = whole if split.observed is None else whole.subgraph(split.observed)
        splits[name] = dataclasses.replace(split, structure=structure)
    return dataclasses.replace(data, structure=whole, splits=splits)


def added(dataset: Dataset, model: ModelEntry) -> list[str]:
    """Sentences on what `prepare` and the layers add to the structure, for the report."""
    from hgraph.structure import Graph

    structure = dataset[0].structure
    if model.data == "features":
        return []
    if model.data == "knowledge graph":
        return ["Each triple is used in both directions; the inverse of a relation is a separate relation."]
    if model.data == "graph":
        notes = (
            []
            if isinstance(structure, Graph)
            else ["The members of each hyperedge are connected pairwise (clique expansion)."]
        )
        if model.name in ("gcn", "gat"):
            graph = as_graph(structure)
            source, target = graph.edge_index
            lacking = graph.num_nodes - int((source == target).sum())
            notes.append(f"{lacking:,} of {graph.num_nodes:,} nodes have no self-loop; {model.title} adds one to each.")
        return notes
    notes = ["Each edge is a hyperedge of two nodes."] if isinstance(structure, Graph) else []
    adjacency = structure.adj if isinstance(structure, Graph) else structure.e2v
    if isinstance(structure, Graph):
        source, target = structure.edge_index
        connected = {*source.tolist(), *target.tolist()}
        isolated = structure.num_nodes - len(connected)
    else:
        isolated = int((adjacency.indptr.diff() == 0).sum())
    if isolated:
        notes.append(f"{isolated:,} nodes are in no hyperedge; each gets a hyperedge with itself as the only member.")
    return notes


def split_of(setting: Setting) -> str:
    """The name of the setting's split in the result of `prepare`."""
    return "default" if setting is Setting.TRANSDUCTIVE else setting.value


def networks_of(
    data: Data,
    teacher: ModelEntry,
    student: Student,
    seed: int,
    *,
    hidden: int | None = None,
    positions: int = 0,
    **shape: Any,
) -> dict[str, torch.nn.Module]:
    """The ``teacher``, the ``mlp`` and the ``student`` of a distillation, initialized under the seed.

    ``hidden`` and ``shape`` are the width and other arguments of the teacher; ``positions`` is how many coordinates the
    student reads after the features.
    """
    from hgraph.distill import WithPositions
    from hgraph.train import build_model

    options = STUDENTS[student][0]
    if positions:
        wide = build_model(MLP, data, seed=seed, **options, in_channels=data.num_features + positions)
        return networks_of(data, teacher, student, seed, hidden=hidden, **shape) | {
            "student": WithPositions(wide, data.num_features).to(data.x.device)
        }
    return {
        "mlp": build_model(MLP, data, seed=seed, **options).to(data.x.device),
        "teacher": build_model(teacher, data, seed=seed, hidden_size=hidden, **shape).to(data.x.device),
        "student": build_model(MLP, data, seed=seed, **options).to(data.x.device),
    }


def positions_of(data: Data, split: str, size: int) -> torch.Tensor | None:
    """Positions [N, size] of all nodes by the training structure; unseen nodes get the mean of those around them."""
    from hgraph.distill import extend_positions, position_features

    if not size:
        return None
    parts = data.split(split)
    known = position_features(parts.structure, size)
    if parts.observed is not None:
        known = extend_positions(data.structure, known, parts.observed)
    return known * data.x.norm(dim=1).mean()  # as long as a row of features, so that neither drowns the other


def structure_for(model: ModelEntry, data: Data) -> Graph | Hypergraph | KnowledgeGraph | None:
    """The structure of the data in the form that the network takes; None if it takes none."""
    from hgraph.data import knowledge_graph

    if model.data == "features":
        return None
    if model.data == "knowledge graph":
        return knowledge_graph(data).with_inverses()  # messages flow in both directions
    return as_graph(data.structure) if model.data == "graph" else as_hypergraph(data.structure)


def as_hypergraph(structure: Graph | Hypergraph) -> Hypergraph:
    """A hypergraph without isolated nodes; each edge of a graph, in either direction, becomes one hyperedge."""
    import torch

    from hgraph.structure import Graph, Hypergraph

    if isinstance(structure, Graph):
        edges, weight = structure.edge_index, structure.adj.weight
        pairs, first = torch.unique(edges.sort(0).values, dim=1, return_inverse=True)
        if weight is not None:
            weight = weight.new_zeros(pairs.shape[1]).scatter_reduce(0, first, weight, "amax", include_self=False)
        ids, proper = torch.arange(pairs.shape[1]), pairs[0] != pairs[1]
        structure = Hypergraph.from_coo(
            node=torch.cat([pairs[0], pairs[1][proper]]),
            hyperedge=torch.cat([ids, ids[proper]]),
            num_nodes=structure.num_nodes,
            num_hyperedges=len(ids),
            hyperedge_weight=weight,
        )
    return structure.with_singletons()


def as_graph(structure: Graph | Hypergraph) -> Graph:
    """The graph itself, or the clique expansion of a hypergraph."""
    from hgraph.structure import Hypergraph

    return structure.clique() if isinstance(structure, Hypergraph) else structure
