"""Signs that data reveals what a model should predict, one sentence each; a few passes over the data, no training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from torch import Tensor

from hgraph.data.interactions import Interactions, TripleSplit
from hgraph.data.labels import labeled
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph
from hgraph.structure.knowledge_graph import KnowledgeGraph

__all__ = [
    "class_hyperedges",
    "copies_of_label",
    "inverse_triples",
    "num_repeated",
    "repeated_rows",
    "repeated_triples",
    "revealed_pairs",
]

_DISTINCT = 1 / 3  # of the rows; with fewer distinct rows, equal rows are to be expected


def copies_of_label(
    columns: Mapping[str, Iterable[str]],
    label: Iterable[str],
    *,
    missing: Collection[str] = ("",),
    canonical: Callable[[str], str] = str,
) -> list[str]:
    """Columns that are the label itself or a one-to-one code of it, over the rows that have both.

    Args:
        columns: the cells of each column.
        label: the cells of the label.
        missing: values of missing cells.
        canonical: a function that maps all ways to write a value to the same string.

    >>> copies_of_label({"code": ["7", "9", "7", ""], "size": ["1", "2", "3", "4"]}, ["a", "b", "a", "b"])
    ["Column 'code' is a one-to-one code of the label: it reveals the answer."]
    """
    classes, found = list(label), []
    for name, cells in columns.items():
        both = [(c, y) for c, y in zip(cells, classes, strict=True) if c not in missing and y not in missing]
        pairs = {(canonical(c), canonical(y)) for c, y in set(both)}
        ways = {len({pair[side] for pair in pairs}) for side in (0, 1)}
        if ways != {len(pairs)} or len(pairs) < 2:
            continue
        if all(c == y for c, y in pairs):
            found.append(f"Column {name!r} is a copy of the label: it reveals the answer.")
        elif len(pairs) < len(both):  # a column of ids is one-to-one with a label that never repeats
            found.append(f"Column {name!r} is a one-to-one code of the label: it reveals the answer.")
    return found


def repeated_rows(x: Tensor, train: Tensor, val: Tensor, test: Tensor) -> list[str]:
    """How many held-out rows have exactly the features of a training row.

    The result is empty for tables with few distinct rows, where equal rows are to be expected.

    >>> x = torch.tensor([[1.0], [2.0], [1.0], [3.0]])
    >>> repeated_rows(x, torch.tensor([0, 1]), torch.tensor([3]), torch.tensor([2]))
    ['1 of 1 test rows have exactly the features of a training row.']
    """
    if x.shape[1] == 0 or len(x) == 0:
        return []
    ids = torch.cat([train, val, test])
    distinct, number = torch.unique(x[ids], dim=0, return_inverse=True)
    if len(distinct) < _DISTINCT * len(ids):
        return []
    groups = number.split([len(train), len(val), len(test)])
    found = []
    for name, group in (("validation", groups[1]), ("test", groups[2])):
        count = int(torch.isin(group, groups[0]).sum())
        if count:
            found.append(f"{count:,} of {len(group):,} {name} rows have exactly the features of a training row.")
    return found


def class_hyperedges(structure: Graph | Hypergraph, y: Tensor) -> list[str]:
    """How many classes have a hyperedge with exactly their nodes (and perhaps unlabeled ones).

    >>> teams = Hypergraph.from_lists([[0, 1], [2, 3], [1, 2]], num_nodes=4)
    >>> class_hyperedges(teams, torch.tensor([0, 0, 1, 1]))
    ['2 of 2 classes have a hyperedge with exactly their nodes: the structure reveals the label.']
    """
    if not isinstance(structure, Hypergraph) or y.dim() != 1 or y.is_floating_point():
        return []
    node = structure.v2e.indices.long()
    known = labeled(y)[node]
    hyperedge, label = structure.v2e.target.long()[known], y[node][known]
    sizes = torch.bincount(y[labeled(y)])
    if not len(hyperedge) or not len(sizes):
        return []
    members = torch.bincount(hyperedge, minlength=structure.num_hyperedges)
    lowest = torch.full_like(members, len(sizes)).scatter_reduce(0, hyperedge, label, "amin")
    highest = torch.full_like(members, -1).scatter_reduce(0, hyperedge, label, "amax")
    pure = (lowest == highest) & (members > 1)
    whole = lowest[pure][members[pure] == sizes[lowest[pure]]].unique()
    num_classes = int((sizes > 0).sum())
    if not len(whole) or num_classes < 2:
        return []
    what = "have a hyperedge with exactly their nodes: the structure reveals the label"
    return [f"{len(whole):,} of {num_classes:,} classes {what}."]


def inverse_triples(split: TripleSplit) -> list[str]:
    """How many held-out triples follow from a training triple, under a relation and its inverse.

    Relation s counts as the inverse of r if at least half of the training triples (h, r, t) come with (t, s, h); a
    symmetric relation is its own inverse.

    >>> from hgraph.structure import KnowledgeGraph
    >>> names = [("a", "likes", "b"), ("b", "liked by", "a"), ("b", "likes", "c"), ("c", "liked by", "b")]
    >>> kg = KnowledgeGraph.from_names(names)
    >>> test = (kg.triples[:, 0] == 2) & (kg.triples[:, 1] == 1)
    >>> parts = [kg.triples[~test], kg.triples[:0], kg.triples[test]]
    >>> inverse_triples(TripleSplit.of_triples(parts, num_nodes=3, num_relations=2))
    ['1 of 1 test triples have their inverse in training, such as relation 0 of relation 1.']
    """
    train = split.train.triples.unique(dim=0)
    inverse = _inverse_relations(train, split.train.num_nodes, split.train.num_relations)
    names, found = split.train.relation_names, []
    for name, part in (("validation", split.val), ("test", split.test)):
        triple, other = _opposites(part.triples, train, part.num_nodes)
        pair = torch.stack([part.triples[triple, 1], other])
        hit = torch.isin(pair[0] * split.train.num_relations + pair[1], inverse)
        if bool(hit.any()):
            r, s = (repr(names[int(i)]) if names is not None else f"relation {int(i)}" for i in pair[:, hit][:, 0])
            count = len(triple[hit].unique())
            what = f"have their inverse in training, such as {s} of {r}"
            found.append(f"{count:,} of {part.num_edges:,} {name} triples {what}.")
    return found


def _inverse_relations(train: Tensor, num_nodes: int, num_relations: int) -> Tensor:
    """The codes R r + s of relations r and their inverses s."""
    triple, other = _opposites(train, train, num_nodes)
    code, count = (train[triple, 1] * num_relations + other).unique(return_counts=True)
    total = torch.bincount(train[:, 1], minlength=num_relations)
    return code[2 * count >= total[code // max(num_relations, 1)]]


def _opposites(triples: Tensor, train: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """For each training triple (t, s, h) opposite to one of ``triples``: the index of that one, and s. No loops."""
    code = train[:, 0] * num_nodes + train[:, 2]
    code, order = code.sort()
    wanted = triples[:, 2] * num_nodes + triples[:, 0]
    first = torch.searchsorted(code, wanted)
    count = (torch.searchsorted(code, wanted, right=True) - first) * (triples[:, 0] != triples[:, 2])
    triple = torch.arange(len(triples), device=train.device).repeat_interleave(count)
    within = torch.arange(len(triple), device=train.device) - (count.cumsum(0) - count)[triple]
    return triple, train[order[first[triple] + within], 1]


def num_repeated(part: KnowledgeGraph, train: KnowledgeGraph) -> int:
    """The number of distinct triples of ``part`` that are also in ``train``, which has the same ids."""
    own, known = part.triples.unique(dim=0), train.triples.unique(dim=0)
    return len(own) + len(known) - len(torch.cat([own, known]).unique(dim=0))


def repeated_triples(split: TripleSplit) -> list[str]:
    """How many held-out triples are also training triples.

    >>> from hgraph.structure import KnowledgeGraph
    >>> kg = KnowledgeGraph.from_names([("a", "likes", "b"), ("b", "likes", "c")])
    >>> repeated_triples(TripleSplit(kg, kg, kg))[1]
    '2 of 2 test triples are also training triples.'
    """
    found = []
    for name, part in (("validation", split.val), ("test", split.test)):
        count = num_repeated(part, split.train)
        if count:
            found.append(f"{count:,} of {part.num_edges:,} {name} triples are also training triples.")
    return found


def revealed_pairs(data: Interactions) -> list[str]:
    """How many held-out interactions are also triples, between the item and an entity with the name of the user.

    >>> from hgraph.structure import KnowledgeGraph
    >>> kg = KnowledgeGraph.from_names([("Dune", "precedes", "Ubik"), ("Ubik", "read by", "ann")])
    >>> pairs = [[0], [0]], [[], []], [[0], [1]]
    >>> revealed_pairs(Interactions.from_pairs(*pairs, kg, num_users=1, num_items=2, user_names=["ann"]))
    ['1 of 1 test pairs are also triples: the knowledge graph reveals them.']
    """
    names, users = data.kg.node_names, data.user_names
    if names is None or users is None or not data.kg.num_edges:
        return []
    entity = {name: i for i, name in enumerate(names)}
    of_user = torch.tensor([entity.get(name, -1) for name in users], dtype=torch.long)
    if not bool((of_user >= 0).any()):
        return []
    size = data.kg.num_nodes
    head, _, tail = data.kg.triples.cpu().unbind(1)
    linked = torch.cat([head * size + tail, tail * size + head]).unique()
    found = []
    for name, part in (("validation", data.val), ("test", data.test)):
        user, item = of_user[part.target.long().cpu()], part.indices.long().cpu()
        count = int((torch.isin(user * size + item, linked) & (user >= 0)).sum())
        if count:
            what = "pairs are also triples: the knowledge graph reveals them"
            found.append(f"{count:,} of {part.num_edges:,} {name} {what}.")
    return found
