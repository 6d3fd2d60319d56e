"""`from_tables`: builds a data set from a table of nodes and a table of hyperedges or edges."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.convert.ntriples import ntriples
from hgraph.data import Data, Dataset, Split
from hgraph.data.derived import FEATURES_FROM, STRUCTURE_FROM, features_from
from hgraph.data.labels import labeled
from hgraph.data.leaks import class_hyperedges, copies_of_label, repeated_rows
from hgraph.datasets.tables import division, hif, ids, incidence, inputs, kinds, quantities
from hgraph.datasets.tables import notes as notes_of
from hgraph.datasets.tables.cells import canonical
from hgraph.datasets.tables.encoder import Encoder
from hgraph.datasets.tables.incidence import Duplicates
from hgraph.datasets.tables.roles import ROLES, Roles
from hgraph.datasets.tables.table import Table, joined, read_table, wrong
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Graph, Hypergraph

__all__ = ["from_tables"]

_LOG = logging.getLogger("hgraph")
_IDENTITY = 2048  # without features, up to so many nodes get a one-hot column each; more nodes get their degree
_SPLITS = ("stratified", "temporal", "given")


@dataclass(frozen=True)
class Links:
    """Options for reading the table of hyperedges or edges."""

    hyper: bool
    directed: bool
    duplicates: Duplicates
    separator: str | None
    decimal: str | None = None
    delimiter: str | None = None


@dataclass(frozen=True)
class Labels:
    """Labels y [N] with their task and class names."""

    y: Tensor
    task: str
    target_spec: dict[str, Any]
    class_names: tuple[str, ...] | None = None


def from_tables(
    nodes: Any = None,
    hyperedges: Any = None,
    edges: Any = None,
    *,
    label: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    types: Mapping[str, str] | None = None,
    task: Literal["classification", "regression"] | None = None,
    directed: bool = False,
    duplicates: Duplicates = "error",
    separator: str | None = None,
    node_type: str | None = None,
    knn: int | None = None,
    metric: str = "euclidean",
    missing: Collection[str] = kinds.MISSING,
    decimal: Literal[".", ","] | None = None,
    delimiter: str | None = None,
    split: Literal["stratified", "temporal", "given"] = "stratified",
    split_column: str | None = None,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    name: str = "my-set",
    license: str = "not stated",
    redistribute: bool = False,
    citation: str = "not stated",
) -> Dataset:
    """Build a data set of one graph or hypergraph from tables.

    A table is a path to a CSV or Parquet file, a dict of columns, a pandas DataFrame, a pyarrow Table, or the result
    of `read_table`. Columns are found by their names, ignoring case (use ``columns`` for other names):

    - ``nodes``, one row per node: ``id`` (or node, node_id, ...); every other column becomes features. Without this
      table, the nodes are those in the other table, in order of appearance.
    - ``hyperedges``, long: ``node``, ``hyperedge``, one row per incidence; optionally ``weight``, ``time``.
    - ``hyperedges``, wide: ``members``, one row per hyperedge; optionally ``hyperedge`` (its id), ``weight``,
      ``time``. Members are separated by ``separator``; an empty cell is an empty hyperedge.
    - ``hyperedges``, a HIF file or a file of XGI (``.json``): its node attributes become the columns of ``nodes``.
    - ``hyperedges``, a file without a header (``read_table(path, names=["members"])``): each line lists the members of
      one hyperedge.
    - ``edges``: ``source``, ``target``; optionally ``weight``, ``time``.
    - ``edges``, a GraphML or GML file (``.graphml``, ``.gml``): its node attributes become the columns of ``nodes``.
    - ``edges``, an N-Triples file (``.nt``), as triples.
    - ``edges``, triples: ``head``, ``relation``, ``tail``. The graph is directed, messages go from tail to head, and
      parallel edges are kept; ``meta["relation"]`` [E] indexes ``meta["relation_names"]``, in the order of the edges.

    Ids are text: 7 and 07 are different nodes. Nodes without edges are kept; an id that is not in ``nodes`` is an
    error. The kind of a column of ``nodes`` is inferred from its cells outside of the test rows (by the rules of
    `hgraph.datasets.tables.kinds.infer`), and an `Encoder` that is fitted on the training rows encodes it. Without
    features, x is the identity for at most 2,048 nodes; above that, each node has the two features 1 and
    log(1 + degree).

    Args:
        nodes: the table of nodes.
        hyperedges: the table of hyperedges or incidences; or
        edges: the table of edges.
        label: the column of ``nodes`` to predict. Missing labels become -1 (NaN for regression). Several columns of
            true/false, yes/no or 1/0 are a set of labels per node (multi-label), named by these columns: y is
            boolean [N, C], or floats with NaN if cells are missing.
        columns: role -> column: ``{"id": "isbn", "node": "book", "hyperedge": "reader"}``; roles are id, node,
            hyperedge, members, source, target, head, relation, tail, weight, time. Any other key is the new name of a
            column of ``nodes``: ``{"age": "Alter"}``.
        types: column -> ``"numeric"``, ``"boolean"``, ``"categorical"``, ``"text"``, ``"date"`` or ``"ignore"``, if
            the inferred kind, or that of a typed header, is wrong.
        task: None chooses regression for labels with fractions, else classification. Class names are sorted.
        directed: whether messages follow an edge in one direction only; always True for triples.
        duplicates: what to do with repeated pairs: ``"error"`` raises, ``"sum"`` adds their weights (1 if there are
            none), ``"first"`` uses the first.
        separator: separates the members in a cell; None chooses the first of semicolon, bar, tab, comma and space
            that occurs.
        node_type: a column of ``nodes`` with the type of each node, for networks over triples such as HGT; it is also a
            feature. ``meta["node_type"]`` [N] indexes ``meta["type_names"]``.
        knn: number of neighbors: instead of ``hyperedges`` or ``edges``, each node gets a hyperedge of itself and the
            nodes with the nearest features, see `hgraph.builders.knn_hypergraph`. A production split recomputes it
            from the nodes that training may use.
        metric: the distance of these features, ``"euclidean"`` or ``"cosine"``.
        missing: texts that mean a missing cell; a warning is logged if one could be a class or a category. In columns
            of ids, weights and splits, only the empty text is missing.
        decimal: the decimal separator; None means a period, and columns with 1,5 or 1,234 are refused.
        delimiter: the character between fields of CSV files; None detects it, see `read_table`.
        split: ``"stratified"`` samples ``shares`` of each class (with several labels: of all rows) with ``seed``;
            ``"temporal"`` uses the oldest rows by ``split_column`` for training and the newest for testing; ``"given"``
            reads train, val or test from ``split_column``. Rows without a label are in no part. The column becomes a
            feature only if ``types`` contains it.
        split_column: a column of ``nodes``.
        shares: fractions of training, validation and test rows.
        seed: random seed of the stratified split.
        name: name of the data set.
        license: the terms of your data.
        redistribute: whether they allow redistribution.
        citation: the publication to cite.

    Returns:
        A data set of one `Data` with the split ``"default"``. Its ``meta`` has ``node_names``, ``node_name_type``
        (``"integer"``, if the ids were numbers and not text), ``hyperedge_names``, ``class_names``, ``feature_names``,
        ``columns`` (the roles that were given) and, if ``nodes`` has features, the ``encoder`` for new rows and the
        cells ``node_cells``, so that another encoder can encode them (`Inputs.applied`).

    Raises:
        ArgumentError: contradictory arguments, or an unknown column.
        DataError: an invalid cell; the message gives file, line and column.

    >>> people = {"id": ["ada", "ben", "cleo", "dan"], "age": [36, 41, 28, None], "team": ["a", "b", "a", "b"]}
    >>> meetings = {"members": [["ada", "ben"], ["cleo", "ada"]]}
    >>> data = from_tables(people, meetings, label="team", shares=(0.5, 0, 0.5))[0]
    >>> data.structure.to_lists(), data.y.tolist(), data.meta["class_names"]
    ([[0, 1], [0, 2]], [0, 1, 0, 1], ('a', 'b'))
    """
    given = {"hyperedges": hyperedges, "edges": edges, "knn": knn}
    if sum(value is not None for value in given.values()) != 1:
        got = " and ".join(name for name, value in given.items() if value is not None)
        hint = "" if got else "To connect similar rows, pass knn=10 (--knn 10)"
        raise ArgumentError("hyperedges", "either hyperedges, edges or knn", got or "none", hint)
    if knn is not None and nodes is None:
        raise ArgumentError("nodes", "a table of features, because knn compares rows", None)
    wanted = (label,) if isinstance(label, str) else tuple(label or ())
    if len(set(wanted)) < len(wanted):
        raise ArgumentError("label", "each column once", repr(list(wanted)))
    if decimal not in (None, ".", ","):
        raise ArgumentError("decimal", "'.', ',' or None", repr(decimal))
    nodes = None if nodes is None else read_table(nodes, name="nodes", delimiter=delimiter, decimal=decimal)
    user_roles = _checked_roles(columns, nodes)
    if nodes is not None:
        nodes = nodes.renamed({new: old for new, old in (columns or {}).items() if new not in ROLES})
    shares = division.checked_shares(shares)
    if split not in _SPLITS:
        raise ArgumentError("split", f"one of {list(_SPLITS)}", repr(split))
    if (split != "stratified") != (split_column is not None):
        raise ArgumentError("split_column", "a column, with the splits 'temporal' and 'given' only", repr(split_column))
    has_nodes = nodes is not None or hif.is_hif(hyperedges) or hif.is_graph_file(edges)
    if not has_nodes and (wanted or types or split_column is not None or node_type is not None):
        raise ArgumentError("nodes", "a table with the columns of label, types, split_column and node_type", None)

    options = Links(edges is None, directed, duplicates, separator, decimal, delimiter)
    table, key, index, made = _gathered(nodes, hyperedges if options.hyper else edges, user_roles, options)
    if knn is not None:
        whole("knn", knn, 1, max(len(index) - 1, 1), f"there are {len(index)} nodes")
    labels = _labels(table, wanted, task, missing, len(index))
    parts = _parts(table, labels, split, split_column, shares, seed)
    encoder, used = Encoder((), missing), {}
    if table is not None:
        excluded = {c for c in (key, *wanted, split_column) if c is not None}
        stated = {column: kind for column, kind in table.types.items() if column not in excluded} | dict(types or {})
        observed = np.ones(len(index), bool)
        observed[parts[2].numpy()] = False
        # Whatever is in a test row must not change the features of the others: see `Split.production`.
        used = kinds.kinds_of(table, stated, missing, excluded, observed if observed.any() else None)
        rows = parts[0].numpy() if len(parts[0]) else None
        encoder = Encoder.fit(table, used, rows=rows, missing=missing, decimal=decimal)
    notes = [] if table is None else notes_of.read_as_missing(table, wanted, used, missing)
    notes += [] if table is None else notes_of.read_as_categories(table, used, types or {}, missing)
    for text in notes:
        _LOG.warning("%s: %s", name, text)
    x, feature_names = _features(encoder, table, made.structure, list(index))
    if knn is not None:
        made = _neighbors(x, encoder, knn, metric)
    leaks = _leaks(table, wanted, encoder, x, labels, made.structure, parts, missing)
    for text in leaks:
        _LOG.warning("%s: %s", name, text)
    names: dict[str, Any] = {
        "node_names": tuple(index),
        "class_names": labels.class_names,
        "feature_names": feature_names,
    }
    if user_roles:
        names["columns"] = user_roles  # tables of new nodes usually have the same names
    if node_type is not None:
        names["node_type"], names["type_names"] = _types_of_nodes(table, node_type)
    if table is not None and key is not None and table[key].whole:
        names["node_name_type"] = "integer"
    if table is not None and encoder.codings:  # also without features here: another encoder may use them
        names["node_cells"] = {coding.name: joined(table[coding.name]) for coding in encoder.codings}
    if encoder.feature_names:
        names["encoder"] = encoder
    elif feature_names == inputs.DEGREE:
        names |= {"degree_moments": (0.0, 1.0), FEATURES_FROM: "one and log degree"}
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
        caveats=(*notes, *leaks, *notes_of.caveats_of(made, encoder, used, split)),
    )


# ---------------------------------------------------------------------- nodes and structure


def _checked_roles(columns: Mapping[str, str] | None, nodes: Table | None) -> dict[str, str]:
    """The roles among the columns; any other key must be the new name of a column of the nodes."""
    for role, column in (columns or {}).items():
        if role not in ROLES and (nodes is None or column not in nodes.columns):
            others = "" if nodes is None else f", or new names of the columns {list(nodes.columns)}"
            raise ArgumentError("columns", f"roles among {list(ROLES)}{others}", f"{role}={column}")
    return {role: column for role, column in (columns or {}).items() if role in ROLES}


def _gathered(
    nodes: Any, links: Any, user_roles: Mapping[str, str], options: Links
) -> tuple[Table | None, str | None, dict[str, int], incidence.Made]:
    """The table of nodes and its id column, if there is one; the map of id to node; the structure."""
    if hif.is_hif(links):
        if nodes is not None or not options.hyper:
            raise ArgumentError("nodes", "None if hyperedges is a HIF file, which contains the nodes", "a table")
        return hif.read(links, options.decimal)
    if hif.is_graph_file(links):
        if nodes is not None or options.hyper:
            if nodes is not None:
                expected = "None if edges is a GraphML or GML file, which contains the nodes"
                raise ArgumentError("nodes", expected, "a table")
            raise ArgumentError("hyperedges", "no GraphML or GML file", str(links), "Pass it as edges=")
        return hif.read_graph_file(links, options.directed, options.duplicates, options.decimal)
    if isinstance(links, (str, os.PathLike)) and str(links).lower().endswith(".nt"):
        triples = ntriples(links)
        columns_of = {role: [triple[i] for triple in triples] for i, role in enumerate(("head", "relation", "tail"))}
        links = read_table(columns_of, name=str(links))
    table = key = None
    if links is None:  # the structure is made from the features
        table = read_table(nodes)
        (key,) = Roles(table, user_roles).need("id")
        index = ids.unique(table, key, "node")
        return table, key, index, incidence.Made(Hypergraph.from_lists([], num_nodes=len(index)), {}, ())
    name = "hyperedges" if options.hyper else "edges"
    roles = Roles(read_table(links, name=name, delimiter=options.delimiter, decimal=options.decimal), user_roles)
    if nodes is None:
        known, index = "", incidence.nodes(roles, options.hyper, options.separator)
    else:
        table = read_table(nodes)
        key = _id_column(Roles(table, user_roles), roles, options.hyper)
        known, index = table.source, ids.unique(table, key, "node")
    if options.hyper:
        return table, key, index, incidence.from_hyperedges(roles, index, known, options.separator, options.duplicates)
    return table, key, index, incidence.from_edges(roles, index, known, options.directed, options.duplicates)


def _id_column(nodes: Roles, links: Roles, hyper: bool) -> str:
    """The column of ids of the nodes; names all columns that are missing, of both tables, in one error."""
    try:
        (key,) = nodes.need("id")
    except DataError as error:
        try:
            links.form(hyper)
        except DataError as other:
            raise DataError(f"{error}. {other}") from error
        raise
    return key


# ---------------------------------------------------------------------- labels, parts, features


def _labels(table: Table | None, wanted: Sequence[str], task: str | None, missing: Collection[str], n: int) -> Labels:
    """The labels; -1 for every node if no column is the label."""
    if table is None or not wanted:
        return Labels(torch.full((n,), -1), "none: no column is the label", {"kind": "none"})
    for name in wanted:
        if name not in table.columns:
            raise ArgumentError("label", f"a column of {table.source}: {list(table.columns)}", repr(name))
    if len(wanted) > 1:
        return _several(table, wanted, task, missing)
    (label,) = wanted
    values: set[str] = set()
    for cells in table[label]:
        values |= set(cells)
    values.difference_update(missing)
    numbers, marks = _plain_numbers(values, table.decimal), quantities.mark_of(values)
    if numbers is None and marks is not None and len(marks) == 1 and task is None:
        got = f"numbers with a unit or a comma, such as {sorted(values)[0]!r}"
        hint = "Pass task='regression' or 'classification' (--task)"
        raise wrong(f"{table.source}: column {label!r}", "class names or plain numbers", got, hint)
    mark = next(iter(marks)) if marks is not None and len(marks) == 1 else ""
    fractions = numbers is not None and len(numbers) > 0 and bool((numbers != np.round(numbers)).any())
    if task == "regression" or (task is None and fractions):
        hint = "Leave the cell empty if it is missing, or pass task='classification' (--task classification)"
        targets = kinds.read(table, label, "numeric", missing, hint, mark)
        incidence.check_float32(table, label, targets, what="a number")
        return Labels(torch.tensor(targets, dtype=torch.float32), "node regression", {"kind": "real"})
    # sort numbers by value, words alphabetically
    names = tuple(sorted(set(map(canonical, values))))
    if numbers is not None:
        names = tuple(sorted(names, key=lambda v: float(_plain_numbers([v], table.decimal)[0])))  # type: ignore[index]
    if task is None:
        rows = sum(cell not in missing for cells in table[label] for cell in cells)
        notes_of.check_classes(table, label, names, rows, numbers)
    number = {name: i for i, name in enumerate(names)}
    index = {value: number[canonical(value)] for value in values}
    y = torch.tensor([index.get(cell, -1) for cells in table[label] for cell in cells], dtype=torch.long)
    return Labels(y, "node classification", {"kind": "class", "num_classes": len(names)}, names)


def _plain_numbers(cells: Collection[str], decimal: str | None) -> np.ndarray | None:
    return quantities.as_numbers(cells, "", decimal) if decimal == "," else kinds.floats(cells)


def _types_of_nodes(table: Table | None, column: str) -> tuple[Tensor, tuple[str, ...]]:
    """The type of each node [N] as a number, and the names of the types, sorted."""
    if table is None or column not in table.columns:
        columns = [] if table is None else list(table.columns)
        raise ArgumentError("node_type", f"a column of the nodes: {columns}", repr(column))
    cells = table[column].cells()
    if "" in cells:
        raise wrong(table.where(cells.index(""), column), "the type of a node", "an empty cell")
    names = tuple(sorted(set(cells)))
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([number[cell] for cell in cells], dtype=torch.long), names


def _several(table: Table, wanted: Sequence[str], task: str | None, missing: Collection[str]) -> Labels:
    """Several labels per node, one column each."""
    if task is not None:
        hint = "Each of several label columns is a yes/no label; leave out task (--task)"
        raise ArgumentError("task", "None with several columns of labels", repr(task), hint)
    hint = "Each of several label columns says whether a node has that label; leave the cell empty if it is missing"
    cells = np.stack([kinds.read(table, name, "boolean", missing, hint) for name in wanted], 1)
    y = torch.from_numpy(cells).float()
    spec = {"kind": "multilabel", "num_classes": len(wanted)}
    return Labels(y if bool(y.isnan().any()) else y.bool(), "node classification", spec, tuple(wanted))


def _parts(
    table: Table | None, labels: Labels, split: str, column: str | None, shares: Sequence[float], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    if table is None or column is None:
        y = labels.y if labels.y.dim() == 1 else torch.where(labeled(labels.y), 0.0, torch.nan)  # one group of rows
        return division.stratified(y, shares, seed)
    if column not in table.columns:
        raise ArgumentError("split_column", f"a column of {table.source}: {list(table.columns)}", repr(column))
    known = labeled(labels.y)
    if labels.class_names is None and not labels.y.is_floating_point():
        known = torch.ones_like(known)  # without labels, the parts are for other tasks
    if split == "temporal":
        return division.by_time(table, column, known, shares)
    return division.given(table, column, known)


def _features(
    encoder: Encoder, table: Table | None, structure: Graph | Hypergraph, names: Sequence[str]
) -> tuple[Tensor, tuple[str, ...]]:
    """Features x [N, F] from the encoder, or the identity or the degree if the encoder has no features."""
    if table is not None and encoder.feature_names:
        return encoder.transform(table), encoder.feature_names
    n = structure.num_nodes
    if n <= _IDENTITY:
        return torch.eye(n), tuple(f"{inputs.IDENTITY}{name}" for name in names)
    return features_from("one and log degree", structure), inputs.DEGREE


def _neighbors(x: Tensor, encoder: Encoder, k: int, metric: str) -> incidence.Made:
    """A hyperedge per node, of its nearest neighbors by the features; a production split computes it again."""
    from hgraph.builders import knn_hypergraph

    if not encoder.feature_names:
        raise ArgumentError("nodes", "columns of features, because knn compares them", "none")
    recipe = {"builder": "knn_hypergraph", "k": k, "metric": metric}
    structure = knn_hypergraph(x, k, metric=metric)
    return incidence.Made(structure, {"hyperedge_names": None, STRUCTURE_FROM: recipe}, ())


def _leaks(
    table: Table | None,
    wanted: Sequence[str],
    encoder: Encoder,
    x: Tensor,
    labels: Labels,
    structure: Graph | Hypergraph,
    parts: tuple[Tensor, Tensor, Tensor],
    missing: Collection[str],
) -> list[str]:
    """Sentences on features and hyperedges that reveal the label."""
    if table is None or not wanted:
        return []
    found: list[str] = []
    for label in wanted:
        columns = {c.name: chain.from_iterable(table[c.name]) for c in encoder.codings}
        cells = chain.from_iterable(table[label])
        copies = copies_of_label(columns, cells, missing={"", *missing}, canonical=canonical)
        found += [text.replace("the label", f"the label {label!r}") for text in copies] if len(wanted) > 1 else copies
    found += repeated_rows(x, *parts) if encoder.feature_names else []
    return found + class_hyperedges(structure, labels.y)
