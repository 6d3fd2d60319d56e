"""The models that the commands offer, read from `hgraph.models.registry`."""

from __future__ import annotations

from enum import Enum

from hgraph.models.registry import find, select

__all__ = ["CLASSIFIERS", "RECOMMENDERS", "STARTERS", "TEACHERS", "TOWERS", "Before", "Network", "Teacher", "listed"]

_CLASSIFY = select(task="node classification")
TEACHERS = tuple(entry.name for entry in _CLASSIFY if entry.data in ("graph", "hypergraph"))
CLASSIFIERS = (*TEACHERS, *(entry.name for entry in _CLASSIFY if entry.data == "features"))
RECOMMENDERS = tuple(entry.name for entry in select(task="recommendation"))
TOWERS = next(entry.name for entry in select(task="recommendation", student=True))  # what the others are distilled into
STARTERS = tuple(name for name in RECOMMENDERS if find(name).starts_from)  # may begin from another model's vectors


def listed(names: tuple[str, ...]) -> str:
    """Names as a sentence has them.

    >>> listed(("a", "b", "c"))
    'a, b or c'
    """
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


class Teacher(Enum):
    """Which network teaches: one that reads a structure."""

    _ignore_ = ["name_"]  # noqa: RUF012 - the protocol of enum
    for name_ in TEACHERS:
        vars()[name_] = name_


class Network(Enum):
    """Which network is trained."""

    _ignore_ = ["name_"]  # noqa: RUF012 - the protocol of enum
    for name_ in (*CLASSIFIERS, *RECOMMENDERS):
        vars()[name_] = name_


class Before(Enum):
    """From whose vectors another recommender begins."""

    _ignore_ = ["name_", "starter_"]  # noqa: RUF012 - the protocol of enum
    for starter_ in STARTERS:
        for name_ in find(starter_).starts_from:
            vars()[name_] = name_
