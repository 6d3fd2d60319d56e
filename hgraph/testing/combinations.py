"""Few combinations of choices that cover all pairs, triples, ... of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hgraph.errors import ArgumentError

__all__ = ["covering", "pairwise"]


def pairwise(**choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Few combinations in which every choice of one list occurs with every choice of every other list.

    Raises:
        ArgumentError: fewer than two lists, or an empty one.

    >>> len(pairwise(a=[1, 2, 3], b=[1, 2, 3], c=[1, 2], d=[1, 2])) < 3 * 3 * 2 * 2 // 3
    True
    """
    return covering(2, **choices)


def covering(strength: int, /, **choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Few combinations in which all choices of any ``strength`` of the lists occur together.

    Raises:
        ArgumentError: a strength below 1 or above the number of lists, or an empty list: a test over no combinations
            would pass without running.

    >>> len(covering(3, a=[1, 2], b=[1, 2], c=[1, 2], d=[1, 2]))
    8
    """
    lists = [list(choice) for choice in choices.values()]
    if not 1 <= strength <= len(lists):
        raise ArgumentError("strength", f"1 .. {len(lists)}, the number of lists", strength)
    if not all(lists):
        empty = next(name for name, choice in zip(choices, lists, strict=True) if not choice)
        raise ArgumentError(empty, "at least one choice", "none")
    missing = {
        (at, chosen)
        for at in itertools.combinations(range(len(lists)), strength)
        for chosen in itertools.product(*(range(len(lists[i])) for i in at))
    }

    def num_covered(row: dict[int, int], k: int) -> int:
        """How many missing combinations the choice for list k covers, together with the choices before it."""
        together = (sorted((*others, k)) for others in itertools.combinations(row.keys() - {k}, strength - 1))
        return sum((tuple(at), tuple(row[i] for i in at)) in missing for at in together)

    rows = []
    while missing:
        row = dict(zip(*min(missing), strict=True))
        for k in range(len(lists)):
            if k not in row:
                row[k] = max(range(len(lists[k])), key=lambda c, k=k, row=row: num_covered(row | {k: c}, k))  # type: ignore[misc]
        missing -= {(at, tuple(row[i] for i in at)) for at in itertools.combinations(range(len(lists)), strength)}
        rows.append(tuple(lists[k][row[k]] for k in range(len(lists))))
    return rows
