"""From tables of memberships and edges to structures: long and wide hyperedges, edge lists, triples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from hgraph.datasets.tables import ids, kinds
from hgraph.datasets.tables.roles import Roles
from hgraph.datasets.tables.table import MEMBER, Table, wrong
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Graph, Hypergraph

__all__ = ["Duplicates", "Made", "from_edges", "from_hyperedges", "nodes"]

Duplicates = Literal["error", "sum", "first"]

_ENDS = ("source", "target")


@dataclass
class Made:
    """A structure and the names and facts that belong to it."""

    structure: Graph | Hypergraph
    meta: dict[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()  # columns of the table that say nothing here


def nodes(roles: Roles, hyper: bool, separator: str | None) -> dict[str, int]:
    """Id -> number of the nodes that a table names, where there is no table of nodes."""
    table, form, index = roles.table, roles.form(hyper), {}  # type: ignore[var-annotated]
    if form == "wide":
        (name,) = roles.need("members")
        ids.number(index, ([m for members in chunk for m in members] for chunk in _members(table, name, separator)))
        _refuse_comments(table, name, index)
        ids.one_way(table, name, index, "node")
        return index
    ends = {"long": ["node"], "triples": ["head", "tail"], "edges": ["source", "target"]}[form]
    for name in roles.need(*ends):
        ids.number(index, table[name])
        if "" in index:
            raise wrong(table.where(table[name].cells().index(""), name), "the id of a node", "an empty cell")
        _refuse_comments(table, name, index)
        ids.one_way(table, name, index, "node")
    return index


def _refuse_comments(table: Table, name: str, index: Mapping[str, int]) -> None:
    """Ids that a table alone names must not come from comment lines among its rows."""
    for text in index:
        if text[:1] in ("#", "%") and (len(text) == 1 or text[1].isspace()):
            hint = "Comment lines are skipped before the first row alone: delete it, or give a table of nodes"
            raise wrong(f"{table.source}: column {name!r}", "the id of a node", f"a comment, {text!r}", hint)


def from_hyperedges(
    roles: Roles, index: Mapping[str, int], known: str, separator: str | None, duplicates: Duplicates
) -> Made:
    """A hypergraph from the long form (an incidence a row) or the wide form (a hyperedge a row).

    Args:
        roles: the table and its columns.
        index: id -> node.
        known: what errors call the source of the ids.
        separator: between members, or None.
        duplicates: what a repeated incidence means.

    Raises:
        DataError: an unknown node, a repeated incidence, a weight that is no number; names file, line and column.
    """
    if roles.form(True) == "wide":
        return _wide(roles, index, known, separator, duplicates)
    return _long(roles, index, known, duplicates)


def _long(roles: Roles, index: Mapping[str, int], known: str, duplicates: Duplicates) -> Made:
    table = roles.table
    node_column, hyperedge_column = roles.need("node", "hyperedge")
    node = ids.find(table, node_column, index, "node", known)
    names: dict[str, int] = {}
    ids.number(names, table[hyperedge_column])
    if "" in names:
        row = table[hyperedge_column].cells().index("")
        raise wrong(table.where(row, hyperedge_column), "the id of a hyperedge", "an empty cell")
    ids.one_way(table, hyperedge_column, names, "hyperedge")
    hyperedge = ids.find(table, hyperedge_column, names, "hyperedge", "")
    weight, time = _numbers(roles, "weight"), _numbers(roles, "time")
    keep, weight = _distinct(table, node_column, hyperedge * len(index) + node, weight, duplicates)
    made = Hypergraph.from_coo(
        node=torch.from_numpy(node[keep]),
        hyperedge=torch.from_numpy(hyperedge[keep]),
        num_nodes=len(index),
        num_hyperedges=len(names),
        weight=_float32(weight),
    )
    meta: dict[str, Any] = {"hyperedge_names": tuple(names)}
    if time is not None:
        meta["incidence_time"] = made.v2e.sort_edges(torch.from_numpy(time[keep]))
    return Made(made, meta, _unused(roles, "node", "hyperedge", "weight", "time"))


def _wide(roles: Roles, index: Mapping[str, int], known: str, separator: str | None, duplicates: Duplicates) -> Made:
    table, (column,) = roles.table, roles.need("members")
    found: list[int] = []
    sizes: list[int] = []
    for chunk in _members(table, column, separator):
        for members in chunk:
            numbers = [index.get(m, -1) for m in members]
            if -1 in numbers:
                text = members[numbers.index(-1)]
                raise wrong(table.where(len(sizes), column), *ids.unknown_id(text, index, "node", known))
            found += numbers
            sizes.append(len(numbers))
    name = _name_column(roles)
    hyperedge_names = None if name is None else tuple(ids.unique(table, name, "hyperedge"))
    node, hyperedge = np.asarray(found, np.int64), np.repeat(np.arange(len(sizes)), sizes)
    weight, time = _numbers(roles, "weight"), _numbers(roles, "time")
    keep, times = _distinct(table, column, hyperedge * len(index) + node, None, duplicates, rows=hyperedge)
    made = Hypergraph.from_coo(
        node=torch.from_numpy(node[keep]),
        hyperedge=torch.from_numpy(hyperedge[keep]),
        num_nodes=len(index),
        num_hyperedges=len(sizes),
        weight=_float32(times),
        hyperedge_weight=_float32(weight),
    )
    meta: dict[str, Any] = {"hyperedge_names": hyperedge_names}
    if time is not None:
        meta["hyperedge_time"] = torch.tensor(time)
    return Made(made, meta, _unused(roles, "members", "weight", "time", column=name))


def _name_column(roles: Roles) -> str | None:
    """The column that names the hyperedges of the wide form: that of the role hyperedge, else the one called id.

    Raises:
        DataError: the table has both.
    """
    name, given = roles.find("hyperedge"), {"hyperedge", "id"} & set(roles.given)
    own = roles.find("id") if "id" in given else next((c for c in roles.table.columns if c.lower() == "id"), None)
    if name is not None and own is not None and not given:
        hint = f"Say --column hyperedge={name} or --column hyperedge={own}"
        raise wrong(roles.table.source, "one column for the hyperedge", f"{name!r} and {own!r}", hint)
    return own if name is None else name


def _members(table: Table, column: str, separator: str | None) -> Iterator[list[list[str]]]:
    """The members of each hyperedge of the wide form, a chunk at a time."""
    if separator == "":
        raise ArgumentError("separator", "at least one character", "''")
    if table[column].listed:
        separator = MEMBER
    elif separator is None:
        chunks = table[column].chunks
        separator = next((s for s in ";| " if any(s in chunk for chunk in chunks)), ";")
    for cells in table[column]:
        yield [[m for m in map(str.strip, cell.split(separator)) if m] for cell in cells]


def from_edges(roles: Roles, index: Mapping[str, int], known: str, directed: bool, duplicates: Duplicates) -> Made:
    """A graph from a list of edges, or of triples: messages go from tail to head, and relations are kept.

    Args:
        roles: the table and its columns.
        index: id -> node.
        known: what errors call the source of the ids.
        directed: whether edges are heard in one direction; triples always are.
        duplicates: what a repeated edge means.

    Raises:
        DataError: an unknown node, a repeated edge, a weight that is no number; names file, line and column.
    """
    table, triples, n = roles.table, roles.form(False) == "triples", max(len(index), 1)
    ends = roles.need("tail", "head") if triples else roles.need("source", "target")
    source, target = (ids.find(table, name, index, "node", known) for name in ends)
    facts: dict[str, Any] = {"edge_time": _numbers(roles, "time")}
    meta: dict[str, Any] = {}
    key = source * n + target
    if triples:
        facts["relation"], meta["relation_names"] = _relations(roles)
        if len(meta["relation_names"]) * n * n >= 2**63:
            raise DataError(f"{table.source}: too many relations and nodes to number every possible triple")
        key += facts["relation"] * n * n
    if not directed and not triples and duplicates != "error" and not _listed_both_ways(key, target * n + source):
        key = np.minimum(key, target * n + source)  # a log of events: a to b and b to a repeat one edge
    keep, weight = _distinct(table, ends[1], key, _numbers(roles, "weight"), duplicates)
    source, target = source[keep], target[keep]
    values = {name: v[keep] for name, v in facts.items() if v is not None}
    if not directed and not triples:
        one_way = _one_way(table, ends[1], source, target, {"weight": weight, "time": values.get("edge_time")}, keep, n)
        source, target = np.concatenate([source, target[one_way]]), np.concatenate([target, source[one_way]])
        weight = None if weight is None else np.concatenate([weight, weight[one_way]])
        values = {name: np.concatenate([v, v[one_way]]) for name, v in values.items()}
    made = Graph.from_edge_index(
        torch.from_numpy(np.stack([source, target])),
        num_nodes=len(index),
        directed=True,
        weight=_float32(weight),
        duplicates="keep" if triples else "error",
    )
    meta |= {name: made.adj.sort_edges(torch.from_numpy(v)) for name, v in values.items()}
    return Made(made, meta, _unused(roles, *(("head", "relation", "tail") if triples else _ENDS), "weight", "time"))


def _relations(roles: Roles) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number of each row's relation, and the relations in order of appearance."""
    table, (name,) = roles.table, roles.need("relation")
    index: dict[str, int] = {}
    ids.number(index, table[name])
    if "" in index:
        raise wrong(table.where(table[name].cells().index(""), name), "a relation", "an empty cell")
    return ids.find(table, name, index, "relation", ""), tuple(index)


