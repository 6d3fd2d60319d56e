"""The registry: every data set has a name, a card that can be read without loading, and a loader."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from hgraph.data import Data, Dataset
from hgraph.data.split import Parts
from hgraph.datasets.card import Card
from hgraph.datasets.download import listed
from hgraph.errors import ArgumentError, DataError, HgraphError, did_you_mean

__all__ = ["Loader", "dataset", "info", "load", "names", "register"]

Loader = Callable[..., Any]
L = TypeVar("L", bound=Loader)


_REGISTRY: dict[str, tuple[Card, Loader]] = {}


def register(
    name: str,
    *,
    description: str,
    kind: str,
    task: str,
    target_spec: Mapping[str, Any],
    license: str,
    redistribute: bool,
    citation: str,
    caveats: Sequence[str] = (),
    sizes: Mapping[str, int] | None = None,
    download: int | None = 0,
    files: Sequence[str] = (),
) -> Callable[[L], L]:
    """Enter a loader under a name, with its card.

    The loader is called as ``loader(root, **options)``; ``root`` is the folder that `load` was given, or None.
    It returns the examples: one `Data`, a sequence of examples of any kind, or a whole `Dataset` of its own.
    Its keywords with their defaults become the card's ``options``.

    Args:
        name: small letters, digits and hyphens.
        description: one sentence.
        kind: what one example is.
        task: what is to be predicted.
        target_spec: what the target holds.
        license: the terms as published.
        redistribute: whether they allow passing on the data and what is made from it.
        citation: whom to cite.
        caveats: surprises, one sentence each.
        sizes: counts of the loaded data.
        download: bytes to fetch, None where not known; not needed with ``files``.
        files: the files to fetch, ``<folder>/<path>``, each in the folder's file table.

    Raises:
        ArgumentError: a malformed name, one that is taken, or a file that stands in no table.

    >>> import torch
    >>> from hgraph.data import Data
    >>> from hgraph.structure import Graph
    >>> @register("two", description="An edge.", kind="graph", task="node classification",
    ...           target_spec={"kind": "class", "num_classes": 2}, license="CC0", redistribute=True, citation="none")
    ... def two(root, *, width=1):
    ...     edge = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    ...     return Data(edge, torch.ones(2, width), torch.arange(2))
    >>> load("two", width=3)[0].num_features, dict(info("two").options)
    (3, {'width': 1})
    >>> _ = _REGISTRY.pop("two")
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ArgumentError("name", "small letters, digits and single hyphens", repr(name))

    def enter(loader: L) -> L:
        if name in _REGISTRY:
            raise ArgumentError("name", "a name that is not taken", repr(name), "hgraph.datasets.names() lists them")
        parameters = list(inspect.signature(loader).parameters.values())[1:]
        card = Card(
            name=name,
            description=description,
            kind=kind,
            task=task,
            target_spec=dict(target_spec),
            license=license,
            redistribute=redistribute,
            citation=citation,
            caveats=tuple(caveats),
            sizes=dict(sizes or {}),
            options={p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD},
            download=sum(_size(file) for file in files) if files else download,
            files=tuple(files),
        )
        _REGISTRY[name] = (card, loader)
        return loader

    return enter


def names() -> tuple[str, ...]:
    """The names of all data sets, sorted.

    >>> "digits" in names()
    True
    """
    return tuple(sorted(_REGISTRY))


def info(name: str | os.PathLike[str]) -> Card:
    """The card of a data set, by name or folder as in `load`; nothing is loaded or fetched.

    Raises:
        ArgumentError: no such name; the message suggests the nearest ones.
        DataError: no such folder, or a damaged one.

    >>> info("karate").sizes["nodes"]
    34
    """
    from hgraph.datasets import folder, own_interactions

    if str(name) not in names() and own_interactions.is_own(name):
        hint = "`datasets.from_interactions` and `hgraph train ... --model kgat` take it"
        raise ArgumentError("name", "labelled nodes or hyperedges", f"{str(name)!r}, a folder of interactions", hint)
    return folder.card_of(name) if _is_path(name) else _find(str(name))[0]


