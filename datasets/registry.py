"""The registry of data sets: names, cards (readable without loading the data) and loaders."""

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
    """Register a loader under a name, with its card.

    The loader is called as ``loader(root, **options)``; ``root`` is the folder passed to `load`, or None.
    It returns the examples: one `Data`, a sequence of examples of any kind, or a complete `Dataset`.
    Its keyword arguments with their defaults become the ``options`` of the card.

    Args:
        name: lowercase letters, digits and hyphens.
        description: one sentence.
        kind: the type of one example.
        task: what to predict.
        target_spec: the type of the target.
        license: the terms as published.
        redistribute: whether they allow redistribution of the data and of anything derived from it.
        citation: the publication to cite.
        caveats: what a user should know before using the data, one sentence each.
        sizes: counts of the loaded data.
        download: bytes to download, None if unknown; not needed with ``files``.
        files: the files to download, as ``<folder>/<path>``, each in the file table of its folder.

    Raises:
        ArgumentError: a malformed or registered name, or a file that is not in a table.

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
        raise ArgumentError("name", "lowercase letters, digits and single hyphens", repr(name))

    def decorator(loader: L) -> L:
        if name in _REGISTRY:
            raise ArgumentError(
                "name", "a name that is not registered yet", repr(name), "List the names with hgraph.datasets.names()"
            )
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

    return decorator


def names() -> tuple[str, ...]:
    """The names of all data sets, sorted.

    >>> "digits" in names()
    True
    """
    return tuple(sorted(_REGISTRY))


def info(name: str | os.PathLike[str]) -> Card:
    """The card of a data set, by name or folder as in `load`; nothing is loaded or downloaded.

    Raises:
        ArgumentError: unknown name; the message suggests similar ones.
        DataError: the folder does not exist or is damaged.

    >>> info("karate").sizes["nodes"]
    34
    """
    from hgraph.datasets import folder, own_interactions

    if str(name) not in names() and own_interactions.is_own(name):
        hint = "Load it with `hgraph.datasets.from_interactions`, or train with `hgraph train ... --model kgat`"
        raise ArgumentError("name", "a data set with labels", f"{str(name)!r}, a folder of interactions", hint)
    return folder.card_of(name) if _is_path(name) else _find(str(name))[0]


def load(name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, **options: Any) -> Dataset[Any]:
    """Load a data set; its files are downloaded the first time.

    Args:
        name: one of `names`, or a folder written by `hgraph.datasets.save` or ``hgraph datasets build``. A
            `pathlib.Path`, or a string with a slash or a leading dot or tilde, is a folder; any other string is a
            registered name, or else a folder. So ``"karate"`` is the karate club, and ``"./karate"`` is a folder.
        root: folder for downloaded files; None is ``$HGRAPH_DATA``, else the cache folder of the platform.
        **options: options of this set, as listed in ``info(name).options``.

    Returns:
        The examples with the properties on the card. Most graph sets have one example: ``load(name)[0]``.

    Raises:
        ArgumentError: unknown name or option.
        DataError: a file cannot be downloaded, or does not fit the card.

    >>> load("davis")[0].structure
    Hypergraph(18 nodes, 14 hyperedges, 89 incidences, cpu)
    """
    if _is_path(name):
        from hgraph.datasets import folder

        if options:
            hint = "Set features and splits when you build the folder"
            raise ArgumentError(next(iter(options)), "no options for a folder", next(iter(options.values())), hint)
        return folder.read(name)
    name = str(name)
    card, loader = _find(name)
    for option in options:
        if option not in card.options:
            raise ArgumentError(option, f"an option of {name!r}: {sorted(card.options)}", repr(option))
    try:
        examples = loader(root, **options)
    except Exception as error:  # readers raise many types of errors for malformed files
        if isinstance(error, HgraphError) or not card.files:
            raise
        files = ", ".join(card.files[:3]) + f" and {len(card.files) - 3} more" * (len(card.files) > 3)
        raise DataError(f"{name}: the files do not have the expected content ({error!r:.200}): {files}") from error
    if isinstance(examples, Dataset):
        return examples
    return dataset(name, [examples] if isinstance(examples, Data) else examples)


def dataset(
    name: str,
    items: Sequence[Any] | Callable[[int], Any],
    splits: Mapping[str, Parts] | None = None,
    length: int | None = None,
) -> Dataset[Any]:
    """A `Dataset` of examples with the card of that name, for loaders with splits over examples.

    Args:
        name: name of the set.
        items: the examples, or a function that returns example i.
        splits: splits of the examples.
        length: number of examples, if ``items`` is a function.

    Raises:
        ArgumentError: unknown name.
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
    """Whether `load` treats this as a folder instead of a name."""
    if not isinstance(name, str):
        return isinstance(name, os.PathLike)
    if "/" in name or os.sep in name or name.startswith((".", "~")):
        return True
    return name not in _REGISTRY and os.path.isfile(os.path.join(name, "card.json"))


def _find(name: str) -> tuple[Card, Loader]:
    if name in _REGISTRY:
        return _REGISTRY[name]
    if os.path.isfile(name):
        hint = "Build a data set from tables with `hgraph datasets build`"
        raise ArgumentError("name", "the name or folder of a data set", f"the file {name!r}", hint)
    if os.path.isdir(name):
        hint = "The folder has neither card.json (a built data set) nor interactions.csv nor one .inter file"
        raise ArgumentError("name", "the name or folder of a data set", f"the folder {name!r}", hint)
    hint = did_you_mean(name, names(), "List the names with hgraph.datasets.names()")
    raise ArgumentError("name", "the name of a data set", repr(name), hint)
