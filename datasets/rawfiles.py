"""Reads files inside an archive without unpacking it to disk, so names in the archive are never used as paths."""

from __future__ import annotations

import gzip
import io
import math
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from hgraph.errors import DataError

__all__ = ["Files", "arrays", "columns", "integers", "npz", "read_at_most", "torch_saved"]

_ALLOWANCE = 64 * 2**20
_EMPTY = re.compile(rb"^(?=,|$)|(?<=,)(?=,|$)", re.MULTILINE)  # matches at an empty field


class Files:
    """The files below the folder that contains ``raw/``, in a zip archive or on disk.

    Args:
        place: a zip archive or a folder.

    Raises:
        DataError: ``place`` is neither a zip archive nor a folder, or does not have exactly one folder with ``raw/``.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.zip: zipfile.ZipFile | None = None
        if place.is_dir():
            names = {p.relative_to(place).as_posix(): p.as_posix() for p in place.rglob("*") if p.is_file()}
            size = sum(Path(p).stat().st_size for p in names.values())
        else:
            names, size = self._members(), place.stat().st_size if place.is_file() else 0
        # Text compresses a few times; a ratio of a thousand is a decompression bomb.
        self.limit = _ALLOWANCE + 200 * size
        folders = {PurePosixPath(n).parent.parent for n in names if PurePosixPath(n).parent.name == "raw"}
        if len(folders) != 1:
            raise DataError(f"{place}: expected one folder that contains raw/, found {len(folders)}")
        base = str(folders.pop())
        prefix = "" if base == "." else base + "/"
        self.names = {n[len(prefix) :]: where for n, where in names.items() if n.startswith(prefix)}

    def _members(self) -> dict[str, str]:
        try:
            self.zip = zipfile.ZipFile(self.place)
            names = [m.filename for m in self.zip.infolist() if not m.is_dir()]
        except Exception as error:  # zipfile raises many types of errors for damaged archives
            raise DataError(f"{self.place}: damaged zip archive ({error})") from error
        if len(set(names)) < len(names):
            raise DataError(f"{self.place}: two files have the same name")
        return {n: n for n in names}

    def __contains__(self, name: str) -> bool:
        """Whether the file exists."""
        return name in self.names

    def read(self, name: str) -> bytes:
        """The content of a file; ``.gz`` files are decompressed.

        Raises:
            DataError: the file is missing, damaged, or suspiciously large when decompressed.
        """
        if name not in self.names:
            raise DataError(f"{self.place}: {name} is missing")
        try:
            with self.zip.open(self.names[name]) if self.zip else open(self.names[name], "rb") as stream:
                packed = gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else stream
                content = read_at_most(packed, self.limit + 1)
        except Exception as error:  # zipfile, gzip and codecs raise many types of errors for damaged bytes
            raise DataError(f"{self.place}: {name} is damaged ({error})") from error
        if len(content) > self.limit:
            raise DataError(f"{self.place}: {name} unpacks to more than {self.limit} bytes")
        return content


def read_at_most(stream: Any, limit: int) -> bytes:
    """At most ``limit`` bytes of a stream, read in pieces, since ``read(limit)`` would allocate the limit at once."""
    parts, left = [], limit
    while left and (part := stream.read(min(left, 2**20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def integers(files: Files, name: str, width: int) -> torch.Tensor:
    """A comma-separated file of integers, as [rows, width].

    Raises:
        DataError: the file does not have this format.
    """
    return _table(files, name, np.int64, width)


def columns(files: Files, name: str) -> torch.Tensor:
    """A comma-separated file of numbers, as [rows, columns]: int64 for integers, else float32, NaN for empty fields.

    Raises:
        DataError: a field is not a number, or lines have different lengths.
    """
    content = files.read(name)
    whole = not content.translate(None, b"0123456789,-\r\n") and not _EMPTY.search(content.removesuffix(b"\n"))
    return _table(files, name, np.int64 if whole else np.float32, None, content)


def arrays(files: Files, name: str) -> dict[str, torch.Tensor]:
    """The numeric arrays in a ``.npz`` file, by name.

    Raises:
        DataError: the file contains anything else, or the shape of an array does not fit its bytes.
    """
    return _arrays_in(io.BytesIO(files.read(name)), f"{files.place}: {name}", files.limit, None)


def npz(path: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Selected numeric arrays of a ``.npz`` file on disk; the rest of the file is ignored.

    Raises:
        DataError: an array is missing or not numeric, or its shape does not fit its bytes.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _arrays_in(content, str(path), _ALLOWANCE + 200 * len(content.getbuffer()), names)


def _arrays_in(content: io.BytesIO, where: str, limit: int, names: Sequence[str] | None) -> dict[str, torch.Tensor]:
    try:
        with zipfile.ZipFile(content) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            if missing := set(names or ()) - set(members):
                raise DataError(f"{where}: expected {', '.join(sorted(missing))}, got {sorted(members)}")
            members = members if names is None else {name: members[name] for name in names}
            if sum(m.file_size for m in members.values()) > limit:
                raise DataError(f"{where} unpacks to more than {limit} bytes")
            return {name: _array(archive, m) for name, m in members.items()}
    except Exception as error:  # NumPy raises many types of errors for malformed files
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: not a file of numeric arrays ({error})") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> torch.Tensor:
    """Read one ``.npy``; its shape is checked against its bytes first, since NumPy allocates memory by the shape."""
    content = io.BytesIO(archive.read(member))
    version = np.lib.format.read_magic(content)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in header:
        raise ValueError(f"{member.filename}: format {version} is not known")
    shape, _, dtype = header[version](content)
    if dtype.kind not in "biuf":
        raise ValueError(f"{member.filename}: {dtype} is not a numeric type")
    available = len(content.getbuffer()) - content.tell()
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != available:
        raise ValueError(f"{member.filename}: shape {shape} of {dtype} does not fit {available} bytes")
    content.seek(0)
    return torch.from_numpy(np.lib.format.read_array(content, allow_pickle=False))


def _table(files: Files, name: str, dtype: Any, width: int | None, content: bytes | None = None) -> torch.Tensor:
    content = (files.read(name) if content is None else content).replace(b"\r\n", b"\n")
    if not content.strip(b"\r\n"):
        return torch.empty(0, width or 0, dtype=torch.int64)
    if dtype is np.float32:
        content = _with_nan(content.removesuffix(b"\n"))
    try:
        table = np.loadtxt(io.BytesIO(content), dtype=dtype, delimiter=",", ndmin=2, comments=None)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{files.place}: {name}: expected numbers separated by commas ({error})") from error
    if width is not None and table.shape[1] != width:
        raise DataError(f"{files.place}: {name}: expected {width} column(s), got {table.shape[1]}")
    return torch.from_numpy(table)


def _with_nan(content: bytes) -> bytes:
    """Replace empty fields by ``nan``."""
    return _EMPTY.sub(b"nan", content)


def torch_saved(files: Files, name: str) -> Mapping[str, torch.Tensor]:
    """Load a dict of tensors or numeric NumPy arrays written by `torch.save`, without executing anything in it.

    Raises:
        DataError: the file contains anything else.
    """
    content, where = files.read(name), f"{files.place}: {name}"
    try:
        found = _weights(content)
    except Exception as error:  # torch raises many types of errors for malformed files
        found = _arrays(content, where, error)
    if not isinstance(found, dict) or not all(isinstance(v, (torch.Tensor, np.ndarray)) for v in found.values()):
        raise DataError(f"{where}: expected a dict of tensors or arrays")
    return {str(k): torch.as_tensor(v) for k, v in found.items()}


def _weights(content: bytes) -> Any:
    """Load with torch's restricted unpickler, which reads only tensors.

    NumPy's names are not added to its safe globals: with a forged dtype, NumPy would interpret numbers as objects.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about pickle protocol 4, which `_arrays` reads
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _arrays(content: bytes, where: str, error: Exception) -> Any:
    """Load with `hgraph.datasets.unpickle`, which reads only arrays, of any pickle protocol."""
    from hgraph.datasets.unpickle import loads

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            (pickled,) = (n for n in archive.namelist() if PurePosixPath(n).name == "data.pkl")
            if archive.getinfo(pickled).file_size > len(content):
                raise DataError("data.pkl is compressed, which torch never does")
            return loads(archive.read(pickled), source="data.pkl", max_bytes=len(content))
    except Exception as second:  # zipfile raises many types of errors for malformed archives
        reason = second if isinstance(second, DataError) else str(error).split("\n", 1)[0]
        raise DataError(f"{where}: expected tensors and arrays saved by torch ({reason})") from error
