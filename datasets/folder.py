"""Saves a data set in a folder, atomically, and loads it from the path with all files verified."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from hgraph.data import Data, Dataset, Split
from hgraph.data.io import load as load_structure
from hgraph.datasets.card import Card
from hgraph.datasets.tables.encoder import Encoder
from hgraph.datasets.tables.table import cells_of
from hgraph.errors import ArgumentError, DataError, HgraphError
from hgraph.files import temporary_folder, valid_path, write_atomically
from hgraph.schema import Span, fields_of, parse
from hgraph.structure import Graph, Hypergraph

__all__ = ["card_of", "check_place", "is_folder", "read", "save"]

_FORMAT, _VERSION, _CARD = "hgraph data set", 2, "card.json"
_RENAMED = {  # names in folders of version 1
    "vertex_names": "node_names", "licence": "license", "quirks": "caveats", "vertices": "nodes", "vertex": "node",
}  # fmt: skip
_PARTS = ("train", "val", "test", "observed")


def save(dataset: Dataset[Any], path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Save a data set of one `Data` in a folder that `load` takes, as safetensors and JSON.

    The folder is written under a temporary name and then renamed, so that a killed process leaves either no folder or
    a complete one (and perhaps a hidden ``.<name>.*.tmp`` next to it, which the next `save` to this path removes).

    Args:
        dataset: a data set from `from_tables` or `load`.
        path: the folder; parent folders are created.
        force: replace an existing data set. Other folders and files are never replaced.

    Raises:
        ArgumentError: ``path`` exists and may not be replaced; the data set has several examples; or a split or an
            entry of ``meta`` cannot be saved.
        DataError: the folder cannot be written.

    >>> import tempfile
    >>> from hgraph.datasets import from_tables, load
    >>> people, meetings = {"id": ["ada", "ben"], "team": ["a", "b"]}, {"members": [["ada", "ben"]]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(from_tables(people, meetings, label="team", shares=(0.5, 0, 0.5)), f"{folder}/example")
    ...     load(str(path))[0].structure.to_lists()
    [[0, 1]]
    """
    path = check_place(path, force=force)
    if len(dataset) != 1 or not isinstance(dataset[0], Data):
        raise ArgumentError("dataset", "one example with a structure", f"{len(dataset)} examples")
    data = dataset[0].to("cpu").validate()
    texts, tensors, encoder = _serialized(data)
    try:
        with temporary_folder(path) as temporary:
            _write(temporary, dataset, data, texts, tensors, encoder)
            _place(temporary, path, force)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def check_place(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """The absolute path for `save`, after checking that it may be written.

    Raises:
        ArgumentError: the path is a file, another folder, or (without ``force``) a data set.
    """
    path = valid_path(path).absolute()
    if not path.name:
        raise ArgumentError("path", "a folder with a name", str(path))
    if os.path.lexists(path):
        if not is_folder(path) or path.is_symlink():
            raise ArgumentError("path", "a new path, or a data set to replace", str(path))
        if not force:
            hint = "Pass force=True (--force) to replace it"
            raise ArgumentError("path", "a new path", f"{path}, an existing data set", hint)
    return path


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a data set written by `save`, according to its card."""
    try:
        return _content(valid_path(path, "name")).get("format") == _FORMAT
    except DataError:
        return False


def card_of(path: str | os.PathLike[str]) -> Card:
    """The card of a data set in a folder; does not read the data.

    Raises:
        DataError: the folder does not exist, or its card is damaged.
    """
    path = valid_path(path, "name")
    return _card(path, _checked_head(path))


def read(path: str | os.PathLike[str]) -> Dataset[Data]:
    """Read a data set written by `save`; every file is verified by its hash in the card before it is used.

    Raises:
        DataError: a file is missing or its hash is not that of the card, or the files contradict each other.
    """
    path = valid_path(path, "name")
    head = _checked_head(path)
    card = _card(path, head)
    for name, digest in head.files.items():
        file = path / name
        if Path(name).name != name or not file.is_file() or _hash(file) != digest:
            what = "this file is missing or was changed after it was saved"
            raise DataError(f"{file}: {what} (files in {_CARD}). Build the data set again")
    structure, tensors = load_structure(path / "structure.safetensors"), _tensors(path / "tensors.safetensors")
    if not isinstance(structure, (Graph, Hypergraph)):
        raise DataError(f"{path}: expected a graph or hypergraph, got {type(structure).__name__}")
    meta = _meta(path / "meta.json", tensors, head.version)
    if head.encoder:
        meta["encoder"] = Encoder.load(path)
    try:
        data = Data(structure, tensors["x"], tensors["y"], {}, meta, head.target)
        _check_names(data, path / "meta.json")
        splits = {name: _split(data, tensors, i) for i, name in enumerate(head.splits)}
        data = dataclasses.replace(data, splits=splits).validate()
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, IndexError, HgraphError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: the files of this data set contradict each other ({error})") from error
    return Dataset(
        card.name,
        [data],
        task=card.task,
        target_spec=card.target_spec,
        license=card.license,
        redistribute=card.redistribute,
        citation=card.citation,
        caveats=card.caveats,
    )


# ---------------------------------------------------------------------- writing


def _serialized(data: Data) -> tuple[dict[str, Any], dict[str, Tensor], Encoder | None]:
    """The content of meta.json and of tensors.safetensors, and the encoder."""
    texts: dict[str, Any] = {}
    tensors = {"x": data.x, "y": data.y}
    for i, (name, split) in enumerate(data.splits.items()):
        if type(split) is not Split:
            raise ArgumentError("dataset", "splits of type Split", f"{name!r} of type {type(split).__name__}")
        parts = {part: getattr(split, part) for part in _PARTS}
        tensors |= {f"split.{i}.{part}": t for part, t in parts.items() if t is not None}
    encoder = None
    for key, value in data.meta.items():
        if isinstance(value, Tensor):
            tensors[f"meta.{key}"] = value
        elif isinstance(value, Encoder) and key == "encoder":
            encoder = value
        else:
            texts[key] = value
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ArgumentError(f"meta[{key!r}]", "a tensor or a value that JSON can hold", str(error)) from error
    return texts, tensors, encoder


def _write(
    folder: Path,
    dataset: Dataset[Any],
    data: Data,
    texts: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    encoder: Encoder | None,
) -> None:
    """Write every file of the set, then the card with their hashes, and flush all of them to disk."""
    from safetensors.torch import save as to_bytes

    data.structure.save(folder / "structure.safetensors")
    # safetensors refuses tensors that share memory, so all are cloned; the large x only if it is not contiguous
    plain = {name: t.detach().contiguous() if name == "x" else t.detach().clone() for name, t in tensors.items()}
    write_atomically(folder / "tensors.safetensors", to_bytes(plain))
    (folder / "meta.json").write_text(json.dumps(texts), encoding="ascii")
    if encoder is not None:
        encoder.save(folder)
    kind = "graph" if isinstance(data.structure, Graph) else "hypergraph"
    card = {
        "description": f"Built into {dataset.name!r}.",
        "kind": kind,
        "task": dataset.task,
        "target_spec": dataset.target_spec,
        "license": dataset.license,
        "redistribute": dataset.redistribute,
        "citation": dataset.citation,
        "sizes": _sizes(data),
    }
    head = {
        "format": _FORMAT,
        "version": _VERSION,
        "card": card,
        "caveats": list(dataset.caveats),
        "target": data.target,
        "splits": list(data.splits),
        "encoder": encoder is not None,
        "files": {file.name: _hash(file) for file in sorted(folder.iterdir())},
    }
    (folder / _CARD).write_text(json.dumps(head, indent=1), encoding="ascii")
    for file in [*folder.iterdir(), folder]:
        if file.is_dir() and os.name == "nt":
            continue  # Windows cannot flush folders
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sizes(data: Data) -> dict[str, int]:
    s = data.structure
    if isinstance(s, Graph):
        sizes = {"nodes": s.num_nodes, "edges": s.num_edges}
    else:
        sizes = {"nodes": s.num_nodes, "hyperedges": s.num_hyperedges, "incidences": s.num_incidences}
    classes = {} if data.y.is_floating_point() or not data.meta.get("class_names") else {"classes": data.num_classes}
    return sizes | {"features": data.num_features} | classes


def _place(temporary: Path, path: Path, force: bool) -> None:
    """Rename the finished folder to its final name; replaces the old one if that is allowed."""
    if not os.path.lexists(path):
        try:
            os.rename(temporary, path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    check_place(path, force=force)  # another process may have written one in the meantime
    if not _exchange(temporary, path):
        old = temporary.with_suffix(".old")
        os.rename(path, old)
        os.rename(temporary, path)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one step if the system can (Linux), so that a data set exists at any moment."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_working_folder, exchange = -100, 2
    return (
        call is not None and call(at_working_folder, os.fsencode(a), at_working_folder, os.fsencode(b), exchange) == 0
    )


# ---------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _CardOfFile:
    """The keys of ``card`` in ``card.json``."""

    description: str
    kind: str
    task: str
    target_spec: dict[str, Any]
    license: str
    redistribute: bool
    citation: str
    sizes: dict[str, Annotated[int, Span(0, 2**62)]]


@dataclass(frozen=True)
class _Head:
    """The content of ``card.json``."""

    format: Literal["hgraph data set"]
    version: Literal[1, 2]
    card: _CardOfFile
    caveats: tuple[str, ...]
    target: Literal["node", "hyperedge", "edge", "graph"]
    splits: tuple[str, ...]
    encoder: bool
    files: dict[str, str]


def _content(path: Path) -> dict[str, Any]:
    """The JSON object in the card of a folder."""
    try:
        text = (path / _CARD).read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable data set ({error})") from error
    content = parse(text, path / _CARD)
    if not isinstance(content, dict):
        raise DataError(f"{path / _CARD}: expected an object with keys, got {type(content).__name__}")
    return content


def _checked_head(path: Path) -> _Head:
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder. `hgraph datasets build` creates one, `hgraph datasets list` lists the names"
        )
    content = _content(path)
    content = _upgraded(content) if content.get("version") == 1 else content
    head = fields_of(_Head, content, path / _CARD, hint="Is this a data set of this version of hgraph?")
    if len(set(head.splits)) < len(head.splits):
        raise DataError(f"{path / _CARD}: splits: expected different names, got one of them twice")
    return head


def _card(path: Path, head: _Head) -> Card:
    return Card(name=path.resolve().name, caveats=head.caveats, **vars(head.card))


def _upgraded(head: dict[str, Any]) -> dict[str, Any]:
    """The head of a folder of version 1 with the current names of keys; values of wrong types stay as they are."""

    def renamed(entries: Any) -> Any:
        return {_RENAMED.get(k, k): v for k, v in entries.items()} if isinstance(entries, dict) else entries

    head = renamed(head)
    card: Any = renamed(head.get("card"))
    target: Any = head.get("target")
    if isinstance(card, dict):
        card["sizes"] = renamed(card.get("sizes"))
        card["task"] = card["task"].replace("vertex", "node") if isinstance(card.get("task"), str) else card.get("task")
    return head | {"card": card, "target": _RENAMED.get(target, target) if isinstance(target, str) else target}


def _meta(file: Path, tensors: Mapping[str, Tensor], version: int) -> dict[str, Any]:
    """The metadata of the data set: that of the file, and tensors."""
    renamed = _RENAMED if version == 1 else {}
    texts = parse(file.read_bytes(), file)
    if not isinstance(texts, dict):
        raise DataError(f"{file}: expected an object with keys, got {type(texts).__name__}")
    meta: dict[str, Any] = {
        renamed.get(str(k), str(k)): tuple(v) if isinstance(v, list) else v for k, v in texts.items()
    }
    return meta | {name.removeprefix("meta."): t for name, t in tensors.items() if name.startswith("meta.")}


def _check_names(data: Data, file: Path) -> None:
    """Raise an error if names in the metadata do not fit the sizes of the data."""
    structure = data.structure
    known = data.y[data.y >= 0] if data.y.dim() == 1 and not data.y.is_floating_point() else data.y[:0]
    counts = {"node_names": structure.num_nodes, "feature_names": data.num_features}
    counts |= {"hyperedge_names": structure.num_hyperedges} if isinstance(structure, Hypergraph) else {}
    for key in (*counts, "class_names", "relation_names"):
        names = data.meta.get(key)
        if names is None:
            continue
        if not isinstance(names, tuple) or not all(isinstance(name, (str, int, float)) for name in names):
            raise DataError(f"{file}: {key}: expected a list of names, got {str(names)[:60]}")
        if len(names) != counts.get(key, len(names)):
            raise DataError(f"{file}: {key}: expected {counts[key]:,} names, got {len(names):,}")
        if key == "class_names" and len(known) and int(known.max()) >= len(names):
            raise DataError(f"{file}: {key}: expected a name for class {int(known.max())}, got {len(names):,} names")
    _check_columns(data, file)


def _check_columns(data: Data, file: Path) -> None:
    """Raise an error if the cells of the columns or the moments of the degree have another form."""
    cells, moments = data.meta.get("node_cells"), data.meta.get("degree_moments")
    if cells is not None:
        texts = list(cells.values()) if isinstance(cells, dict) else [None]
        if not all(isinstance(text, str) and len(cells_of(text)) == data.num_nodes for text in texts):
            raise DataError(f"{file}: node_cells: expected {data.num_nodes:,} cells for each column, got others")
    if moments is not None:
        numbers = moments if isinstance(moments, tuple) else ()
        if len(numbers) != 2 or not all(type(m) in (int, float) and abs(m) < 1e300 for m in numbers):
            raise DataError(f"{file}: degree_moments: expected two numbers, got {str(moments)[:60]}")


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: damaged safetensors file ({error})") from error


def _split(data: Data, tensors: Mapping[str, Tensor], number: int) -> Split:
    parts = {part: tensors.get(f"split.{number}.{part}") for part in _PARTS}
    if any(t is None or t.dtype != torch.int64 for name, t in parts.items() if name != "observed" or t is not None):
        raise DataError(f"split {number}: expected node ids")
    return Split(data.structure, **parts).rebuilt(data)  # type: ignore[arg-type]
