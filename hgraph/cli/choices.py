"""The models that the commands offer, read from `hgraph.models.registry`."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from hgraph.errors import did_you_mean
from hgraph.models.registry import find, select

__all__ = [
    "CLASSIFIERS",
    "RECOMMENDERS",
    "STARTERS",
    "TEACHERS",
    "TOWERS",
    "TRIPLES",
    "TYPED",
    "ClassWeight",
    "Network",
    "PairSplit",
    "Pretrained",
    "Select",
    "Teacher",
    "Tunable",
    "listed",
    "named",
    "value_of",
]

_CLASSIFY = select(task="node classification")
TEACHERS = tuple(entry.name for entry in _CLASSIFY if entry.data in ("graph", "hypergraph"))
TYPED = tuple(entry.name for entry in _CLASSIFY if entry.data == "knowledge graph")
CLASSIFIERS = (*TEACHERS, *(entry.name for entry in _CLASSIFY if entry.data == "features"), *TYPED)
TRIPLES = tuple(entry.name for entry in select(task="triple completion"))
RECOMMENDERS = tuple(entry.name for entry in select(task="recommendation"))
# the student of the other recommenders
TOWERS = next(entry.name for entry in select(task="recommendation", student=True))
STARTERS = tuple(name for name in RECOMMENDERS if find(name).starts_from)  # can start from another model's embeddings


def listed(names: tuple[str, ...]) -> str:
    """Join names with commas and "or".

    >>> listed(("a", "b", "c"))
    'a, b or c'
    """
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


E = TypeVar("E", bound=Enum)


def named(kind: type[E], help: str, *flags: str) -> Any:
    """The option of a model by name: its help lists the names; the error for an unknown one suggests the nearest."""
    import typer

    names = [str(choice.value) for choice in kind]

    def parse(text: str | E) -> E:
        if isinstance(text, kind):  # the default
            return text
        if text in names:
            return kind(text)
        raise typer.BadParameter(f"{text!r} is not one of {listed(tuple(names))}. {did_you_mean(text, names)}".strip())

    parser: Callable[[str], E] = parse
    return typer.Option(*flags, parser=parser, metavar="NAME", help=f"{help} One of {listed(tuple(names))}.")


class Select(Enum):
    """Validation scores that can select the epoch whose state is used."""

    ACCURACY = "accuracy"
    F1 = "f1"
    AUC = "auc"
    LOSS = "loss"
    MAE = "mae"


class PairSplit(Enum):
    """How interactions are split: at random, by time (latest held out), or by the last ones of each user."""

    RANDOM = "random"
    TIME = "time"
    LAST = "last"


class ClassWeight(Enum):
    """Weights of the classes in the loss."""

    BALANCED = "balanced"


def value_of(choice: Enum | None) -> str | None:
    """The text of a choice, or None."""
    return None if choice is None else choice.value


class Teacher(Enum):
    """Networks that use a structure; each can be a teacher."""

    _ignore_ = ["name_"]  # noqa: RUF012 - the protocol of enum
    for name_ in TEACHERS:
        vars()[name_] = name_


class Network(Enum):
    """Networks that can be trained."""

    _ignore_ = ["name_"]  # noqa: RUF012 - the protocol of enum
    for name_ in (*CLASSIFIERS, *RECOMMENDERS, *TRIPLES):
        vars()[name_] = name_


class Tunable(Enum):
    """Networks whose hyperparameters can be searched."""

    _ignore_ = ["name_"]  # noqa: RUF012 - the protocol of enum
    for name_ in (*CLASSIFIERS, *RECOMMENDERS):
        vars()[name_] = name_


class Pretrained(Enum):
    """Models whose embeddings another recommender can start from."""

    _ignore_ = ["name_", "starter_"]  # noqa: RUF012 - the protocol of enum
    for starter_ in STARTERS:
        for name_ in find(starter_).starts_from:
            vars()[name_] = name_
