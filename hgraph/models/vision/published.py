"""`load_published`: load networks from third-party pickled checkpoints without executing them."""

from __future__ import annotations

import logging
import math
import os
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor

from hgraph.checks import check_channels
from hgraph.data.pickles import Record, interpret
from hgraph.errors import DataError, LicenseWarning
from hgraph.models.vision.yolov13 import YOLOv13

__all__ = ["load_published", "published_tensors"]

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 2**31
_MAX_DEPTH = 64
_DTYPES = {
    "BoolStorage": torch.bool, "ByteStorage": torch.uint8, "CharStorage": torch.int8, "ShortStorage": torch.int16,
    "IntStorage": torch.int32, "LongStorage": torch.int64, "HalfStorage": torch.float16, "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64, "BFloat16Storage": torch.bfloat16,
}  # fmt: skip
_NOTICE = (
    "the published YOLOv13 weights are under the AGPL-3.0, which applies to networks that use them; "
    "hgraph includes none of them, and its own code is Apache-2.0"
)


def load_published(path: str | os.PathLike[str], *, num_classes: int | None = None) -> YOLOv13:
    """A YOLOv13 with the weights of a published checkpoint, in eval mode.

    Use it to run a published YOLOv13 without its code, or, with ``num_classes``, to train it on your own classes.

    The file is read as data: no class or function that it names is imported or called. Scale and number of classes are
    inferred from the tensors' shapes; half tensors become float32.

    Args:
        path: a checkpoint as the official code saves it (a whole pickled model), or a state dict.
        num_classes: number of classes of the returned network; None uses that of the checkpoint. With a different
            number, the tensors of the classification head whose shapes depend on it are newly initialized from torch's
            global random numbers, and a log message names them; all others are loaded.

    Returns:
        The network; save it with `torch.save(net.state_dict(), ...)` or safetensors for later use.

    Raises:
        DataError: not such a file, a damaged file, tensors in unexpected places, or weights of a different network.

    Warns:
        LicenseWarning: published weights are under the AGPL.

    >>> load_published("yolov13n.pt")  # doctest: +SKIP
    """
    tensors = published_tensors(path)
    sizes = {16: "n", 32: "s", 64: "l", 96: "x"}
    first, last = tensors.get("model.0.conv.weight"), tensors.get("model.32.cv3.0.2.weight")
    if first is None or last is None or first.shape[0] not in sizes or not 0 < last.shape[0] <= 100_000:
        raise DataError(f"{path}: not the tensors of a YOLOv13 ({len(tensors)} of them)")
    with torch.device("meta"):
        net = YOLOv13(sizes[first.shape[0]], last.shape[0])  # type: ignore[arg-type]
    if num_classes is not None:
        check_channels(num_classes=num_classes)
    wanted = {name: tuple(t.shape) for name, t in net.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if wanted != found:
        odd = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
        first_odd = f"{odd[0]} is {found.get(odd[0], 'missing')}, not {wanted.get(odd[0], 'there')}"
        raise DataError(f"{path}: not a YOLOv13-{net.scale}: {len(odd)} tensors differ, the first: {first_odd}")
    full = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
    if num_classes not in (None, last.shape[0]):
        net = _with_classes(YOLOv13(net.scale, num_classes), full, last.shape[0])
    else:
        net.load_state_dict(full, assign=True)
    warnings.warn(_NOTICE, LicenseWarning, stacklevel=2)
    return net.eval()


def _with_classes(net: YOLOv13, tensors: dict[str, Tensor], before: int) -> YOLOv13:
    """A new network with all tensors that do not depend on the number of classes; logs the names of the others."""
    own = net.state_dict()
    new = [name for name, value in tensors.items() if own[name].shape != value.shape]
    net.load_state_dict({name: value for name, value in tensors.items() if name not in new}, strict=False, assign=True)
    _LOG.warning(
        "%d classes in place of %d: %d of %d tensors are newly initialized and need training: %s",
        net.num_classes, before, len(new), len(own), ", ".join(new),
    )  # fmt: skip
    return net


def published_tensors(path: str | os.PathLike[str], *, max_bytes: int = _MAX_BYTES) -> OrderedDict[str, Tensor]:
    """The state dict in a file written by `torch.save`: of a pickled model, of a dict with a model, or of tensors.

    Read by `hgraph.data.pickles`: the only supported globals are torch's functions that rebuild tensors and
    OrderedDict; all others become inert records. Tensors may be in plain containers, and in records that
    are modules: as parameters and buffers, which are returned, or as plain attributes, which are not.

    Args:
        path: the file, a zip archive as written by torch since 1.6.
        max_bytes: larger files are rejected, and tensors that together take more than that.

    Raises:
        DataError: not such a file, inconsistent content, or tensors in unsupported places.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"weight": torch.ones(2)}, f"{folder}/net.pt")
    ...     published_tensors(f"{folder}/net.pt")
    OrderedDict([('weight', tensor([1., 1.]))])
    """
    try:
        size = os.stat(path).st_size
        if size > max_bytes:
            raise DataError(f"the file has {size} bytes, more than the limit of {max_bytes}")
        with zipfile.ZipFile(path) as archive:
            storages = _Storages(archive, max_bytes)
            root = interpret(storages.pickle(), calls=_CALLS, persistent=_storage)
            named = _named(root)
            return OrderedDict((name, storages.tensor(view)) for name, view in named.items())
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply") from error
    except Exception as error:  # zipfile and torch may raise anything on a damaged archive
        raise DataError(f"{path}: not a file saved by torch ({type(error).__name__}: {error})") from error


# ---------------------------------------------------------------------- what the pickle may call


@dataclass(frozen=True)
class _Storage:
    """The data of a storage in the archive."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class _View:
    """A lazy tensor, checked to be within its storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _storage(reference: Any) -> _Storage:
    """``("storage", type, key, device, count)``, as torch refers to storages."""
    if not isinstance(reference, tuple) or len(reference) != 5 or reference[0] != "storage":
        raise DataError("a reference that torch does not write")
    _, kind, key, _, count = reference
    dtype = _DTYPES.get(kind.name.removeprefix("torch.")) if isinstance(kind, Record) else None
    if dtype is None or not isinstance(key, str) or not key.isascii() or not key.isdigit() or not _natural(count):
        raise DataError(f"a storage of an unknown kind ({kind!r:.60}, {key!r:.20}, {count!r:.20})")
    return _Storage(key, dtype, count)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _View:
    """``torch._utils._rebuild_tensor_v2``; ignores its arguments about gradients and hooks."""
    tuples = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 8
    if not isinstance(storage, _Storage) or not tuples or not all(map(_natural, (offset, *size, *stride))):
        raise DataError("a malformed tensor")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    count = math.prod(size)
    if count and (last >= storage.count or count > storage.count):
        raise DataError(f"a tensor of shape {size!r:.60} reaches beyond its storage of {storage.count} numbers")
    return _View(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> _View:
    if not isinstance(data, _View):
        raise DataError("a parameter without a tensor")
    return data


def _ordered_dict(*args: Any) -> dict[Any, Any]:
    if args:
        raise DataError("an ordered dict that is filled by its constructor")
    return {}


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "collections.OrderedDict": _ordered_dict,
}


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**40


# ---------------------------------------------------------------------- allowed places of tensors


def _named(root: Any) -> dict[str, _View]:
    """The state dict; every tensor of the file is checked, so none can be hidden."""
    _check_places(root)
    if isinstance(root, dict) and not any(isinstance(v, _View) for v in root.values()):
        held = [root[k] for k in ("ema", "model", "state_dict") if root.get(k) is not None]
        if not held:
            raise DataError("the file contains neither a model nor a state dict")
        root = held[0]
    if isinstance(root, Record):
        return dict(_of_module(root, "", 0))
    if not isinstance(root, dict) or not all(isinstance(k, str) and isinstance(v, _View) for k, v in root.items()):
        raise DataError("the model is neither a module nor a dict of tensors")
    return root


def _of_module(module: Record, prefix: str, depth: int) -> Iterator[tuple[str, _View]]:
    """Parameters, buffers and children, as a state dict names them."""
    if depth > _MAX_DEPTH:
        raise DataError(f"modules nested deeper than {_MAX_DEPTH}")
    if not _is_module(module):
        raise DataError(f"{prefix.rstrip('.') or 'the model'} is a {module.name}, which is not a module")
    for part in ("_parameters", "_buffers"):
        for name, value in module.state[part].items():
            if value is not None:
                yield prefix + name, value
    for name, child in module.state["_modules"].items():
        if child is not None:
            yield from _of_module(child, f"{prefix}{name}.", depth + 1)


def _is_module(value: Any) -> bool:
    """Whether a record has the attributes of a pickled `torch.nn.Module`, with the right types."""
    state = value.state if isinstance(value, Record) else None
    if not isinstance(state, dict) or not all(
        isinstance(state.get(k), dict) and all(isinstance(name, str) for name in state[k])
        for k in ("_parameters", "_buffers", "_modules")
    ):
        return False
    leaves = [*state["_parameters"].values(), *state["_buffers"].values()]
    return all(v is None or isinstance(v, _View) for v in leaves) and all(
        v is None or isinstance(v, Record) for v in state["_modules"].values()
    )


def _check_places(root: Any) -> None:
    """Check that every tensor is in plain containers or modules."""
    seen: set[tuple[int, bool]] = set()

    def visit(value: Any, inert: str, depth: int) -> None:
        if isinstance(value, _View) and inert:
            raise DataError(f"a tensor is inside {inert}, which is neither a container nor a module")
        if not isinstance(value, (dict, list, tuple, Record)) or (id(value), bool(inert)) in seen:
            return
        if depth > 4 * _MAX_DEPTH:
            raise DataError(f"nested deeper than {4 * _MAX_DEPTH}")
        seen.add((id(value), bool(inert)))
        if isinstance(value, Record):
            inert = inert if _is_module(value) else value.name
            below: Any = (*value.args, value.state)
        else:
            below = value.values() if isinstance(value, dict) else value
        for item in below:
            visit(item, inert, depth + 1)

    visit(root, "", 0)


# ---------------------------------------------------------------------- the archive


class _Storages:
    """The files of an archive written by torch: one pickle, and the data of each storage."""

    def __init__(self, archive: zipfile.ZipFile, max_bytes: int) -> None:
        self.archive, self.budget = archive, max_bytes
        members = archive.infolist()
        self.members = {m.filename: m for m in members}
        if len(self.members) < len(members):
            raise DataError("the archive has two files with the same name")
        if any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise DataError("the archive has a compressed file, which torch never writes")
        pickles = [n for n in self.members if PurePosixPath(n).name == "data.pkl" and n.count("/") == 1]
        if len(pickles) != 1:
            raise DataError(f"expected one data.pkl, found {len(pickles)}")
        self.folder = pickles[0].removesuffix("data.pkl")
        order = f"{self.folder}byteorder"
        if order in self.members and archive.read(order) != b"little":
            raise DataError("numbers in another byte order")
        self.read: dict[str, tuple[_Storage, Tensor]] = {}

    def pickle(self) -> bytes:
        """The pickle's bytes."""
        return self.archive.read(f"{self.folder}data.pkl")

    def tensor(self, view: _View) -> Tensor:
        """Build a tensor with its own memory."""
        storage = view.storage
        self.budget -= math.prod(view.size) * storage.dtype.itemsize
        if self.budget < 0:
            raise DataError("the tensors together exceed the size limit")
        if storage.key not in self.read:
            self.read[storage.key] = storage, self._numbers(storage)
        known, numbers = self.read[storage.key]
        if known != storage:
            raise DataError(f"storage {storage.key} has two types")
        return numbers.as_strided(view.size, view.stride, view.offset).clone(memory_format=torch.contiguous_format)

    def _numbers(self, storage: _Storage) -> Tensor:
        member = self.members.get(f"{self.folder}data/{storage.key}")
        expected = storage.count * storage.dtype.itemsize
        if member is None or member.file_size != expected:
            got = "nothing" if member is None else f"{member.file_size} bytes"
            raise DataError(f"storage {storage.key}: expected {expected} bytes, got {got}")
        content = self.archive.read(member)
        if storage.dtype == torch.bool and any(content.translate(None, b"\0\1")):
            raise DataError(f"storage {storage.key} has invalid booleans")
        return (
            torch.frombuffer(bytearray(content), dtype=storage.dtype)
            if content
            else torch.empty(0, dtype=storage.dtype)
        )
