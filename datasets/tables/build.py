"""`from_tables`: tables of nodes and of hyperedges or edges to a data set that trains."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hgraph.data import Data, Dataset, Split
from hgraph.datasets.tables import division, hif, ids, incidence, inputs, kinds, quantities
from hgraph.datasets.tables.cells import canonical
from hgraph.datasets.tables.encoder import Encoder
from hgraph.datasets.tables.incidence import Duplicates
from hgraph.datasets.tables.roles import ROLES, Roles
from hgraph.datasets.tables.table import Table, joined, read_table, wrong
from hgraph.errors import ArgumentError
from hgraph.structure import Graph, Hypergraph

__all__ = ["from_tables"]

_LOG = logging.getLogger("hgraph")
_IDENTITY = 2048  # without features, so many nodes are told apart by one column each; more by their degree
_SPLITS = ("stratified", "temporal", "given")


@dataclass(frozen=True)
class Links:
    """How the table of hyperedges or edges is read."""

    hyper: bool
    directed: bool
    duplicates: Duplicates
    separator: str | None
    decimal: str | None = None


@dataclass(frozen=True)
class Labels:
    """y [N], and what it means."""

    y: Tensor
    task: str
    target_spec: dict[str, Any]
    class_names: tuple[str, ...] | None = None


def from_tables(
    nodes: Any = None,
    hyperedges: Any = None,
    edges: Any = None,
    *,
    label: str | None = None,
    columns: Mapping[str, str] | None = None,
    types: Mapping[str, str] | None = None,
    task: Literal["classification", "regression"] | None = None,
    directed: bool = False,
    duplicates: Duplicates = "error",
    separator: str | None = None,
    missing: Collection[str] = kinds.MISSING,
    decimal: Literal[".", ","] | None = None,
    split: Literal["stratified", "temporal", "given"] = "stratified",
    split_column: str | None = None,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    name: str = "my-set",
    license: str = "not stated",
    redistribute: bool = False,
    citation: str = "not stated",
) -> Dataset:
    """Build a data set of one graph or hypergraph from your own tables.

    A table is a path to a CSV or Parquet file, a dict of columns, a pandas DataFrame, a pyarrow Table, or what
    `read_table` returns. Columns are known by their names, in any case (``columns`` names others):

    - ``nodes``, one row a node: ``id`` (or node, node_id, ...); every other column becomes features. Without it the
      nodes are those that the other table names, in order of appearance.
    - ``hyperedges``, long: ``node``, ``hyperedge``, one row an incidence, and if there are ``weight``, ``time``.
    - ``hyperedges``, wide: ``members``, one row a hyperedge, and if there are ``hyperedge`` (its id), ``weight``,
      ``time``. Members are divided by ``separator``; no member is a hyperedge without members.
    - ``hyperedges``, a HIF file (``.json``): its node attributes become the columns of ``nodes``.
    - ``edges``: ``source``, ``target``, and if there are ``weight``, ``time``.
    - ``edges``, triples: ``head``, ``relation``, ``tail``. The graph is directed, messages go from tail to head, and
      parallel edges stay apart; ``meta["relation"]`` [E] numbers ``meta["relation_names"]``, in the edges' order.

    Ids are text: 7 and 07 are two nodes. Nodes in no edge are kept; an id that ``nodes`` does not have is an
    error. What a column of ``nodes`` means is inferred from all its cells (the rules are those of
    `hgraph.datasets.tables.kinds.infer`) and encoded by an `Encoder` that has seen the training rows alone.
    Without any feature, x is the identity for at most 2,048 nodes, else a one and the logarithm of the degree,
    standardised.

    Args:
        nodes: the table of nodes.
        hyperedges: their memberships; or
        edges: their edges.
        label: the column of ``nodes`` to predict. Missing labels are kept as -1 (NaN for regression).
        columns: role -> column: ``{"id": "isbn", "node": "book", "hyperedge": "reader"}``; roles are id, node,
            hyperedge, members, source, target, head, relation, tail, weight, time.
        types: column -> ``"numeric"``, ``"boolean"``, ``"categorical"``, ``"text"``, ``"date"`` or ``"ignore"``, where
            the inferred kind is wrong.
        task: None takes regression for numbers with fractions, else classification. Class names are kept, sorted.
        directed: whether an edge is heard in one direction only; triples always are.
        duplicates: a pair that stands twice is an ``"error"``, or the weights (1 where there are none) ``"sum"`` up,
            or the ``"first"`` counts.
        separator: between the members of a cell; None takes the first of semicolon, bar and space that occurs.
        missing: texts that mean a missing cell; where one could be a class or a category, that is said. In columns of
            ids, weights and splits only the empty one does.
        decimal: the decimal sign of numbers; None is the point, and a column with 1,5 or 1,234 is refused.
        split: ``"stratified"`` draws ``shares`` of every class under ``seed``; ``"temporal"`` lets the oldest rows of
            ``split_column`` train and the newest test; ``"given"`` reads train, val or test in ``split_column``.
            Rows without a label are in no part. The column is no feature unless ``types`` names it.
        split_column: a column of ``nodes``.
        shares: of train, validation and test.
        seed: of the stratified split.
        name: of the data set.
        license: the terms of your data.
        redistribute: whether they allow passing it on.
        citation: whom to cite.

    Returns:
        One `Data`, the split as ``"default"``. Its ``meta`` has ``node_names``, ``hyperedge_names``,
        ``class_names``, ``feature_names``, and where ``nodes`` has features the ``encoder`` for new rows and the
        ``node_cells`` it has read, with which another encoder can read them again (`Inputs.applied`).

    Raises:
        ArgumentError: arguments that contradict each other, or name a column that is not there.
        DataError: a cell that cannot be meant; names file, line and column.

    >>> people = {"id": ["ada", "ben", "cleo", "dan"], "age": [36, 41, 28, None], "team": ["a", "b", "a", "b"]}
    >>> meetings = {"members": [["ada", "ben"], ["cleo", "ada"]]}
    >>> data = from_tables(people, meetings, label="team", shares=(0.5, 0, 0.5))[0]
    >>> data.structure.to_lists(), data.y.tolist(), data.meta["class_names"]
    ([[0, 1], [0, 2]], [0, 1, 0, 1], ('a', 'b'))
    """
    if (hyperedges is None) == (edges is None):
        got = "neither" if edges is None else "both"
        hint = "To join similar rows, see hgraph.builders.knn_hypergraph" if edges is None else ""
        raise ArgumentError("hyperedges", "either hyperedges or edges", got, hint)
    given = _checked_roles(columns)
    if decimal not in (None, ".", ","):
        raise ArgumentError("decimal", "'.', ',' or None", repr(decimal))
    shares = division.checked_shares(shares)
    if split not in _SPLITS:
        raise ArgumentError("split", f"one of {list(_SPLITS)}", repr(split))
    if (split != "stratified") != (split_column is not None):
        raise ArgumentError("split_column", "a column for the splits 'temporal' and 'given' alone", repr(split_column))
    if nodes is None and not hif.is_hif(hyperedges) and (label is not None or types or split_column is not None):
        raise ArgumentError("nodes", "a table with the columns of label, types and split_column", None)

    options = Links(hyperedges is not None, directed, duplicates, separator, decimal)
    table, key, index, made = _gathered(nodes, hyperedges if options.hyper else edges, given, options)
    labels = _labels(table, label, task, missing, len(index))
    parts = _parts(table, labels, split, split_column, shares, seed)
    encoder, used = Encoder((), missing), {}
    if table is not None:
        own = {c for c in (key, label, split_column) if c is not None}
        used = kinds.kinds_of(table, types, missing, leave_out=own)
        rows = parts[0].numpy() if len(parts[0]) else None
        encoder = Encoder.fit(table, used, rows=rows, missing=missing, decimal=decimal)
    gone = {} if table is None else _read_as_missing(table, label, used, missing)
    for text in gone.values():
        _LOG.warning("%s: %s", name, text)
    x, feature_names = _features(encoder, table, made.structure, list(index))
    names: dict[str, Any] = {
        "node_names": tuple(index),
        "class_names": labels.class_names,
        "feature_names": feature_names,
    }
    if table is not None and encoder.codings:  # also where they give no feature here: another encoder may read them
        names["node_cells"] = {coding.name: joined(table[coding.name]) for coding in encoder.codings}
    if encoder.feature_names:
        names["encoder"] = encoder
    elif feature_names == inputs.DEGREE:
        names["degree_moments"] = _moments(made.structure)
    splits = {"default": Split(made.structure, *parts)} if any(map(len, parts)) else {}
    data = Data(made.structure, x, labels.y, splits, made.meta | names).validate()
    return Dataset(
        name,
        [data],
        task=labels.task,
        target_spec=labels.target_spec,
        license=license,
        redistribute=redistribute,
        citation=citation,
        caveats=(*gone.values(), *_caveats(made, encoder, used, split)),
    )


# ---------------------------------------------------------------------- nodes and structure


def _checked_roles(columns: Mapping[str, str] | None) -> dict[str, str]:
    given = dict(columns or {})
    for role in given:
        if role not in ROLES:
            raise ArgumentError("columns", f"roles among {list(ROLES)}", repr(role))
    return given


def _gathered(
    nodes: Any, links: Any, given: Mapping[str, str], options: Links
) -> tuple[Table | None, str | None, dict[str, int], incidence.Made]:
    """The table of nodes and its column of ids, if there is one; id -> node; the structure."""
    if hif.is_hif(links):
        if nodes is not None or not options.hyper:
            raise ArgumentError("nodes", "None with hyperedges= a HIF file, which holds the nodes itself", "a table")
        return hif.read(links)
    linked = read_table(links, name="hyperedges" if options.hyper else "edges")
    roles = Roles(dataclasses.replace(linked, decimal=options.decimal), given)
    table = key = None
    if nodes is None:
        known, index = "", incidence.nodes(roles, options.hyper, options.separator)
    else:
        table = dataclasses.replace(read_table(nodes, name="nodes"), decimal=options.decimal)
        (key,) = Roles(table, given).need("id")
        known, index = table.source, ids.unique(table, key, "node")
    if options.hyper:
        return table, key, index, incidence.from_hyperedges(roles, index, known, options.separator, options.duplicates)
    return table, key, index, incidence.from_edges(roles, index, known, options.directed, options.duplicates)


# ---------------------------------------------------------------------- labels, parts, features


def _labels(table: Table | None, label: str | None, task: str | None, missing: Collection[str], n: int) -> Labels:
    """What is to be predicted; without a label, -1 for every node and nothing to train on."""
    if table is None or label is None:
        return Labels(torch.full((n,), -1), "none: no column is the label", {"kind": "none"})
    if label not in table.columns:
        raise ArgumentError("label", f"a column of {table.source}: {list(table.columns)}", repr(label))
    values: set[str] = set()
    for cells in table[label]:
        values |= set(cells)
    values.difference_update(missing)
    numbers, marks = kinds.floats(values), quantities.mark_of(values)
    if numbers is None and marks is not None and len(marks) == 1 and task is None:
        got = f"numbers with a sign or a comma, such as {sorted(values)[0]!r}"
        hint = "Give task='regression' or 'classification' (--task)"
        raise wrong(f"{table.source}: column {label!r}", "class names or plain numbers", got, hint)
    mark = next(iter(marks)) if marks is not None and len(marks) == 1 else ""
    fractions = numbers is not None and len(numbers) > 0 and bool((numbers != np.round(numbers)).any())
    if task == "regression" or (task is None and fractions):
        hint = "Leave the cell empty if it is missing, or give task='classification' (--task classification)"
        y = torch.tensor(kinds.read(table, label, "numeric", missing, hint, mark), dtype=torch.float32)
        return Labels(y, "node regression", {"kind": "real"})
    # numbers in their order, words in theirs
    names = tuple(sorted(set(map(canonical, values)), key=(lambda v: (float(v), v)) if numbers is not None else None))
    number = {name: i for i, name in enumerate(names)}
    index = {value: number[canonical(value)] for value in values}
    y = torch.tensor([index.get(cell, -1) for cells in table[label] for cell in cells], dtype=torch.long)
    return Labels(y, "node classification", {"kind": "class", "num_classes": len(names)}, names)


def _parts(
    table: Table | None, labels: Labels, split: str, column: str | None, shares: Sequence[float], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    if table is None or column is None:
        return division.stratified(labels.y, shares, seed)
    if column not in table.columns:
        raise ArgumentError("split_column", f"a column of {table.source}: {list(table.columns)}", repr(column))
    labelled = ~labels.y.isnan() if labels.y.is_floating_point() else labels.y >= 0
    if labels.class_names is None and not labels.y.is_floating_point():
        labelled = torch.ones_like(labelled)  # no label at all: the parts serve other tasks
    if split == "temporal":
        return division.by_time(table, column, labelled, shares)
    return division.given(table, column, labelled)


def _features(
    encoder: Encoder, table: Table | None, structure: Graph | Hypergraph, names: Sequence[str]
) -> tuple[Tensor, tuple[str, ...]]:
    """x [N, F]: what the encoder makes of the table, or where that is nothing, who the node is or its degree."""
    if table is not None and encoder.feature_names:
        return encoder.transform(table), encoder.feature_names
    n = structure.num_nodes
    if n <= _IDENTITY:
        return torch.eye(n), tuple(f"{inputs.IDENTITY}{name}" for name in names)
    mean, deviation = _moments(structure)
    degree = (inputs.log_degree(structure) - mean) / max(deviation, 1e-6)
    return torch.stack([torch.ones(n), degree], 1), inputs.DEGREE


def _moments(structure: Graph | Hypergraph) -> tuple[float, float]:
    degree = inputs.log_degree(structure)
    return float(degree.mean()), float(degree.std())


def _read_as_missing(
    table: Table, label: str | None, used: Mapping[str, str], missing: Collection[str]
) -> dict[str, str]:
    """Column -> what is to be said of texts in it that could be a class or a category, and are read as missing."""
    found = {}
    texts = frozenset(missing) - {""}
    for name in [n for n in (label,) if n is not None] + [n for n, kind in used.items() if kind == "categorical"]:
        counts: dict[str, int] = {}
        for cells in table[name]:
            if not texts.isdisjoint(cells):
                for cell in cells:
                    if cell in texts:
                        counts[cell] = counts.get(cell, 0) + 1
        if counts:
            said = ", ".join(f"{count:,} {text!r}" for text, count in counts.items())
            what = "class" if name == label else "category"
            found[name] = f"Column {name!r}: {said} read as missing, not as a {what}. --missing '' keeps them as one."
    return found


def _caveats(made: incidence.Made, encoder: Encoder, kinds_used: Mapping[str, str], split: str) -> tuple[str, ...]:
    """What a user should know of the set, one sentence each."""
    structure = made.structure
    adjacency = structure.adj if isinstance(structure, Graph) else structure.e2v
    lone = int((adjacency.indptr.diff() == 0).sum())
    notes = ["Features are encoded by statistics of the training nodes alone."]
    if not encoder.feature_names:
        notes = ["There are no features: x tells who a node is (the identity) or, of many nodes, its degree."]
    if lone:
        notes.append(f"{lone:,} nodes hear nobody; they are kept.")
    marked = [c for c in encoder.codings if c.kind == "numeric" and c.words]
    notes += [f"Column {c.name!r} is read as numbers with {c.words[0]!r}." for c in marked]
    notes += [
        f"Column {n!r} has no cell that says anything, and is left out." for n, k in kinds_used.items() if k == "ignore"
    ]
    empty = [c.name for c in encoder.codings if not c.features()]
    notes += [f"Column {n!r} gives no feature: no category or word in it is common to training rows." for n in empty]
    if made.unused:
        notes.append(f"Columns beside the memberships or edges that are not used: {', '.join(made.unused)}.")
    notes.append(f"The default split is {split}.")
    return tuple(notes)
