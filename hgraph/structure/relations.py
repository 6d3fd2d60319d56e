"""Operations on knowledge graphs: sorted triples, blocks by relation, inverses, the collaborative graph."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from hgraph.checks import Checks
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.edge_list import measured, united
from hgraph.structure.names import Names
from hgraph.structure.triple_list import TripleList

K = TypeVar("K", bound=TripleList)

__all__ = ["Block"]

_TAKES = "interacts with"  # the relation between users and items


class Block(NamedTuple):
    """The triples of one relation over only the nodes that occur in them.

    Args:
        relation: the relation id.
        head: [H] ids, ascending, of the nodes that are heads.
        tail: [T] ids, ascending, of the nodes that are tails.
        adj: the H x T `Adjacency` of the triples.
        edges: [.] positions of these triples among all edges, in the order of ``adj``.
    """

    relation: int
    head: Tensor
    tail: Tensor
    adj: Adjacency
    edges: Tensor


def blocks(kg: TripleList) -> list[Block]:
    """A `Block` for each relation that has triples."""
    found = []
    ends = kg.relation_indptr.tolist()
    for relation, (start, end) in enumerate(itertools.pairwise(ends)):
        if start == end:
            continue
        edges = kg.by_relation[start:end].long()
        head, target = torch.unique(kg.adj.target[edges].long(), return_inverse=True)
        tail, source = torch.unique(kg.adj.indices[edges].long(), return_inverse=True)
        # the edges of one relation are sorted by (head, tail), and so are their ranks
        adj = Adjacency.trusted(indptr=coo.pointers(target, len(head)), indices=source, num_sources=len(tail))
        found.append(Block(relation, head, tail, adj, edges))
    return found


def sorted_triples(
    head: Tensor, relation: Tensor, tail: Tensor, num_nodes: int, duplicates: str, checks: Checks
) -> tuple[Adjacency, Tensor]:
    """The structure of the triples sorted by (head, tail, relation), and the relation of each edge.

    Synchronizes with the device once, including pending ``checks``.
    """
    by_relation = torch.sort(relation, stable=True).indices
    order = by_relation[coo.lexsort(head[by_relation], tail[by_relation])]
    head, relation, tail = head[order], relation[order], tail[order]
    first = coo.first_of_run(head, tail)
    first[1:] |= relation[1:] != relation[:-1]
    adj = Adjacency._from_sorted(coo.pointers(head, num_nodes), tail, head, num_nodes, coo.inverse(order), None)
    if duplicates == "drop":
        adj = united(adj, first, checks)
        return adj, relation[coo.run_starts(first.cumsum(0), adj.num_edges)]
    if duplicates == "error":

        def repeated(at: int) -> ArgumentError:
            what = f"{int((~first).sum())} repeated, {(int(head[at]), int(relation[at]), int(tail[at]))}"
            hint = "Pass duplicates='drop' to keep one or duplicates='keep' for parallel edges"
            return ArgumentError("head, relation, tail", "each triple once", what, hint)

        checks.refuse(~first, repeated)
    return measured(adj, checks), relation


def checked_types(node_type: Any, num_nodes: int, device: torch.device, checks: Checks) -> Tensor | None:
    """[N] int64 types, or None; adds the check for negative types to ``checks``."""
    if node_type is None:
        return None
    kinds = coo.as_indices("node_type", node_type).to(device)
    if len(kinds) != num_nodes:
        raise ArgumentError("node_type", f"{num_nodes} entries (one per node)", len(kinds))
    checks.refuse(kinds < 0, lambda at: ArgumentError("node_type", "non-negative types", int(kinds[at])))
    return kinds


def number_of(what: str, value: int | str, count: int, names: Names | None) -> int:
    """The id of a node or relation given by id or name."""
    if isinstance(value, str):
        if names is None:
            raise ArgumentError(what, "an id, as this graph has no names", repr(value))
        return names.find(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ArgumentTypeError(what, "an id or a name", type(value).__name__)
    if not 0 <= int(value) < count:
        raise ArgumentError(what, f"an id in 0 .. {count - 1}" if count else "nothing, as there are no ids", int(value))
    return int(value)


def neighborhood(adj: Adjacency, node: int, num_hops: int) -> Tensor:
    """Ids within ``num_hops`` steps, in either direction."""
    if isinstance(num_hops, bool) or not isinstance(num_hops, int) or num_hops < 0:
        raise ArgumentError("num_hops", "a whole number, 0 or more", repr(num_hops))
    known = torch.zeros(adj.num_targets, dtype=torch.bool, device=adj.device)
    known[node] = True
    for _ in range(num_hops):
        grown = known.clone()
        grown[adj.indices[known[adj.target]].long()] = True
        grown[adj.target[known[adj.indices]].long()] = True
        if torch.equal(grown, known):
            break
        known = grown
    return known.nonzero().flatten()


def rebuilt(kg: K, head: Tensor, relation: Tensor, tail: Tensor, weight: Tensor | None = None) -> K:
    """The same nodes and relations with other triples; keeps duplicates."""
    adj, relation = sorted_triples(head.long(), relation.long(), tail.long(), kg.num_nodes, "keep", Checks())
    if weight is not None and adj.input_order is not None:
        adj = adj.with_weight(weight[coo.inverse(adj.input_order).long()])
    kept = {name: getattr(kg, name) for name in ("node_type", "node_names", "relation_names", "type_names")}
    return type(kg).complete(adj, relation, kg.num_relations, **kept)


def with_inverses(kg: K) -> K:
    """See `KnowledgeGraph.with_inverses`."""
    head, relation, tail = kg.triples.unbind(1)
    relation = torch.cat([relation, relation + kg.num_relations])
    adj, relation = sorted_triples(
        torch.cat([head, tail]), relation, torch.cat([tail, head]), kg.num_nodes, "keep", Checks()
    )
    texts = None if kg.relation_names is None else list(kg.relation_names)
    names = None if texts is None else Names.of([*texts, *(f"inverse of {text}" for text in texts)]).to(kg.device)
    kept = {name: getattr(kg, name) for name in ("node_type", "node_names", "type_names")}
    return type(kg).complete(adj, relation, 2 * kg.num_relations, relation_names=names, **kept)


def with_interactions(kg: K, users: Any, items: Any, num_users: int) -> K:
    """See `KnowledgeGraph.with_interactions`."""
    if kg.relation_names is not None and _TAKES in kg.relation_names:
        hint = "Rename that relation: explanations could not tell the two apart"
        raise ArgumentError("relation_names", f"no relation named {_TAKES!r}, the relation of users", "one", hint)
    names = coo.Names("users", "items", "num_users", "num_nodes", "users", "items")
    checks = Checks()
    user, item, _ = coo.as_coo(users, items, None, num_users, kg.num_nodes, names, checks)
    user, item = user.to(kg.device), item.to(kg.device)
    codes = torch.sort(user * max(kg.num_nodes, 1) + item).values
    again = codes[1:] == codes[:-1]
    checks.refuse(
        again, lambda _: ArgumentError("users, items", "each interaction once", f"{int(again.sum())} repeated")
    )
    head, relation, tail = kg.triples.unbind(1)
    count = num_users + kg.num_nodes
    adj, relation = sorted_triples(
        torch.cat([user, head + num_users]),
        torch.cat([torch.zeros_like(user), relation + 1]),
        torch.cat([item + num_users, tail + num_users]),
        count,
        "keep",
        checks,
    )
    kinds = kg.adj.indptr.new_ones(kg.num_nodes, dtype=torch.long) if kg.node_type is None else kg.node_type + 1
    texts = ["entity"] if kg.node_type is None else None if kg.type_names is None else list(kg.type_names)
    type_names = None if texts is None else Names.of(["user", *texts]).to(kg.device)
    node_names = relation_names = None
    if kg.node_names is not None:
        node_names = Names.of([*(f"user {u}" for u in range(num_users)), *kg.node_names]).to(kg.device)
    if kg.relation_names is not None:
        relation_names = Names.of([_TAKES, *kg.relation_names]).to(kg.device)
    return type(kg).complete(
        adj,
        relation,
        kg.num_relations + 1,
        node_type=torch.cat([kinds.new_zeros(num_users), kinds]),
        node_names=node_names,
        relation_names=relation_names,
        type_names=type_names,
    )


def subgraph(kg: K, nodes: Tensor) -> K:
    """See `KnowledgeGraph.subgraph`."""
    nodes = coo.as_indices("nodes", nodes).to(kg.device)
    coo.check_range("nodes", nodes, kg.num_nodes, "nodes")
    if len(torch.unique(nodes)) < len(nodes):
        raise ArgumentError("nodes", "distinct nodes", "repeated nodes")
    place = torch.full((kg.num_nodes,), -1, device=kg.device)
    place[nodes] = torch.arange(len(nodes), device=kg.device)
    head, relation, tail = kg.triples.unbind(1)
    keep = (place[head] >= 0) & (place[tail] >= 0)
    weight = kg.adj.weight
    adj, relation = sorted_triples(place[head[keep]], relation[keep], place[tail[keep]], len(nodes), "keep", Checks())
    if weight is not None and adj.input_order is not None:
        adj = adj.with_weight(weight[keep][coo.inverse(adj.input_order).long()])
    return type(kg).complete(
        adj,
        relation,
        kg.num_relations,
        node_type=None if kg.node_type is None else kg.node_type[nodes],
        node_names=None if kg.node_names is None else kg.node_names.select(nodes).to(kg.device),
        relation_names=kg.relation_names,
        type_names=kg.type_names,
    )


def equal(a: TripleList, b: TripleList) -> bool:
    """See `KnowledgeGraph.equal`."""
    if not a.adj.equal(b.adj) or a.num_relations != b.num_relations:
        return False
    if not torch.equal(a.relation.long().cpu(), b.relation.long().cpu()):
        return False
    if (a.node_type is None) != (b.node_type is None):
        return False
    if a.node_type is not None and not torch.equal(a.node_type.cpu(), b.node_type.cpu()):  # type: ignore[union-attr]
        return False
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a) if f.name.endswith("_names")]
    return all(x is y if x is None or y is None else x.equal(y) for x, y in pairs)
