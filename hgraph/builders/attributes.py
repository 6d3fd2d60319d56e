"""Hypergraphs of shared attributes: categories, memberships, terms."""

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
    """One hyperedge per value of each column, with all rows of that value, as in the UCI zoo and mushroom hypergraphs.

    Args:
        columns: name -> N values: texts, numbers, booleans or dates; None, NaN, NaT, NA and "" are missing and in no
            hyperedge.
        min_size: values in fewer rows are dropped.

    Returns:
        N nodes; hyperedges are named ``(column, value)``, in order of columns, then of first appearance.

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
                hint = "For cells with several values use membership_hypergraph"
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
    node: Sequence[Hashable],
    hyperedge: Sequence[Hashable],
    *,
    nodes: Sequence[Hashable] | None = None,
    weight: Any = None,
    duplicates: Literal["error", "sum", "keep"] = "error",
) -> Converted:
    """Build a hypergraph from a two-column table of memberships (author and paper, buyer and basket).

    Args:
        node: [E] node ids of any hashable type.
        hyperedge: [E] hyperedge ids.
        nodes: ids of all nodes, including nodes in no hyperedge; None takes the ids in ``node``.
        weight: [E] numbers, or None.
        duplicates: what to do with repeated pairs: raise an error, merge them and sum the weights (a count without
            weights), or keep parallel incidences.

    Returns:
        Nodes and hyperedges with their ids, in the order of ``nodes``, else in order of first appearance.

    Raises:
        ArgumentError: lists of different lengths, a missing id, or an id that is missing or repeated in ``nodes``.

    >>> club = membership_hypergraph(["ann", "bob", "ann"], ["chess", "chess", "go"])
    >>> club.structure.to_lists(), club.node_ids, club.hyperedge_ids
    ([[0, 1], [0]], ['ann', 'bob'], ['chess', 'go'])
    """
    if len(node) != len(hyperedge):
        raise ArgumentError("hyperedge", f"{len(node)} ids (one per entry of node)", len(hyperedge))
    known: list[Hashable] = [] if nodes is None else _numbered("nodes", nodes)[1]
    if nodes is not None and len(known) < len(nodes):
        raise ArgumentError("nodes", "distinct ids", f"{len(nodes) - len(known)} repeated ids")
    index, node_ids = _numbered("node", node, known)
    if nodes is not None and len(node_ids) > len(known):
        hint = did_you_mean(node_ids[len(known)], map(str, known[:10_000]), "Add it to nodes")
        raise ArgumentError("node", "ids listed in nodes", repr(node_ids[len(known)]), hint)
    hyperedge_index, hyperedge_ids = _numbered("hyperedge", hyperedge)
    structure = Hypergraph.from_coo(
        node=index,
        hyperedge=hyperedge_index,
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
    r"""One node per text, one hyperedge per term: all texts that contain it.

    .. math:: h(v, e) = n_{ve} \, \bigl(1 + \ln \tfrac{1 + N}{1 + N_e}\bigr)

    where n is the count of term e in text v, and N_e the number of texts with e; rows of H are scaled to unit length.

    Args:
        texts: N texts.
        weight: incidence weights: as above, plain counts, or none.
        min_texts: terms in fewer texts are dropped.
        max_share: terms in a larger fraction of the texts are dropped.
        max_terms: keep only this many of the most frequent terms; None keeps all.
        pattern: regular expression of a term; texts are converted to lower case first.

    Returns:
        Hyperedges named by their terms, in alphabetical order; a text may be isolated.

    Source: weights from scikit-learn's ``TfidfVectorizer``.

    >>> terms = term_hypergraph(["a red fox", "the red dog", "a dog"], weight=None, max_share=1.0)
    >>> terms.structure.to_lists(), terms.hyperedge_ids
    ([[1, 2], [0, 1]], ['dog', 'red'])
    """
    if isinstance(texts, str) or not all(isinstance(t, str) for t in texts):
        raise ArgumentError("texts", "a sequence of texts", "one text" if isinstance(texts, str) else "other things")
    if weight not in ("tfidf", "count", None):
        raise ArgumentError("weight", "'tfidf', 'count' or None", repr(weight))
    if not 0 < max_share <= 1:
        raise ArgumentError("max_share", "a fraction above 0, up to 1", max_share)
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
    """Convert numpy values to Python values, so that names print naturally; dates stay dates."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        values = values.astype("datetime64[us]")  # finer ones would be converted to integers
    return values.tolist() if hasattr(values, "tolist") else values


def _missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' own
        return True
    return bool(value == "") or (isinstance(value, (Number, np.generic)) and bool(value != value))


def _numbered(name: str, ids: Sequence[Hashable], known: Sequence[Hashable] = ()) -> tuple[np.ndarray, list[Hashable]]:
    """The index of each id (known ids first, then in order of first appearance), and the ids in that order."""
    numbers: dict[Hashable, int] = {value: i for i, value in enumerate(known)}
    plain = _plain(ids)
    for row, value in enumerate(plain):
        if _missing(value):
            raise ArgumentError(name, "an id in every row", f"{value!r} in row {row}", "Drop such rows first")
        if not isinstance(value, Hashable):
            raise ArgumentTypeError(name, "ids: texts, numbers, tuples", f"{value!r} in row {row}")
    codes = np.fromiter((numbers.setdefault(i, len(numbers)) for i in plain), dtype=np.int64, count=len(plain))
    return codes, list(numbers)
