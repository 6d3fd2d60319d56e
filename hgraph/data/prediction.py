"""`LinkSplit`, `HyperedgeSplit`: edges to predict, and the structure without them for message passing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hgraph.checks import of_kind
from hgraph.data.negatives import (
    codes_of,
    is_bipartite,
    is_directed,
    link_mask,
    links_of_graph,
    pairs_without_edge,
    typed_pairs_without_edge,
)
from hgraph.data.split import Labeled, cuts, in_time
from hgraph.errors import ArgumentError, DataError
from hgraph.structure.base import moved
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["HyperedgeSplit", "LinkSplit"]

S = TypeVar("S", Graph, Hypergraph)
_LOG = logging.getLogger("hgraph")

_TRIES = 100  # attempts to draw a negative before it is skipped


@dataclass(frozen=True, eq=False)
class LinkSplit:
    """Training, validation and test links, and the graph for message passing during training.

    Both directions of an undirected edge are one link and are always in the same part. Features that are computed from
    the whole graph, such as degrees, count held-out links: use `features_on` of ``structure`` instead.

    Args:
        structure: the graph with only the training links (and all self-loops), with their weights.
        train: [2, K] ``[source, target]``, like ``val`` and ``test``; undirected links once, smaller id first.
        val: validation links.
        test: test links.
        val_negatives: [2, K] pairs without an edge in the whole graph, as many as ``val``.
        test_negatives: as many as ``test``; disjoint from ``val_negatives``.

    >>> ring = Graph.from_edge_index([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]], num_nodes=5, directed=False)
    >>> split = LinkSplit.random(ring, val_fraction=0.2, test_fraction=0.2)
    >>> split.structure.num_edges, split.test.shape[1], split.test_negatives.shape[1]
    (6, 1, 1)
    """

    structure: Graph
    train: Tensor
    val: Tensor
    test: Tensor
    val_negatives: Tensor
    test_negatives: Tensor

    @classmethod
    def random(
        cls,
        graph: Graph,
        *,
        node_type: Any = None,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        seed: int = 0,
    ) -> LinkSplit:
        """Hold out links at random, with a seed.

        Args:
            graph: the whole graph; without parallel edges.
            node_type: [N] integers. Negatives then have the same pairs of node types as the held-out links, in
                proportion: in a bipartite graph no negative is within a side, where its types alone would give it away.
            val_fraction: fraction of the links for validation; rounded to whole links.
            test_fraction: fraction of the links for testing; rounded to whole links.
            seed: random seed for the split and the negatives.

        Raises:
            ArgumentError: fractions out of range, parallel edges, or too few pairs without an edge for the negatives.
        """
        links = links_of_graph(of_kind("graph", graph, Graph))
        order = torch.randperm(links.shape[1], generator=torch.Generator().manual_seed(seed))
        train, held, last = order.tensor_split(cuts(len(order), val_fraction, test_fraction))
        return cls._of(graph, links, train, held, last, seed, node_type)

    @classmethod
    def by_time(
        cls,
        graph: Graph,
        time: Any,
        *,
        node_type: Any = None,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        seed: int = 0,
    ) -> LinkSplit:
        """Hold out the latest links: no training link is newer than a held-out one.

        Args:
            graph: the whole graph; without parallel edges.
            time: [E] one number per edge, in the order of ``graph.adj``; a link has the time of its older direction.
            node_type: see `random`.
            val_fraction: fraction of the links; links of equal time stay together, so parts may be larger.
            test_fraction: the same for the test links.
            seed: random seed for the negatives.
        """
        time = torch.as_tensor(time)
        of_kind("graph", graph, Graph)
        if time.shape != (graph.num_edges,):
            raise ArgumentError("time", f"{graph.num_edges} numbers (one per edge)", f"shape {list(time.shape)}")
        links = links_of_graph(graph)
        # Row t of the transpose lists the targets of t: in a symmetric graph these are the reverse edges, in row order.
        both = time if is_directed(graph) else torch.minimum(time, time[graph.adj.perm.long()])
        train, held, last = in_time(both[link_mask(graph)], val_fraction, test_fraction)
        return cls._of(graph, links, train, held, last, seed, node_type)

    @classmethod
    def _of(
        cls, graph: Graph, links: Tensor, train: Tensor, val: Tensor, test: Tensor, seed: int, node_type: Any
    ) -> LinkSplit:
        hidden = codes_of(links[:, torch.cat([val, test])], graph)
        visible = ~torch.isin(codes_of(graph.edge_index, graph), hidden)
        structure = _with_edges(graph, visible)
        if node_type is None:
            if len(val) + len(test) and is_bipartite(graph):
                _LOG.warning("bipartite graph: negatives may join nodes of one side; pass node_type= to avoid that")
            negatives = pairs_without_edge(graph, len(val) + len(test), seed)
        else:
            negatives = typed_pairs_without_edge(graph, links[:, torch.cat([val, test])], node_type, seed)
        links_of = [links[:, ids.sort().values] for ids in (train, val, test)]
        return cls(structure, links_of[0], links_of[1], links_of[2], *negatives.tensor_split([len(val)], dim=1))

    def validate(self, whole: Graph | Labeled) -> None:
        """Prove that no held-out link is in the training graph, in either direction, and that negatives are not edges.

        Args:
            whole: the whole graph, or the data that contains it.

        Raises:
            DataError: the structure is not the graph without the held-out links, parts overlap, or a negative is an
                edge.
        """
        graph = _whole(whole, Graph)
        codes = [codes_of(part, graph) for part in (self.train, self.val, self.test)]
        everything = torch.cat(codes)
        if len(everything.unique()) != len(everything):
            raise DataError("split: a link appears more than once in train, val and test")
        edges = codes_of(graph.edge_index, graph)
        if not torch.equal(everything.sort().values, codes_of(links_of_graph(graph), graph).sort().values):
            raise DataError("split: train, val and test together are not the links of the graph")
        if not _with_edges(graph, ~torch.isin(edges, torch.cat(codes[1:]))).equal(self.structure):
            raise DataError("split: the training graph is not the whole graph without the held-out links")
        negatives = codes_of(torch.cat([self.val_negatives, self.test_negatives], dim=1), graph)
        if bool(torch.isin(negatives, edges).any()):
            raise DataError("split: a negative is an edge of the graph")
        if len(negatives.unique()) != len(negatives):
            raise DataError("split: a negative appears more than once")

    def to(self, device: torch.device | str) -> LinkSplit:
        """The same split on another device."""
        return moved(self, device)

    def __repr__(self) -> str:
        counts = [f"{name} {getattr(self, name).shape[1]:,}" for name in ("train", "val", "test")]
        return f"LinkSplit({', '.join(counts)} links)"


@dataclass(frozen=True, eq=False)
class HyperedgeSplit:
    """Training, validation and test hyperedges, and the hypergraph for message passing during training.

    Hyperedges with the same members are always in the same part; otherwise training would reveal held-out ones.
    Features from the whole hypergraph, such as degrees, count held-out ones: use `features_on` of ``structure``.

    Args:
        structure: only the training hyperedges, on all nodes.
        train: [.] hyperedge ids of the whole hypergraph, like ``val`` and ``test``.
        val: validation hyperedges.
        test: test hyperedges.
        val_negatives: sets of nodes that are not hyperedges: for each validation hyperedge, a set of the same size with
            some members replaced; omitted if none was found.
        test_negatives: the same for the test.

    >>> hg = Hypergraph.from_lists([[0, 1], [2, 3], [1, 0], [4, 5], [0, 5]], num_nodes=6)
    >>> split = HyperedgeSplit.random(hg, val_fraction=0.0, test_fraction=0.2)
    >>> split.test.tolist(), split.structure.num_hyperedges, split.test_negatives.hyperedge_degree().tolist()
    ([3], 4, [2])
    """

    structure: Hypergraph
    train: Tensor
    val: Tensor
    test: Tensor
    val_negatives: Hypergraph
    test_negatives: Hypergraph

    @classmethod
    def random(
        cls,
        hypergraph: Hypergraph,
        *,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        exchanged: float = 0.5,
        seed: int = 0,
    ) -> HyperedgeSplit:
        """Hold out hyperedges at random, with a seed.

        Args:
            hypergraph: the whole hypergraph.
            val_fraction: fraction of the distinct member sets for validation; rounded to whole sets.
            test_fraction: fraction of the distinct member sets for testing; rounded to whole sets.
            exchanged: fraction of a positive's members that its negative replaces by other nodes (at least one
                member): 1 is easy to tell from a hyperedge, small fractions are hard.
            seed: random seed for the split and the negatives.
        """
        group = torch.tensor(_groups(of_kind("hypergraph", hypergraph, Hypergraph)), dtype=torch.long)
        count = int(group.max()) + 1 if len(group) else 0
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        parts = [
            torch.isin(group, p).nonzero().flatten()
            for p in order.tensor_split(cuts(count, val_fraction, test_fraction))
        ]
        return cls._of(hypergraph, parts, exchanged, seed)

    @classmethod
    def by_time(
        cls,
        hypergraph: Hypergraph,
        time: Any,
        *,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        exchanged: float = 0.5,
        seed: int = 0,
    ) -> HyperedgeSplit:
        """Hold out the latest hyperedges; one that only repeats the members of an earlier part is dropped.

        Args:
            hypergraph: the whole hypergraph.
            time: [M] one number per hyperedge.
            val_fraction: fraction of the hyperedges; those of equal time stay together.
            test_fraction: the same for the test hyperedges.
            exchanged: see `random`.
            seed: random seed for the negatives.
        """
        time = torch.as_tensor(time)
        of_kind("hypergraph", hypergraph, Hypergraph)
        if time.shape != (hypergraph.num_hyperedges,):
            expected = f"{hypergraph.num_hyperedges} numbers (one per hyperedge)"
            raise ArgumentError("time", expected, f"shape {list(time.shape)}")
        group, parts = torch.tensor(_groups(hypergraph), dtype=torch.long), []
        seen = group[:0]
        for part in in_time(time, val_fraction, test_fraction):
            new = part[~torch.isin(group[part], seen)].sort().values
            seen = torch.cat([seen, group[new]])
            parts.append(new)
        return cls._of(hypergraph, parts, exchanged, seed)

    @classmethod
    def _of(cls, hypergraph: Hypergraph, parts: Sequence[Tensor], exchanged: float, seed: int) -> HyperedgeSplit:
        if not 0 < exchanged <= 1:
            raise ArgumentError("exchanged", "a fraction above 0, up to 1", exchanged)
        rng = np.random.default_rng(seed)
        taken = {tuple(e) for e in hypergraph.to_lists()}
        negatives = [_twins(_only(hypergraph, part), taken, exchanged, rng) for part in parts[1:]]
        train, val, test = parts
        return cls(_only(hypergraph, train), train, val, test, *negatives)

    def validate(self, whole: Hypergraph | Labeled) -> None:
        """Prove that no held-out member set is in the training hypergraph, and that negatives are not hyperedges.

        Args:
            whole: the whole hypergraph, or the data that contains it.

        Raises:
            DataError: parts overlap, the structure does not match the training hyperedges, the members of a held-out
                hyperedge are in the training part under another id, or a negative is a hyperedge.
        """
        hypergraph = _whole(whole, Hypergraph)
        ids = torch.cat([self.train, self.val, self.test])
        if len(ids.unique()) != len(ids):
            raise DataError("split: a hyperedge appears more than once in train, val and test")
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= hypergraph.num_hyperedges):
            raise DataError(f"split: ids must be in 0 .. {hypergraph.num_hyperedges - 1}")
        if not _only(hypergraph, self.train).equal(self.structure):
            raise DataError("split: the training hypergraph does not match the training hyperedges")
        lists = hypergraph.to_lists()
        parts = [{tuple(lists[e]) for e in part.tolist()} for part in (self.train, self.val, self.test)]
        if parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2]:
            raise DataError("split: hyperedges with the same members are in two parts")
        known = {tuple(e) for e in lists}
        if any(tuple(e) in known for n in (self.val_negatives, self.test_negatives) for e in n.to_lists()):
            raise DataError("split: a negative is a hyperedge of the hypergraph")

    def to(self, device: torch.device | str) -> HyperedgeSplit:
        """The same split on another device."""
        return moved(self, device)

    def __repr__(self) -> str:
        counts = [f"{name} {len(getattr(self, name)):,}" for name in ("train", "val", "test")]
        return f"HyperedgeSplit({', '.join(counts)} hyperedges)"


def _whole(whole: Any, kind: type[S]) -> S:
    """The structure that a split divides, from a data object or directly."""
    return of_kind("whole", getattr(whole, "structure", whole), kind)


def _with_edges(graph: Graph, selected: Tensor) -> Graph:
    """The graph with all nodes and only those edges."""
    weight = None if graph.adj.weight is None else graph.adj.weight[selected]
    return Graph.from_edge_index(graph.edge_index[:, selected], num_nodes=graph.num_nodes, directed=True, weight=weight)


# ---------------------------------------------------------------------- hyperedges


def _only(hypergraph: Hypergraph, hyperedges: Tensor) -> Hypergraph:
    """The hypergraph with all nodes and only those hyperedges, in that order."""
    pick: Callable[[Tensor | None], Tensor | None] = lambda w: None if w is None else w[hyperedges]  # noqa: E731
    return Hypergraph(hypergraph.v2e.select(hyperedges), pick(hypergraph.hyperedge_weight), hypergraph.node_weight)


def _groups(hypergraph: Hypergraph) -> list[int]:
    """[M] a group id; equal for hyperedges with the same members."""
    number: dict[tuple[int, ...], int] = {}
    return [number.setdefault(tuple(e), len(number)) for e in hypergraph.to_lists()]


def _twins(
    positives: Hypergraph, taken: set[tuple[int, ...]], exchanged: float, rng: np.random.Generator
) -> Hypergraph:
    """For each hyperedge a new set of the same size with some members replaced; never one in ``taken`` or a repeat."""
    n, twins = positives.num_nodes, []
    for members in positives.to_lists():
        swap = min(max(1, round(exchanged * len(members))), n - len(members), len(members))
        for _ in range(_TRIES if swap > 0 else 0):
            remaining = rng.permutation(members)[swap:].tolist()
            fresh: set[int] = set()
            while len(fresh) < swap:
                fresh |= set(rng.integers(0, n, swap - len(fresh)).tolist()) - set(members)
            twin = tuple(sorted([*remaining, *fresh]))
            if twin not in taken:
                taken.add(twin)
                twins.append(twin)
                break
    return Hypergraph.from_lists(twins, num_nodes=n).to(positives.device)