# ---------------------------------------------------------------------- pieces


def _distinct(
    table: Table,
    column: str,
    key: np.ndarray,
    weight: np.ndarray | None,
    duplicates: Duplicates,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The entries to keep (the first of equal keys, in order), and the weights of these.

    Under ``"sum"`` the weights of equal keys add up, a missing weight counting as 1. ``rows`` has the row of each
    entry, where that is not the entry's number.
    """
    if duplicates not in ("error", "sum", "first"):
        raise ArgumentError("duplicates", "'error', 'sum' or 'first'", repr(duplicates))
    order = np.argsort(key, kind="stable")
    new = np.ones(len(key), bool)
    new[1:] = key[order][1:] != key[order][:-1]
    if new.all():
        return np.arange(len(key)), weight
    group = np.cumsum(new) - 1
    first = order[new]
    if duplicates == "error":
        again = order[~new]
        at = int(again.argmin())
        row, before = int(again[at]), int(first[group[~new][at]])
        if rows is not None:
            row, before = int(rows[row]), int(rows[before])
        got = "one twice" if row == before else f"one that {table.place(before)} has too"
        hint = "duplicates='sum' adds their weights up, 'first' keeps the first of them"
        raise wrong(table.where(row, column), "each pair once", got, hint)
    keep = np.sort(first)
    if duplicates == "first":
        return keep, None if weight is None else weight[keep]
    total = np.zeros(len(first))
    np.add.at(total, group, np.ones(len(key)) if weight is None else weight[order])
    return keep, total[np.argsort(first)]


def _listed_both_ways(key: np.ndarray, reverse: np.ndarray) -> bool:
    """Whether every edge is in the list as often as its reverse: a list of both directions, and no log of events."""
    return bool(np.array_equal(np.sort(key), np.sort(reverse)))


def _one_way(
    table: Table,
    column: str,
    source: np.ndarray,
    target: np.ndarray,
    facts: Mapping[str, np.ndarray | None],
    rows: Any,
    n: int,
) -> np.ndarray:
    """Boolean [E]: edges, no loops, whose reverse is not in the list; one of another weight or time is refused."""
    key, reverse = source * n + target, target * n + source
    order = np.argsort(key)
    at = np.searchsorted(key[order], reverse)
    at = order[np.minimum(at, max(len(key) - 1, 0))] if len(key) else at
    there = key[at] == reverse
    for name, values in facts.items():
        if values is not None and bool((differs := there & (values[at] != values)).any()):
            e = int(np.flatnonzero(differs).max())
            got = f"{values[e]:g}, while {table.place(int(rows[at[e]]))} gives its reverse {values[at[e]]:g}"
            hint = "List each undirected edge once, or give directed=True (--directed), or say what a repeat means with"
            hint += " duplicates='sum' or 'first' (--duplicates)"
            raise wrong(table.where(int(rows[e]), column), f"one {name} for both directions of an edge", got, hint)
    return ~there


def _numbers(roles: Roles, role: str) -> np.ndarray | None:
    """The numbers of an optional column; a cell must not be missing."""
    name = roles.need(role)[0] if role in roles.given else roles.find(role)
    if name is None:
        return None
    table = roles.table
    hint = f"A column of another meaning needs another name than {name!r}"
    weights = role == "weight"
    values = kinds.read(table, name, "numeric", ("",), hint) if weights else kinds.numbers_or_dates(table, name)
    if bool(np.isnan(values).any()):
        raise wrong(table.where(int(np.isnan(values).argmax()), name), f"a {role}", "an empty cell", hint)
    if role == "weight" and bool((huge := np.abs(values) > np.finfo(np.float32).max).any()):
        row = int(huge.argmax())
        raise wrong(table.where(row, name), "a weight that float32 can hold", f"{values[row]:g}")
    return values


def _float32(values: np.ndarray | None) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values.astype(np.float32))


def _unused(roles: Roles, *names: str, column: str | None = None) -> tuple[str, ...]:
    used = {column, *map(roles.find, names)}
    return tuple(column for column in roles.table.columns if column not in used)
