"""Builds structures from tables: long and wide tables of hyperedges, edge lists, triples."""

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
    """A structure with its names and metadata."""

    structure: Graph | Hypergraph
    meta: dict[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()  # unused columns of the table


def nodes(roles: Roles, hyper: bool, separator: str | None) -> dict[str, int]:
    """Map of id to node for the nodes of an edge table, if there is no table of nodes."""
    table, form, index = roles.table, roles.form(hyper), {}  # type: ignore[var-annotated]
    if form == "wide":
        (name,) = roles.need("members")
        ids.number(index, ([m for members in chunk for m in members] for chunk in _members(table, name, separator)))
        _refuse_comments(table, name, index)
        ids.check_spelling(table, name, index, "node")
        return index
    ends = {"long": ["node"], "triples": ["head", "tail"], "edges": ["source", "target"]}[form]
    for name in roles.need(*ends):
        ids.number(index, table[name])
        if "" in index:
            raise wrong(table.where(table[name].cells().index(""), name), "the id of a node", "an empty cell")
        _refuse_comments(table, name, index)
        ids.check_spelling(table, name, index, "node")
    return index


def _refuse_comments(table: Table, name: str, index: Mapping[str, int]) -> None:
    """Refuse node ids that are comment lines between rows, which a table of nodes would reject."""
    for text in index:
        if text[:1] in ("#", "%") and (len(text) == 1 or text[1].isspace()):
            hint = "Comment lines are only skipped before the first row: delete this one, or pass a table of nodes"
            raise wrong(f"{table.source}: column {name!r}", "the id of a node", f"the comment {text!r}", hint)


def from_hyperedges(
    roles: Roles, index: Mapping[str, int], known: str, separator: str | None, duplicates: Duplicates
) -> Made:
    """Build a hypergraph from the long form (one incidence per row) or the wide form (one hyperedge per row).

    Args:
        roles: the table and its columns.
        index: map of id to node.
        known: the source of the ids, for errors.
        separator: separator of members, or None.
        duplicates: what to do with repeated incidences.

    Raises:
        DataError: an unknown node, a repeated incidence or an invalid weight; the message gives file, line and column.
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
    ids.check_spelling(table, hyperedge_column, names, "hyperedge")
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
    """The column of hyperedge ids in the wide form: the one with the role hyperedge, else the one called id.

    Raises:
        DataError: the table has both.
    """
    name, chosen = roles.find("hyperedge"), {"hyperedge", "id"} & set(roles.given)
    id_column = (
        roles.find("id") if "id" in chosen else next((c for c in roles.table.columns if c.lower() == "id"), None)
    )
    if name is not None and id_column is not None and not chosen:
        hint = f"Pass --column hyperedge={name} or --column hyperedge={id_column}"
        raise wrong(roles.table.source, "one column for the hyperedge", f"{name!r} and {id_column!r}", hint)
    return id_column if name is None else name


def _members(table: Table, column: str, separator: str | None) -> Iterator[list[list[str]]]:
    """The members of each hyperedge of the wide form, in chunks."""
    if separator == "":
        raise ArgumentError("separator", "at least one character", "''")
    if table[column].listed:
        separator = MEMBER
    elif separator is None:
        chunks = table[column].chunks
        separator = next((s for s in ";|\t, " if any(s in chunk for chunk in chunks)), ";")
    for cells in table[column]:
        yield [[m for m in map(str.strip, cell.split(separator)) if m] for cell in cells]


def from_edges(roles: Roles, index: Mapping[str, int], known: str, directed: bool, duplicates: Duplicates) -> Made:
    """Build a graph from a table of edges, or of triples: messages go from tail to head, and relations are kept.

    Args:
        roles: the table and its columns.
        index: map of id to node.
        known: the source of the ids, for errors.
        directed: whether messages follow an edge in one direction only; always for triples.
        duplicates: what to do with repeated edges.

    Raises:
        DataError: an unknown node, a repeated edge or an invalid weight; the message gives file, line and column.
    """
    table, triples, n = roles.table, roles.form(False) == "triples", max(len(index), 1)
    ends = roles.need("tail", "head") if triples else roles.need("source", "target")
    source, target = (ids.find(table, name, index, "node", known) for name in ends)
    edge_values: dict[str, Any] = {"edge_time": _numbers(roles, "time")}
    meta: dict[str, Any] = {}
    key = source * n + target
    if triples:
        edge_values["relation"], meta["relation_names"] = _relations(roles)
        if len(meta["relation_names"]) * n * n >= 2**63:
            raise DataError(
                f"{table.source}: expected fewer relations and nodes, so that all possible triples have int64 numbers"
            )
        key += edge_values["relation"] * n * n
    if not directed and not triples and duplicates != "error" and not _listed_both_ways(key, target * n + source):
        key = np.minimum(key, target * n + source)  # in a log of events, a to b and b to a are the same edge
    keep, weight = _distinct(table, ends[1], key, _numbers(roles, "weight"), duplicates)
    source, target = source[keep], target[keep]
    values = {name: v[keep] for name, v in edge_values.items() if v is not None}
    if not directed and not triples:
        single = _listed_once(
            table, ends[1], source, target, {"weight": weight, "time": values.get("edge_time")}, keep, n
        )
        source, target = np.concatenate([source, target[single]]), np.concatenate([target, source[single]])
        weight = None if weight is None else np.concatenate([weight, weight[single]])
        values = {name: np.concatenate([v, v[single]]) for name, v in values.items()}
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
    """The relation id of each row, and the relation names in order of appearance."""
    table, (name,) = roles.table, roles.need("relation")
    index: dict[str, int] = {}
    ids.number(index, table[name])
    if "" in index:
        raise wrong(table.where(table[name].cells().index(""), name), "a relation", "an empty cell")
    return ids.find(table, name, index, "relation", ""), tuple(index)


# ---------------------------------------------------------------------- helpers


def _distinct(
    table: Table,
    column: str,
    key: np.ndarray,
    weight: np.ndarray | None,
    duplicates: Duplicates,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The first entry of each key, in order, and the weights of these entries.

    With ``"sum"``, weights of equal keys are added up; missing weights count as 1. ``rows`` has the row of each entry,
    if entries are not rows.
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
        repeated = order[~new]
        at = int(repeated.argmin())
        row, before = int(repeated[at]), int(first[group[~new][at]])
        if rows is not None:
            row, before = int(rows[row]), int(rows[before])
        got = "a repeated pair" if row == before else f"a pair that is also in {table.place(before)}"
        hint = "Pass duplicates='sum' (--duplicates sum) to add up their weights, or 'first' to use the first"
        raise wrong(table.where(row, column), "each pair once", got, hint)
    keep = np.sort(first)
    if duplicates == "first":
        return keep, None if weight is None else weight[keep]
    total = np.zeros(len(first))
    np.add.at(total, group, np.ones(len(key)) if weight is None else weight[order])
    total = total[np.argsort(first)]
    check_float32(table, column, total, keep if rows is None else rows[keep], what="a sum of weights")
    return keep, total


def _listed_both_ways(key: np.ndarray, reverse: np.ndarray) -> bool:
    """Whether each edge occurs as often as its reverse, so the table lists both directions (not a log of events)."""
    return bool(np.array_equal(np.sort(key), np.sort(reverse)))


def _listed_once(
    table: Table,
    column: str,
    source: np.ndarray,
    target: np.ndarray,
    edge_values: Mapping[str, np.ndarray | None],
    rows: Any,
    n: int,
) -> np.ndarray:
    """Boolean [E]: edges (no self-loops) whose reverse is not listed; refuses a reverse with another weight or time."""
    key, reverse = source * n + target, target * n + source
    order = np.argsort(key)
    at = np.searchsorted(key[order], reverse)
    at = order[np.minimum(at, max(len(key) - 1, 0))] if len(key) else at
    has_reverse = key[at] == reverse
    for name, values in edge_values.items():
        if values is not None and bool((differs := has_reverse & (values[at] != values)).any()):
            e = int(np.flatnonzero(differs).max())
            got = f"{values[e]:g}, and {values[at[e]]:g} for its reverse in {table.place(int(rows[at[e]]))}"
            hint = "List each undirected edge once, or pass directed=True (--directed), or duplicates='sum' or 'first' "
            hint += "(--duplicates)"
            raise wrong(table.where(int(rows[e]), column), f"the same {name} for both directions of an edge", got, hint)
    return ~has_reverse


def _numbers(roles: Roles, role: str) -> np.ndarray | None:
    """The numbers of an optional column without missing cells."""
    name = roles.need(role)[0] if role in roles.given else roles.find(role)
    if name is None:
        return None
    table = roles.table
    hint = f"Rename the column {name!r} if it has another meaning"
    weights = role == "weight"
    values = kinds.read(table, name, "numeric", ("",), hint) if weights else kinds.numbers_or_dates(table, name)
    if bool(np.isnan(values).any()):
        raise wrong(table.where(int(np.isnan(values).argmax()), name), f"a {role}", "an empty cell", hint)
    if role == "weight":
        check_float32(table, name, values)
    return values


def check_float32(
    table: Table, name: str, values: np.ndarray, rows: np.ndarray | None = None, *, what: str = "a weight"
) -> None:
    """Refuse numbers that would become infinite; ``rows`` has the row of each, if that is not its position."""
    huge = np.flatnonzero(np.abs(values) > np.finfo(np.float32).max)
    if len(huge):
        row = int(huge[0] if rows is None else rows[huge[0]])
        raise wrong(
            table.where(row, name), f"{what} that float32 can hold", f"{values[huge[0]]:g}", "Rescale the column"
        )


def _float32(values: np.ndarray | None) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values.astype(np.float32))


def _unused(roles: Roles, *names: str, column: str | None = None) -> tuple[str, ...]:
    used = {column, *map(roles.find, names)}
    return tuple(column for column in roles.table.columns if column not in used)
