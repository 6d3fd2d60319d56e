"""`KnowledgeGraph`: typed triples, a multigraph with a relation per edge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.checks import Checks
from hgraph.errors import ArgumentError
from hgraph.structure import coo, relations
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.names import Names
from hgraph.structure.paths import Path, best_paths
from hgraph.structure.triple_list import TripleList

__all__ = ["KnowledgeGraph", "Triple"]


class Triple(NamedTuple):
    """One triple, as ids, or as names if the graph has names.

    >>> KnowledgeGraph.from_names([("Dune", "by", "Herbert")]).find_triples()[0].tail
    'Herbert'
    """

    head: Any
    relation: Any
    tail: Any


@dataclass(frozen=True, eq=False)
class KnowledgeGraph(TripleList):
    """N nodes and E triples ``(head, relation, tail)``; the head receives messages from the tail.

    Use it when edges have types, as in (Dune, has author, Frank Herbert).

    A multigraph: triples with the same two nodes are parallel edges and are never merged. Edges are sorted by
    (head, tail, relation); per-edge tensors are in that order, as in `Adjacency`.

    Args:
        adj: the N x N `Adjacency`; row h lists the tails of the triples of h. Its weights, if any, are attention
            weights.
        relation: [E] the relation of each edge.
        relation_indptr: [R+1], where each relation's run starts in ``by_relation``.
        by_relation: [E] the edges ordered by relation.
        node_type: [N] the type of each node, or None.
        node_names: N `Names`, or None.
        relation_names: R `Names`, or None.
        type_names: `Names`, one per type, or None.

    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert"), ("Solaris", "by", "Lem"), ("Dune", "is a", "novel")])
    >>> kg, kg.find_triples("Dune")
    (KnowledgeGraph(5 nodes, 3 triples, 2 relations, cpu), [Triple(head='Dune', relation='by', tail='Herbert'), \
Triple(head='Dune', relation='is a', tail='novel')])
    """

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_triples(
        cls,
        *,
        head: Any,
        relation: Any,
        tail: Any,
        num_nodes: int,
        num_relations: int,
        node_type: Any = None,
        node_names: Names | Iterable[str] | None = None,
        relation_names: Names | Iterable[str] | None = None,
        type_names: Names | Iterable[str] | None = None,
        duplicates: Literal["error", "drop", "keep"] = "error",
    ) -> KnowledgeGraph:
        """Build from triples [E] in any order; ``adj.sort_edges`` permutes per-triple values to the order of the edges.

        Args:
            head: [E] integers in 0 .. num_nodes - 1.
            relation: [E] integers in 0 .. num_relations - 1.
            tail: [E] integers in 0 .. num_nodes - 1.
            num_nodes: N, never inferred from the largest id.
            num_relations: R.
            node_type: [N] integers, 0 or more, or None.
            node_names: N texts, or None.
            relation_names: R texts, or None.
            type_names: texts, more than the largest ``node_type``, or None.
            duplicates: what to do with repeated triples: ``"error"`` raises, ``"drop"`` keeps one (per-edge values of
                the input are then added up by ``sort_edges``), ``"keep"`` makes parallel edges. Triples with different
                relations are not duplicates.

        Raises:
            ArgumentError: wrong shapes, ids out of range, a repeated triple under ``"error"``.

        >>> kg = KnowledgeGraph.from_triples(head=[0, 0], relation=[1, 0], tail=[2, 2], num_nodes=3, num_relations=2)
        >>> kg.triples.tolist()
        [[0, 0, 2], [0, 1, 2]]
        """
        if duplicates not in ("error", "drop", "keep"):
            raise ArgumentError("duplicates", "'error', 'drop' or 'keep'", repr(duplicates))
        checks = Checks()
        relation = coo.as_indices("relation", relation)
        coo.check_size("num_relations", num_relations)
        checks.in_range("relation", relation, num_relations, "relations")
        names = coo.Names("head", "tail", "num_nodes", "num_nodes", "nodes", "nodes")
        head, tail, _ = coo.as_coo(head, tail, None, num_nodes, num_nodes, names, checks)
        if relation.shape != head.shape:
            raise ArgumentError("relation", f"{len(head)} entries, as many as head", len(relation))
        kinds = relations.checked_types(node_type, num_nodes, head.device, checks)
        type_texts = None if type_names is None else Names.checked("type_names", type_names, len(list(type_names)), "")
        if type_texts is not None and kinds is not None:
            count = len(type_texts)
            checks.refuse(
                kinds >= count,
                lambda _: ArgumentError("type_names", f"more than {int(kinds.max())} strings (one per type)", count),
            )
        adj, relation = relations.sorted_triples(head, relation.to(head.device), tail, num_nodes, duplicates, checks)
        return cls.complete(
            adj,
            relation,
            num_relations,
            node_type=kinds,
            node_names=Names.checked("node_names", node_names, num_nodes, "node"),
            relation_names=Names.checked("relation_names", relation_names, num_relations, "relation"),
            type_names=type_texts,
        )

    @classmethod
    def from_names(cls, triples: Iterable[Sequence[str]], *, duplicates: str = "error") -> KnowledgeGraph:
        """Build from triples of names; nodes and relations are numbered in order of appearance.

        >>> KnowledgeGraph.from_names([("a", "knows", "b"), ("b", "knows", "a")]).node_names[1]
        'b'
        """
        nodes: dict[str, int] = {}
        kinds: dict[str, int] = {}
        columns: tuple[list[int], list[int], list[int]] = ([], [], [])
        for at, triple in enumerate(triples):
            if len(triple) != 3 or isinstance(triple, str):
                raise ArgumentError(f"triples[{at}]", "(head, relation, tail)", repr(triple))
            head, relation, tail = triple
            columns[0].append(nodes.setdefault(head, len(nodes)))
            columns[1].append(kinds.setdefault(relation, len(kinds)))
            columns[2].append(nodes.setdefault(tail, len(nodes)))
        return cls.from_triples(
            head=columns[0],
            relation=columns[1],
            tail=columns[2],
            num_nodes=len(nodes),
            num_relations=len(kinds),
            node_names=nodes,
            relation_names=kinds,
            duplicates=duplicates,  # type: ignore[arg-type]
        )

    # ------------------------------------------------------------------ queries

    def node(self, node: int | str) -> int:
        """The id of a node given by id or name."""
        return relations.number_of("node", node, self.num_nodes, self.node_names)

    def relation_of(self, relation: int | str) -> int:
        """The id of a relation given by id or name."""
        return relations.number_of("relation", relation, self.num_relations, self.relation_names)

    def view(self, relation: int | str) -> Graph:
        """The `Graph` of one relation's triples over all N nodes, with weights; heads receive from tails."""
        edges = self.edges_of(relation)
        weight = None if self.adj.weight is None else self.adj.weight[edges]
        n, target, source = self.num_nodes, self.adj.target[edges], self.adj.indices[edges]
        adj = Adjacency.from_coo(
            target=target, source=source, weight=weight, num_targets=n, num_sources=n, duplicates="keep"
        )
        return Graph(adj)

    def edges_of(self, relation: int | str) -> Tensor:
        """Positions of the edges of one relation, ascending."""
        start, end = self.relation_indptr[self.relation_of(relation) :][:2].tolist()
        return self.by_relation[start:end].long()

    def blocks(self) -> list[relations.Block]:
        """The triples grouped by relation, each over only the nodes that occur in it; cached.

        For per-relation work in O(nodes of the relation) memory: project ``x[block.head]``, not every edge.
        """
        return cached(self, "blocks", lambda: relations.blocks(self))

    def find_triples(self, head: int | str | None = None, relation: int | str | None = None) -> list[Triple]:
        """The triples of a head, of a relation, or of both, as names if the graph has names."""
        keep = torch.ones(self.num_edges, dtype=torch.bool, device=self.device)
        if head is not None:
            keep &= self.adj.target == self.node(head)
        if relation is not None:
            keep &= self.relation == self.relation_of(relation)
        named = (self.node_names, self.relation_names, self.node_names)
        rows = self.triples[keep].tolist()
        return [Triple(*(i if n is None else n[i] for i, n in zip(row, named, strict=True))) for row in rows]

    def neighbors(self, node: int | str, relation: int | str | None = None) -> Tensor:
        """Distinct ids of the tails of a head's triples, ascending."""
        start, end = self.adj.indptr[self.node(node) :][:2].tolist()
        tails = self.adj.indices[start:end]
        if relation is not None:
            tails = tails[self.relation[start:end] == self.relation_of(relation)]
        return torch.unique(tails.long())

    def neighborhood(self, node: int | str, num_hops: int = 1) -> Tensor:
        """Ids, ascending, of the nodes within ``num_hops`` triples in either direction, including the node."""
        return relations.neighborhood(self.adj, self.node(node), num_hops)

    def paths(self, start: int | str, end: int | str, *, max_steps: int = 3, limit: int = 10) -> list[Path]:
        """The best paths from one node to another along triples, head to tail, without repeated nodes.

        Paths are ranked by the product of edge weights (1 if unweighted), then by the number of steps.

        Args:
            start: node id or name.
            end: node id or name.
            max_steps: maximum number of edges of a path.
            limit: maximum number of paths.

        >>> kg = KnowledgeGraph.from_names([("ann", "likes", "Dune"), ("Dune", "by", "Herbert")])
        >>> kg.tell(kg.paths("ann", "Herbert")[0])
        'ann -likes-> Dune -by-> Herbert'
        """
        return best_paths(self, self.node(start), self.node(end), max_steps, limit)

    def tell(self, path: Path) -> str:
        """Describe a path of this graph in words.

        Raises:
            ArgumentError: the path is not one of this graph, but, for example, of its version with inverses.
        """
        there = [edge for edge in path.edges if edge < self.num_edges]
        ends = [tuple(end[there].tolist()) for end in (self.adj.target, self.adj.indices)]
        if ends != [path.nodes[:-1], path.nodes[1:]]:
            raise ArgumentError("path", "a path of this graph", f"{path}", "Use the graph that found the path")

        def name(names: Names | None, number: int) -> str:
            return str(number) if names is None else names[number]

        text = name(self.node_names, path.nodes[0])
        for edge, tail in zip(path.edges, path.nodes[1:], strict=True):
            text += f" -{name(self.relation_names, int(self.relation[edge]))}-> {name(self.node_names, tail)}"
        return text

    # ------------------------------------------------------------------ other graphs made of it

    def reversed(self) -> KnowledgeGraph:
        """Reverse every triple to (tail, relation, head) under the same relation; keeps weights."""
        return relations.rebuilt(self, self.adj.indices, self.relation, self.adj.target, self.adj.weight)

    def with_inverses(self) -> KnowledgeGraph:
        """Add the reverse of every triple under a separate relation: R + r is the inverse of r. Drops weights."""
        return relations.with_inverses(self)

    def with_interactions(self, users: Any, items: Any, *, num_users: int) -> KnowledgeGraph:
        """The collaborative knowledge graph: adds users before the entities, and a ``(user, 0, item)`` per interaction.

        User u is node u, entity e (including items) is node ``num_users + e``, relation r becomes r + 1. Node
        types are shifted by one and users have type 0.

        Args:
            users: [K] integers in 0 .. num_users - 1.
            items: [K] integers, the entity ids of the items.
            num_users: U.

        Raises:
            ArgumentError: ids out of range, or a repeated interaction.
        """
        return relations.with_interactions(self, users, items, num_users)

    def subgraph(self, nodes: Tensor) -> KnowledgeGraph:
        """The induced subgraph of ``nodes`` [N'], which become 0 .. N'-1 in the given order; keeps relation ids."""
        return relations.subgraph(self, nodes)

    # ------------------------------------------------------------------ housekeeping

    def equal(self, other: KnowledgeGraph) -> bool:
        """Whether both have the same nodes, triples, weights, types and names."""
        return isinstance(other, KnowledgeGraph) and relations.equal(self, other)

    def draw(self, ax: Any = None, **options: Any) -> Any:
        """Draw nodes and triples, one color per relation, arrows from head to tail; returns the matplotlib axes.

        Args:
            ax: axes to draw into, or None for new ones.
            **options: ``labels`` [N] color nodes (default: their types), ``names`` are node labels (default: those
                of the graph), ``positions`` [N, 2] place nodes (default: a spring layout with ``seed``),
                ``largest`` is the weight of the widest line, ``title``.
        """
        from hgraph.draw.knowledge import draw_knowledge_graph

        return draw_knowledge_graph(self, ax, **options)

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        weight = "" if self.adj.weight is None else ", weighted"
        sizes = f"{self.num_nodes} nodes, {self.num_edges} triples, {self.num_relations} relations"
        return f"KnowledgeGraph({sizes}{weight}, {self.device})"


torch.export.register_dataclass(KnowledgeGraph, serialized_type_name="hgraph.structure.KnowledgeGraph")
torch.serialization.add_safe_globals([KnowledgeGraph])
