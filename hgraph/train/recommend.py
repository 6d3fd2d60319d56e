"""Recommendations, and explanations by attention paths from a user to an item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hgraph.data import Interactions
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models.recommend.base import Recommender
from hgraph.structure import KnowledgeGraph, Path
from hgraph.structure.relations import number_of, rebuilt
from hgraph.train.full_ranking import best_items
from hgraph.train.scores import scorer, structure_of

__all__ = ["NEGLIGIBLE", "Explanation", "Recommendation", "explain", "recommend"]

NEGLIGIBLE = 1e-6  # largest product of attention weights of a negligible path


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The items recommended to some users.

    Args:
        users: [B].
        items: [B, k], best first.
        scores: [B, k].

    >>> kg = KnowledgeGraph.from_names([("Dune", "is like", "Ubik")])
    >>> found = Recommendation(torch.tensor([0]), torch.tensor([[1]]), torch.tensor([[0.5]]))
    >>> [kg.node_names[item] for item in found.items[0].tolist()]
    ['Ubik']
    """

    users: Tensor
    items: Tensor
    scores: Tensor


def recommend(
    model: Recommender,
    data: Interactions,
    users: Sequence[int] | Sequence[str] | Tensor,
    k: int = 10,
    *,
    exclude: bool = True,
    structure: KnowledgeGraph | None = None,
) -> Recommendation:
    """The k items that a trained model ranks highest for each user.

    Use it when items are recommended with a trained model.

    Args:
        model: a trained `Recommender`.
        data: its training data.
        users: [B] ids, or names if the data has names.
        k: number of items, at most I.
        exclude: leave out items that the user has in any part of the data, or in ``excluded``. If fewer than k are
            left, these items fill the end with a score of -inf.
        structure: the result of `structure_of`, to compute it only once for many calls.

    Raises:
        ArgumentError: users or k are out of range.

    >>> from hgraph.models import BPRMF
    >>> kg = KnowledgeGraph.from_names([("Dune", "is like", "Ubik")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=2)
    >>> recommend(BPRMF(1, 2, dim=4), data, [0], k=1).items  # user 0 already has item 0
    tensor([[1]])
    """
    users = _ids(users, data)
    if users.dim() != 1 or (len(users) and not 0 <= int(users.min()) <= int(users.max()) < data.num_users):
        raise ArgumentError("users", f"ids in 0 .. {data.num_users - 1}", users.tolist())
    if not 1 <= k <= data.num_items:
        raise ArgumentError("k", f"1 .. {data.num_items} (the items)", k)
    structure = structure_of(model, data) if structure is None else structure
    scores = scorer(model, structure)(users).cpu()
    known = data.known if exclude else []
    return Recommendation(users, *best_items(scores, users, known, k))


def _ids(users: Sequence[int] | Sequence[str] | Tensor, data: Interactions) -> Tensor:
    """[B] ids of users given by ids or names."""
    if isinstance(users, str):
        raise ArgumentTypeError("users", "a sequence of ids or names", repr(users), f"Use [{users!r}]")
    if isinstance(users, (int, Tensor)) or not any(isinstance(user, str) for user in users):
        return torch.as_tensor(users, dtype=torch.long)
    return torch.tensor([number_of("users", user, data.num_users, data.user_names) for user in users])