def load(name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, **options: Any) -> Dataset[Any]:
    """Load a data set, fetching its files the first time.

    Args:
        name: one of `names`, or a folder of your own that `hgraph.datasets.save` or ``hgraph datasets build`` wrote.
            A `pathlib.Path`, and a text with a slash or a leading dot or tilde, is a folder; any other text is a
            name if there is one, else a folder. So ``"karate"`` is the karate club, ``"./karate"`` your own.
        root: folder for fetched files; None is ``$HGRAPH_DATA``, else the platform's cache folder.
        **options: keywords of this set, as ``info(name).options`` lists them.

    Returns:
        The examples with the card's facts. Most graph sets hold one example: ``load(name)[0]``.

    Raises:
        ArgumentError: no such name or option.
        DataError: a file cannot be had, or is not what the card says.

    >>> load("davis")[0].structure
    Hypergraph(18 nodes, 14 hyperedges, 89 incidences, cpu)
    """
    if _is_path(name):
        from hgraph.datasets import folder

        if options:
            hint = "Features and splits were made when it was built"
            raise ArgumentError(next(iter(options)), "no option with a folder", next(iter(options.values())), hint)
        return folder.read(name)
    name = str(name)
    card, loader = _find(name)
    for option in options:
        if option not in card.options:
            raise ArgumentError(option, f"an option of {name!r}: {sorted(card.options)}", repr(option))
    try:
        examples = loader(root, **options)
    except Exception as error:  # whatever files that are not what they should be make a reader raise
        if isinstance(error, HgraphError) or not card.files:
            raise
        files = ", ".join(card.files[:3]) + f" and {len(card.files) - 3} more" * (len(card.files) > 3)
        raise DataError(f"{name}: its files are not what its card says ({error!r:.200}): {files}") from error
    if isinstance(examples, Dataset):
        return examples
    return dataset(name, [examples] if isinstance(examples, Data) else examples)


def dataset(
    name: str,
    items: Sequence[Any] | Callable[[int], Any],
    splits: Mapping[str, Parts] | None = None,
    length: int | None = None,
) -> Dataset[Any]:
    """Examples under the card of that name: what a loader returns that has splits over its examples.

    Args:
        name: of the set.
        items: the examples, or a function that makes example i.
        splits: over the examples.
        length: how many examples the function makes.

    Raises:
        ArgumentError: no such name.
    """
    card = info(name)
    return Dataset(
        name,
        items,
        task=card.task,
        target_spec=card.target_spec,
        license=card.license,
        redistribute=card.redistribute,
        citation=card.citation,
        caveats=card.caveats,
        splits=splits,
        length=length,
    )


def _size(file: str) -> int:
    folder, _, path = file.partition("/")
    table = listed(folder)
    if path not in table:
        raise ArgumentError("files", f"files in the table of {folder!r}", repr(file))
    return table[path].size


def _is_path(name: str | os.PathLike[str]) -> bool:
    """Whether `load` takes this for a folder and not for a name."""
    if not isinstance(name, str):
        return isinstance(name, os.PathLike)
    if "/" in name or os.sep in name or name.startswith((".", "~")):
        return True
    return name not in _REGISTRY and os.path.isfile(os.path.join(name, "card.json"))


def _find(name: str) -> tuple[Card, Loader]:
    if name in _REGISTRY:
        return _REGISTRY[name]
    if os.path.isfile(name):
        hint = "`hgraph datasets build` makes a data set of tables"
        raise ArgumentError("name", "the name of a data set, or its folder", f"{name!r}, a file", hint)
    if os.path.isdir(name):
        hint = "A set that was built holds card.json, one of who took what interactions.csv; this folder neither"
        raise ArgumentError("name", "the name of a data set, or its folder", f"{name!r}, another folder", hint)
    hint = did_you_mean(name, names(), "hgraph.datasets.names() lists them")
    raise ArgumentError("name", "the name of a data set", repr(name), hint)
