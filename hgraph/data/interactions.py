"""`Interactions`, `TripleSplit`: train, validation and test parts for recommendation and knowledge-graph completion."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hgraph._torch import is_eager, is_plain
from hgraph.checks import Checks
from hgraph.data.split import cuts
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure
from hgraph.structure.knowledge_graph import KnowledgeGraph
from hgraph.structure.names import Names

__all__ = ["Interactions", "TripleSplit"]


@dataclass(frozen=True, eq=False)
class Interactions(Structure):
    """Interactions of U users with I items, in three parts, and a knowledge graph of the items.

    Args:
        train: the U x I `Adjacency` of training interactions; row u lists the items of user u.
        val: validation interactions.
        test: test interactions.
        kg: the `KnowledgeGraph` of the entities; the first I nodes are the items.
        user_names: U `Names`, or None; item names are in ``kg.node_names``.
        excluded: other pairs that are known, such as those with low ratings: in no part, and never recommended.

    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.random([0, 0, 1], [0, 0, 0], kg, num_users=2, num_items=1, val_fraction=0,
    ...     test_fraction=0, duplicates="drop")
    >>> data, data.collaborative()
    (Interactions(2 users, 1 items; train 2, val 0, test 0; KnowledgeGraph(2 nodes, 1 triples, 1 relations, cpu)), \
KnowledgeGraph(4 nodes, 6 triples, 4 relations, cpu))
    """

    train: Adjacency
    val: Adjacency
    test: Adjacency
    kg: KnowledgeGraph
    user_names: Names | None = None
    excluded: Adjacency | None = None

    def __post_init__(self) -> None:
        """Reject parts with different users or items, and more items than entities."""
        shapes = [(a.num_targets, a.num_sources) for a in self.known]
        if not is_eager():
            return
        if len(set(shapes)) > 1:
            got = ", ".join(
                f"{n} {u} x {i}" for n, (u, i) in zip(("train", "val", "test", "excluded"), shapes, strict=False)
            )
            hint = "Use one numbering of users and items for all parts, as in Interactions.from_pairs"
            raise ArgumentError("train, val, test", "parts over the same users and items", got, hint)
        if shapes[0][1] > self.kg.num_nodes:
            raise ArgumentError("kg", f"a node for each of the {shapes[0][1]} items", self.kg.num_nodes)
        if self.user_names is not None and len(self.user_names) != shapes[0][0]:
            raise ArgumentError("user_names", f"{shapes[0][0]} names (one per user)", len(self.user_names))

    @property
    def known(self) -> list[Adjacency]:
        """All pairs, by part, and those in no part: what is not recommended again."""
        return [self.train, self.val, self.test, *([] if self.excluded is None else [self.excluded])]

    @classmethod
    def from_pairs(
        cls,
        train: Any,
        val: Any,
        test: Any,
        kg: KnowledgeGraph,
        *,
        num_users: int,
        num_items: int,
        user_names: Any = None,
    ) -> Interactions:
        """Build from pairs ``[users, items]`` [2, K] of each part.

        Raises:
            ArgumentError: ids out of range, a repeated pair, fewer nodes than items.
            DataError: a pair in two parts.
        """
        if num_items > kg.num_nodes:
            raise ArgumentError("num_items", f"at most the {kg.num_nodes} nodes of kg", num_items)
        parts = []
        for name, pairs in (("train", train), ("val", val), ("test", test)):
            users, items = (coo.as_indices(name, column) for column in pairs)
            hint = "Pass each pair once; Interactions.random takes duplicates='drop'"
            names = coo.Names(f"{name} users", f"{name} items", "num_users", "num_items", "users", "items", hint)
            parts.append(Adjacency._from_coo(users, items, None, num_users, num_items, "error", names, Checks()))
        made = cls(parts[0], parts[1], parts[2], kg, Names.checked("user_names", user_names, num_users, "user"))
        made.validate()
        return made

    @classmethod
    def random(
        cls,
        users: Any,
        items: Any,
        kg: KnowledgeGraph,
        *,
        num_users: int,
        num_items: int,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        seed: int = 0,
        duplicates: str = "error",
        user_names: Any = None,
    ) -> Interactions:
        """Split pairs [K] at random, with a seed.

        Args:
            users: [K] integers.
            items: [K] integers.
            kg: the knowledge graph of the entities, items first.
            num_users: U.
            num_items: I.
            val_fraction: fraction of the pairs for validation.
            test_fraction: fraction of the pairs for testing.
            seed: random seed.
            duplicates: ``"error"`` rejects repeated pairs, ``"drop"`` counts them once.
            user_names: U texts, or None.
        """
        if duplicates not in ("error", "drop"):
            raise ArgumentError("duplicates", "'error' or 'drop'", repr(duplicates))
        pairs = torch.stack([coo.as_indices("users", users), coo.as_indices("items", items)])
        pairs = pairs.unique(dim=1) if duplicates == "drop" else pairs
        order = torch.randperm(pairs.shape[1], generator=torch.Generator().manual_seed(seed))
        a, b, c = (pairs[:, ids] for ids in order.tensor_split(cuts(len(order), val_fraction, test_fraction)))
        return cls.from_pairs(a, b, c, kg, num_users=num_users, num_items=num_items, user_names=user_names)

    @property
    def num_users(self) -> int:
        """U."""
        return self.train.num_targets

    @property
    def num_items(self) -> int:
        """I."""
        return self.train.num_sources

    def collaborative(self, *, inverses: bool = True) -> KnowledgeGraph:
        """The graph for message passing: the training interactions and the triples, each with its inverse.

        User u is node u, entity e node U + e. Relations are numbered as in KGAT (Wang et al., KDD 2019): 0 interacts,
        r + 1 relation r, then the inverses in the same order. Unnamed nodes are called "user 3", "item 187"
        and, for other entities, "entity 4000", numbered among the users and in ``kg``. If ``kg`` has no
        types, the nodes get the types user, item and entity.
        """
        kg = self.kg if self.kg.node_type is not None else self._typed()
        kg = kg.with_interactions(self.train.target, self.train.indices, num_users=self.num_users)
        kg = dataclasses.replace(kg, node_names=Names.of([*self._users(), *self._entities()]).to(kg.device))
        return kg.with_inverses() if inverses else kg

    def _typed(self) -> KnowledgeGraph:
        kinds = (torch.arange(self.kg.num_nodes, device=self.kg.device) >= self.num_items).long()
        return dataclasses.replace(self.kg, node_type=kinds, type_names=Names.of(["item", "entity"]).to(self.kg.device))

    def _users(self) -> Iterable[str]:
        return (f"user {u}" for u in range(self.num_users)) if self.user_names is None else self.user_names

    def _entities(self) -> Iterable[str]:
        if self.kg.node_names is not None:
            return self.kg.node_names
        return (f"{'item' if e < self.num_items else 'entity'} {e}" for e in range(self.kg.num_nodes))

    def validate(self) -> None:
        """Prove that no pair is in two parts, so that no held-out pair is in `collaborative`.

        Raises:
            DataError: a pair in two parts.
        """
        parts = {"train": self.train, "val": self.val, "test": self.test}
        codes = {name: a.target.long() * max(self.num_items, 1) + a.indices.long() for name, a in parts.items()}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            shared = int(torch.isin(codes[one], codes[other]).sum())
            if shared:
                raise DataError(f"interactions: {shared} pairs are in both {one} and {other}")

    def equal(self, other: Interactions) -> bool:
        """Whether both have the same pairs, triples and names."""
        if not isinstance(other, Interactions) or not self.kg.equal(other.kg):
            return False
        both = ((self.user_names, other.user_names), (self.excluded, other.excluded))
        same = all(a is b if a is None or b is None else a.equal(b) for a, b in both)  # type: ignore[arg-type]
        return same and all(getattr(self, p).equal(getattr(other, p)) for p in ("train", "val", "test"))

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        counts = ", ".join(f"{name} {getattr(self, name).num_edges:,}" for name in ("train", "val", "test"))
        return f"Interactions({self.num_users:,} users, {self.num_items:,} items; {counts}; {self.kg})"


@dataclass(frozen=True, eq=False)
class TripleSplit(Structure):
    """Training, validation and test triples with the same node and relation ids.

    Args:
        train: the `KnowledgeGraph` for training.
        val: validation triples.
        test: test triples.

    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "r", "c"), ("c", "r", "d"), ("d", "r", "a")])
    >>> split = TripleSplit.random(kg, val_fraction=0.25, test_fraction=0.25)
    >>> split.train.num_edges, split.val.num_edges, split.test.num_edges, len(split.known())
    (2, 1, 1, 4)
    """

    train: KnowledgeGraph
    val: KnowledgeGraph
    test: KnowledgeGraph

    def __post_init__(self) -> None:
        """Reject parts with different node or relation ids."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        if not (is_eager() and all(is_plain(kg.relation) for kg in parts.values())):
            return
        sizes = {name: (kg.num_nodes, kg.num_relations) for name, kg in parts.items()}
        texts = [[getattr(kg, n) for n in ("node_names", "relation_names")] for kg in parts.values()]
        if len(set(sizes.values())) > 1 or not all(_same_names(texts[0], other) for other in texts[1:]):
            got = ", ".join(f"{name} {n} nodes and {r} relations" for name, (n, r) in sizes.items())
            hint = "Read them together: TripleSplit(*convert.read_triples([train, valid, test])), or use of_triples"
            raise ArgumentError("train, val, test", "parts with the same node and relation ids", got, hint)

    @classmethod
    def of_triples(cls, parts: list[Tensor], *, num_nodes: int, num_relations: int, **names: Any) -> TripleSplit:
        """Build from triples ``(head, relation, tail)`` [K, 3] of each part; ``names`` as in `KnowledgeGraph`.

        Repeated triples within a part are allowed.
        """
        made = []
        for triples in parts:
            head, relation, tail = triples.unbind(1)
            kg = KnowledgeGraph.from_triples(
                head=head,
                relation=relation,
                tail=tail,
                num_nodes=num_nodes,
                num_relations=num_relations,
                duplicates="keep",
                **names,
            )
            made.append(kg)
        split = cls(made[0], made[1], made[2])
        split.validate()
        return split

    @classmethod
    def random(
        cls,
        kg: KnowledgeGraph,
        *,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        cover: bool = False,
        seed: int = 0,
    ) -> TripleSplit:
        """Split the triples of a graph at random, with a seed.

        Args:
            kg: the knowledge graph to split.
            val_fraction: fraction of the triples for validation.
            test_fraction: fraction of the triples for testing.
            cover: put every node and relation into at least one training triple, which may enlarge the training part;
                otherwise a test triple may have a node without training triples (see `unseen`).
            seed: random seed.
        """
        order = torch.randperm(kg.num_edges, generator=torch.Generator().manual_seed(seed))
        places = cuts(len(order), val_fraction, test_fraction)
        if cover:
            needed = _covering(kg.triples[order])
            order = torch.cat([order[needed], order[~needed]])
            places = [max(place, int(needed.sum())) for place in places]
        parts = [kg.triples[ids] for ids in order.tensor_split(places)]
        names = {n: getattr(kg, n) for n in ("node_type", "node_names", "relation_names", "type_names")}
        return cls.of_triples(parts, num_nodes=kg.num_nodes, num_relations=kg.num_relations, **names)

    def unseen(self) -> dict[str, int]:
        """The number of validation and test triples with a node or relation that has no training triple.

        Their embeddings are untrained, so their ranks are arbitrary.

        >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "r", "c")])
        >>> parts = [kg.triples[:1], kg.triples[:0], kg.triples[1:]]
        >>> TripleSplit.of_triples(parts, num_nodes=3, num_relations=1).unseen()
        {'val': 0, 'test': 1}
        """
        found = {}
        for name, kg in (("val", self.val), ("test", self.test)):
            known = torch.zeros(2, max(kg.num_nodes, kg.num_relations, 1), dtype=torch.bool, device=kg.device)
            for column, row in ((0, 0), (2, 0), (1, 1)):
                known[row, self.train.triples[:, column]] = True
            h, r, t = kg.triples.unbind(1)
            found[name] = int((~(known[0, h] & known[0, t] & known[1, r])).sum())
        return found

    def known(self) -> Tensor:
        """[K, 3] the triples of all three parts: a filtered ranking must not count them as wrong."""
        return torch.cat([self.train.triples, self.val.triples, self.test.triples])

    def validate(self) -> None:
        """Prove that no held-out triple is in the training graph.

        Raises:
            DataError: a triple in two parts.
        """
        parts = [kg.triples.unique(dim=0) for kg in (self.train, self.val, self.test)]
        whole = torch.cat(parts)
        repeated = len(whole) - len(whole.unique(dim=0))
        if repeated:
            raise DataError(f"split: {repeated} triples are in two parts")

    def equal(self, other: TripleSplit) -> bool:
        """Whether both have the same triples."""
        if not isinstance(other, TripleSplit):
            return False
        return all(getattr(self, part).equal(getattr(other, part)) for part in ("train", "val", "test"))

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        counts = ", ".join(f"{name} {getattr(self, name).num_edges:,}" for name in ("train", "val", "test"))
        return f"TripleSplit({counts} triples; {self.train.num_nodes:,} nodes, {self.train.num_relations} relations)"


def _same_names(one: list[Names | None], other: list[Names | None]) -> bool:
    return all(a is b or (a is not None and b is not None and a.equal(b)) for a, b in zip(one, other, strict=True))


def _covering(triples: Tensor) -> Tensor:
    """[K] which triples are the first, in their order, with some node or relation."""
    seen: tuple[set[int], set[int]] = (set(), set())
    needed = []
    for h, r, t in triples.tolist():
        needed.append(not (h in seen[0] and t in seen[0] and r in seen[1]))
        seen[0].update((h, t))
        seen[1].add(r)
    return torch.tensor(needed, dtype=torch.bool)


torch.export.register_dataclass(Interactions, serialized_type_name="hgraph.structure.Interactions")
torch.export.register_dataclass(TripleSplit, serialized_type_name="hgraph.structure.TripleSplit")
torch.serialization.add_safe_globals([Interactions, TripleSplit])
