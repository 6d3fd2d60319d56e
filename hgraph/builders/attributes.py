"""Hypergraphs of what things have in common: categories, memberships, terms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from numbers import Number
from typing import Any, Literal

import numpy as np
import torch

from hgraph.convert.converted import Converted
from hgraph.errors import ArgumentError, ArgumentTypeError, did_you_mean
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["category_hypergraph", "membership_hypergraph", "term_hypergraph"]


def category_hypergraph(columns: Mapping[str, Sequence[Any]], *, min_size: int = 1) -> Converted:
    """One hyperedge a value of each column: all rows that have it, as in the UCI zoo and mushroom hypergraphs.

    Args:
        columns: name -> N values, text, numbers, booleans or dates; None, NaN, NaT, NA and "" are missing and join no
            hyperedge.
        min_size: values that fewer rows have are left out.

    Returns:
        N vertices; hyperedges named ``(column, value)``, columns in order, values in the order they first appear.

    Raises:
        ArgumentError: no column, or columns of different lengths.

    >>> legs = category_hypergraph({"legs": [4, 2, 4], "hair": ["yes", None, "no"]})
    >>> legs.structure.to_lists(), legs.hyperedge_ids
    ([[0, 2], [1], [0], [2]], [('legs', 4), ('legs', 2), ('hair', 'yes'), ('hair', 'no')])
    """
    if not isinstance(columns, Mapping):
        raise ArgumentTypeError("columns", "a mapping from names to columns", type(columns).__name__)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ArgumentError("columns", "at least one column, all of the same length", lengths)
    members: dict[tuple[str, Hashable], list[int]] = {}
    for name, values in columns.items():
        for row, value in enumerate(_plain(values)):
            if not isinstance(value, Hashable):
                hint = "A cell of several values is a list of memberships: see membership_hypergraph"
                raise ArgumentTypeError(f"columns[{name!r}]", "texts, numbers, dates", f"{value!r} in row {row}", hint)
            if not _missing(value):
                members.setdefault((name, value), []).append(row)
    kept = {key: rows for key, rows in members.items() if len(rows) >= min_size}
    num_nodes = next(iter(lengths.values()))
    structure = Hypergraph.from_coo(
        node=np.fromiter((row for rows in kept.values() for row in rows), dtype=np.int64),
        hyperedge=np.repeat(np.arange(len(kept)), [len(rows) for rows in kept.values()]),
        num_nodes=num_nodes,
        num_hyperedges=len(kept),
    )
    return Converted(structure, hyperedge_ids=list(kept))


def membership_hypergraph(
    vertices: Sequence[Hashable],
    hyperedges: Sequence[Hashable],
    *,
    nodes: Sequence[Hashable] | None = None,
    weight: Any = None,
    duplicates: Literal["error", "sum", "keep"] = "error",
) -> Converted:
    """From a bipartite table, one row a membership: who, in what (authors of papers, buyers of baskets).

    Args:
        vertices: [E] ids of any hashable kind.
        hyperedges: [E] ids.
        nodes: ids of all nodes, also of those without a membership, which a table of memberships cannot name; None
            takes those of ``vertices``.
        weight: [E] numbers, or None.
        duplicates: what a pair named twice means: an error, one membership of summed weight (a count where there are no
            weights), or two parallel ones.

    Returns:
        Nodes and hyperedges with their ids, numbered in the order of ``nodes``, else in which they first appear.

    Raises:
        ArgumentError: lists of different lengths, a missing id, an id that ``nodes`` lacks or names twice.

    >>> club = membership_hypergraph(["ann", "bob", "ann"], ["chess", "chess", "go"])
    >>> club.structure.to_lists(), club.node_ids, club.hyperedge_ids
    ([[0, 1], [0]], ['ann', 'bob'], ['chess', 'go'])
    """
    if len(vertices) != len(hyperedges):
        raise ArgumentError("hyperedges", f"{len(vertices)} ids (one a row of vertices)", len(hyperedges))
    known: list[Hashable] = [] if nodes is None else _numbered("nodes", nodes)[1]
    if nodes is not None and len(known) < len(nodes):
        raise ArgumentError("nodes", "ids that differ", f"{len(nodes) - len(known)} that repeat")
    vertex, node_ids = _numbered("vertices", vertices, known)
    if nodes is not None and len(node_ids) > len(known):
        hint = did_you_mean(node_ids[len(known)], map(str, known[:10_000]), "Add it to nodes")
        raise ArgumentError("vertices", "ids that are among nodes", repr(node_ids[len(known)]), hint)
    hyperedge, hyperedge_ids = _numbered("hyperedges", hyperedges)
    structure = Hypergraph.from_coo(
        node=vertex,
        hyperedge=hyperedge,
        num_nodes=len(node_ids),
        num_hyperedges=len(hyperedge_ids),
        weight=weight,
        duplicates=duplicates,
    )
    return Converted(structure, node_ids=node_ids, hyperedge_ids=hyperedge_ids)


def term_hypergraph(
    texts: Sequence[str],
    *,
    weight: Literal["tfidf", "count"] | None = "tfidf",
    min_texts: int = 2,
    max_share: float = 0.5,
    max_terms: int | None = None,
    pattern: str = r"(?u)\b\w\w+\b",
) -> Converted:
    r"""One vertex a text, one hyperedge a term: all texts that use it.

    .. math:: h(v, e) = n_{ve} \, \bigl(1 + \ln \tfrac{1 + N}{1 + N_e}\bigr)

    with n how often text v uses term e, and N_e how many texts do; rows of H are scaled to unit length.

    Args:
        texts: N texts.
        weight: incidence weights: as above, plain counts, or none.
        min_texts: a term that fewer texts use makes no hyperedge.
        max_share: nor does one that a larger share of the texts uses.
        max_terms: only the so many most used ones, or None for all.
        pattern: what a term is, a regular expression; texts are put into lower case first.

    Returns:
        Hyperedges named by their terms, in alphabetical order; a text may be in none.

    Source: weights by scikit-learn's ``TfidfVectorizer``.

    >>> terms = term_hypergraph(["a red fox", "the red dog", "a dog"], weight=None, max_share=1.0)
    >>> terms.structure.to_lists(), terms.hyperedge_ids
    ([[1, 2], [0, 1]], ['dog', 'red'])
    """
    if isinstance(texts, str) or not all(isinstance(t, str) for t in texts):
        raise ArgumentError("texts", "a sequence of texts", "one text" if isinstance(texts, str) else "other things")
    if weight not in ("tfidf", "count", None):
        raise ArgumentError("weight", "'tfidf', 'count' or None", repr(weight))
    if not 0 < max_share <= 1:
        raise ArgumentError("max_share", "a share above 0, up to 1", max_share)
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    found = CountVectorizer(token_pattern=pattern)
    try:
        counts = found.fit_transform(texts)
    except ValueError as error:  # no text has a term
        raise ArgumentError("texts", f"a term in at least one of {len(texts)} texts", "none") from error
    used = np.bincount(counts.indices, minlength=counts.shape[1])
    keep = (used >= min_texts) & (used <= max_share * len(texts))
    if max_terms is not None and keep.sum() > max_terms:
        most = np.argsort(np.where(keep, -used, 1), kind="stable")[:max_terms]
        keep = np.isin(np.arange(len(used)), most)
    counts = counts[:, keep]
    values = TfidfTransformer().fit_transform(counts) if weight == "tfidf" and counts.shape[1] else counts
    entries = values.tocoo()
    structure = Hypergraph.from_coo(
        node=entries.row,
        hyperedge=entries.col,
        num_nodes=len(texts),
        num_hyperedges=counts.shape[1],
        weight=None if weight is None else torch.from_numpy(entries.data).float(),
    )
    return Converted(structure, hyperedge_ids=found.get_feature_names_out()[keep].tolist())


def _plain(values: Sequence[Any]) -> Sequence[Any]:
    """Python's own values, so that names print as people write them; dates stay dates."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        values = values.astype("datetime64[us]")  # finer ones would come out as integers
    return values.tolist() if hasattr(values, "tolist") else values


def _missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' own
        return True
    return bool(value == "") or (isinstance(value, (Number, np.generic)) and bool(value != value))


def _numbered(name: str, ids: Sequence[Hashable], known: Sequence[Hashable] = ()) -> tuple[np.ndarray, list[Hashable]]:
    """Each id's number, those known first, then in the order of first appearance, and the ids in that order."""
    numbers: dict[Hashable, int] = {value: i for i, value in enumerate(known)}
    plain = _plain(ids)
    for row, value in enumerate(plain):
        if _missing(value):
            raise ArgumentError(name, "an id in every row", f"{value!r} in row {row}", "Drop such rows first")
        if not isinstance(value, Hashable):
            raise ArgumentTypeError(name, "ids: texts, numbers, tuples", f"{value!r} in row {row}")
    codes = np.fromiter((numbers.setdefault(i, len(numbers)) for i in plain), dtype=np.int64, count=len(plain))
    return codes, list(numbers)