@dataclass(frozen=True, eq=False)
class Explanation:
    """Paths that may explain why an item was recommended to a user.

    Args:
        user: the user's id.
        item: the item's id.
        paths: paths of triples from the user to the item, sorted by the product of attention weights; see `negligible`.
        kg: the weighted graph of these paths.

    >>> kg = KnowledgeGraph.from_names([("Ann", "took", "Dune"), ("Dune", "is like", "Ubik")])
    >>> Explanation(0, 1, tuple(kg.paths("Ann", "Ubik")), kg).text()
    '1.00e+00  Ann -took-> Dune -is like-> Ubik'
    """

    user: int
    item: int
    paths: tuple[Path, ...]
    kg: KnowledgeGraph

    def text(self) -> str:
        """One line per path, starting with its product of attention weights."""
        if not self.paths:
            return "no path found; a larger max_steps may find one"
        lines = [f"{p.weight:.2e}{self._remark(p)}  {self.kg.tell(p)}" for p in self.paths]
        if all(map(self.negligible, self.paths)):
            lines.append("All paths are negligible: the score comes from the embeddings, not from these paths.")
        return "\n".join(lines)

    def negligible(self, path: Path) -> bool:
        """Whether the product of attention weights is below `NEGLIGIBLE`, too small to affect the score."""
        return self.kg.adj.weight is not None and path.weight < NEGLIGIBLE

    def _remark(self, path: Path) -> str:
        return " (negligible)" if self.negligible(path) else ""

    def draw(self, ax: Any = None, **options: Any) -> Any:
        """Draw all paths from left to right, with line widths relative to the largest weight of the graph.

        Options are those of `KnowledgeGraph.draw`.
        """
        edges = torch.tensor(sorted({edge for path in self.paths for edge in path.edges}), dtype=torch.long)
        kg, nodes = self.kg.to("cpu"), sorted({node for path in self.paths for node in path.nodes})
        head, relation, tail = kg.triples[edges].unbind(1)
        weight = None if kg.adj.weight is None else kg.adj.weight[edges]
        part = rebuilt(kg, head, relation, tail, weight).subgraph(torch.tensor(nodes, dtype=torch.long))
        defaults: dict[str, Any] = {"positions": _columns(self.paths, nodes) or None}
        if kg.adj.weight is not None and kg.adj.weight.numel():
            # so that lines are thin if all weights of the paths are small
            defaults["largest"] = float(kg.adj.weight.detach().max())
        return part.draw(ax, **defaults | options)


def _columns(paths: Sequence[Path], nodes: list[int]) -> list[tuple[float, float]]:
    """Positions of the nodes: the column is the number of steps from the user, and the item is in the last column."""
    step: dict[int, int] = {}
    for path in paths:
        for at, node in enumerate(path.nodes):
            step[node] = max(step.get(node, 0), at)
    if paths:
        step[paths[0].nodes[-1]] = max(step.values())
    columns = {at: [node for node in step if step[node] == at] for at in set(step.values())}
    return [(1.5 * step[n], (len(columns[step[n]]) - 1) / 2 - columns[step[n]].index(n)) for n in nodes]


def explain(
    structure: KnowledgeGraph, user: int, item: int, *, num_users: int, max_steps: int = 3, limit: int = 5
) -> Explanation:
    """The attention paths from a user to an item, user -> ... -> item.

    Use it when a recommendation needs a reason.

    The paths show how messages could reach the user, and with which attention weights. The score also depends on the
    embeddings.

    Args:
        structure: the weighted collaborative graph, from `structure_of`.
        user: the user's id.
        item: the item's id; its node is U + item.
        num_users: the number of users, U.
        max_steps: maximum number of triples in a path.
        limit: maximum number of paths.

    Raises:
        ArgumentError: an id is out of range.

    >>> kg = KnowledgeGraph.from_names([("Dune", "is like", "Ubik")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=2)
    >>> explain(data.collaborative(), 0, 1, num_users=1).text()
    '1.00e+00  user 0 -interacts with-> Dune -is like-> Ubik'
    """
    if not 0 <= user < num_users:
        raise ArgumentError("user", f"an id in 0 .. {num_users - 1}", user)
    if not 0 <= item < structure.num_nodes - num_users:
        raise ArgumentError("item", f"an id in 0 .. {structure.num_nodes - num_users - 1}", item)
    paths = structure.paths(user, num_users + item, max_steps=max_steps, limit=limit)
    return Explanation(user, item, tuple(paths), structure)
