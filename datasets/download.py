"""Files of data sets: fetched from a mirror or their published address, verified, kept."""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import os
import re
import secrets
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO, Any

from hgraph.errors import ArgumentError, DataError

__all__ = ["Source", "data_root", "fetch", "fetch_listed", "fetch_unlisted", "listed"]

_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without a byte
_DELAYS = (0.5, 1.0, 2.0)  # before the second, third and fourth attempt at one address


@dataclass(frozen=True)
class Source:
    """One row of a file table: where a file is published and how to know it.

    Where ``sha256`` is empty the content is not known beforehand and ``size`` is the most that is taken.
    """

    path: str
    size: int
    sha256: str
    url: str


class _Retry(Exception):
    """An attempt failed in a way that another attempt may mend."""


class _Refused(Exception):
    """This address will not give the file, now or later."""


# ---------------------------------------------------------------------- what users call


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that keeps fetched files: ``root``, else ``$HGRAPH_DATA``, else the platform's cache folder.

    >>> data_root("here").name
    'here'
    """
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get("HGRAPH_DATA"):
        return Path(os.environ["HGRAPH_DATA"]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "hgraph" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hgraph"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hgraph"


def fetch(
    set_name: str, path: str, url: str, sha256: str, size: int, root: str | os.PathLike[str] | None = None
) -> Path:
    """The local path of one verified file of a data set.

    A kept file whose hash is right is used. Else ``$HGRAPH_MIRROR`` (a folder, or a URL, laid out as
    ``<set>/<path>``) is asked, then the published address. Nothing is written under the file's name before its size and
    SHA-256 are right, and then the whole file appears at once.

    Args:
        set_name: the folder of the set below the root.
        path: the file's path within the set, with forward slashes.
        url: its published http(s) address.
        sha256: 64 hexadecimal digits.
        size: its bytes; never more are read.
        root: see `data_root`.

    Raises:
        ArgumentError: a path that leaves its folder, an address that is not http(s), a malformed hash.
        DataError: no source has the file; the message names each source with its reason, and the ways to do without.
    """
    relative = _checked_path("set_name", set_name) / _checked_path("path", path)
    source = _checked_source(Source(path, size, sha256 or "none", url))
    target = data_root(root) / relative
    return target if _is_verified(target, sha256, size) else _get(relative, source, target)


def _get(relative: PurePosixPath, source: Source, target: Path) -> Path:
    """The file from the first address that gives it."""
    reasons = []
    for address in _addresses(relative, source.url):
        try:
            with _replacing(target) as part:
                _copy(address, part, source)
            return target
        except (_Refused, _Retry) as error:
            reasons.append(f"{address}: {error}")
    raise DataError(
        f"{relative}: could not be had.\n  "
        + "\n  ".join(reasons)
        + f"\nWithout a network: set HGRAPH_MIRROR to a folder that holds {relative}, or put the file at {target}"
    )


@functools.cache
def listed(set_name: str) -> Mapping[str, Source]:
    """The file table of a set that ships with the package, by path.

    >>> listed("hypergcn")["cocitation/cora/labels.pickle"].size
    5436
    """
    table = Path(__file__).with_name(f"{_checked_path('set_name', set_name)}.tsv")
    if not table.is_file():
        raise ArgumentError("set_name", "a set with a file table", repr(set_name))
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    return MappingProxyType({path: Source(path, int(size), sha256, url) for path, size, sha256, url in rows})


def fetch_listed(set_name: str, path: str, root: str | os.PathLike[str] | None = None) -> Path:
    """`fetch` for a file that stands in the set's table.

    Raises:
        ArgumentError: it does not stand there.
        DataError: it cannot be had.
    """
    files = listed(set_name)
    if path not in files:
        raise ArgumentError("path", f"a file in the table of {set_name!r}", repr(path))
    row = files[path]
    return fetch(set_name, path, row.url, row.sha256, row.size, root)


def fetch_unlisted(
    set_name: str,
    path: str,
    url: str,
    *,
    max_bytes: int,
    sha256: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> Path:
    """A file whose hash its publisher does not tell: trusted the first time, held to that ever after.

    Size and SHA-256 of what came first are written beside the file, into ``<path>.lock.json``. A later call returns the
    file only while it is still that. With ``sha256`` nothing else is accepted, the first time either.

    Args:
        set_name: the folder of the set below the root.
        path: the file's path within the set.
        url: its published http(s) address.
        max_bytes: more is refused.
        sha256: 64 hexadecimal digits, or None.
        root: see `data_root`.

    Raises:
        ArgumentError: as `fetch`.
        DataError: no source has it, or it is not what came first or what ``sha256`` asks for.
    """
    relative = _checked_path("set_name", set_name) / _checked_path("path", path)
    if sha256 is not None:
        _checked_source(Source(path, max_bytes, sha256, url))
    target = data_root(root) / relative
    lock = target.with_name(target.name + ".lock.json")
    fresh = not target.is_file()
    if fresh:
        _get(relative, _checked_source(Source(path, max_bytes, "", url)), target)
    found = {"sha256": _hash(target), "size": target.stat().st_size}
    for source, wanted in (("sha256=", sha256), (str(lock), _locked(lock))):
        if wanted is not None and found["sha256"] != wanted:
            if fresh:
                target.unlink()
            hint = f"If the new one is right, delete {lock}; if it is not, delete {target}"
            raise DataError(f"{target}: SHA-256 is {found['sha256']}, {source} says {wanted}. {hint}")
    if not lock.is_file():
        with _replacing(lock) as part:
            part.file.write(json.dumps({**found, "url": url}, indent=1).encode())
    return target


def _locked(lock: Path) -> str | None:
    if not lock.is_file():
        return None
    try:
        return str(json.loads(lock.read_bytes())["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{lock}: damaged ({error!r}); delete it to trust the file beside it anew") from error


# ---------------------------------------------------------------------- paths and what is kept


def _checked_path(name: str, path: str) -> PurePosixPath:
    """The path, if every part of it is a plain name; so nothing outside its folder can be meant."""
    parts = path.split("/")
    bad = any(p in ("", ".", "..") or any(c in p for c in "\\:\0") for p in parts)
    if bad:
        raise ArgumentError(name, "a relative path of plain names, without '..'", repr(path))
    return PurePosixPath(*parts)


def _checked_source(source: Source) -> Source:
    if urllib.parse.urlsplit(source.url).scheme not in ("http", "https"):
        raise ArgumentError("url", "an http or https address", repr(source.url))
    if source.sha256 and not re.fullmatch(r"[0-9a-f]{64}", source.sha256):
        raise ArgumentError("sha256", "64 small hexadecimal digits", repr(source.sha256))
    if source.size < 0:
        raise ArgumentError("size", "a size >= 0", source.size)
    return source


def _is_verified(path: Path, sha256: str, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size and _hash(path) == sha256


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _addresses(relative: PurePosixPath, url: str) -> Iterator[str | Path]:
    mirror = os.environ.get("HGRAPH_MIRROR")
    if mirror:
        parts = urllib.parse.urlsplit(mirror)
        if parts.scheme in ("http", "https"):
            yield mirror.rstrip("/") + "/" + urllib.parse.quote(str(relative))
        elif parts.scheme == "file":
            yield Path(urllib.request.url2pathname(parts.path)) / relative
        elif "://" in mirror:
            raise ArgumentError("HGRAPH_MIRROR", "a folder, or an http, https or file address", repr(mirror))
        else:
            yield Path(mirror).expanduser() / relative
    yield url


# ---------------------------------------------------------------------- the file being written


@dataclass
class _Part:
    """A temporary file, and the hash and count of what is in it."""

    file: IO[bytes]
    digest: Any
    count: int = 0

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.digest, self.count = hashlib.sha256(), 0

    def take(self, stream: Any, size: int, progress: Any) -> None:
        """Append the stream; one byte beyond ``size`` ends it, so a wrong server cannot fill the disk."""
        while True:
            try:
                chunk = stream.read(min(_CHUNK, size + 1 - self.count))
            except (OSError, http.client.HTTPException) as error:
                raise _Retry(str(error) or type(error).__name__) from error
            if not chunk:
                return
            self.file.write(chunk)
            self.digest.update(chunk)
            self.count += len(chunk)
            progress.update(len(chunk))
            if self.count > size:
                raise _Refused(f"more than the declared {size} bytes")


@contextmanager
def _replacing(target: Path) -> Iterator[_Part]:
    """A file beside the target that takes its place when the block ends well, and goes when it does not.

    Its name is its own, so that processes that fetch the same file at once do not write into each other's.
    """
    name = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(name, "xb") as file:
            yield _Part(file, hashlib.sha256())
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except OSError as error:  # reading has its own errors by now, so this is the disk
        raise DataError(f"{target}: cannot be written ({error}). HGRAPH_DATA chooses another folder") from error
    finally:
        with suppress(OSError):  # it is not there where all went well, or where it could not be made
            name.unlink()


# ---------------------------------------------------------------------- getting the bytes


def _copy(address: str | Path, part: _Part, source: Source) -> None:
    """Fill ``part`` from one address and verify it."""
    from tqdm import tqdm

    # disable=None: a bar on a terminal, silence elsewhere.
    total = source.size if source.sha256 else None
    with tqdm(total=total, unit="B", unit_scale=True, desc=source.path, leave=False, disable=None) as progress:
        if isinstance(address, Path):
            try:
                stream = open(address, "rb")  # noqa: SIM115 - closed below; a failed write must not read as this
            except OSError as error:
                raise _Refused(error.strerror or "cannot be read") from error
            with stream:
                part.take(stream, source.size, progress)
            _verify(part, source)
        else:
            _download(address, part, source, progress)


def _verify(part: _Part, source: Source) -> None:
    if not source.sha256:
        return
    if part.count != source.size:
        raise _Retry(f"{part.count} bytes, not {source.size}: truncated")
    if part.digest.hexdigest() != source.sha256:
        raise _Refused(f"SHA-256 is {part.digest.hexdigest()}, not {source.sha256}: not the published file")


def _download(url: str, part: _Part, source: Source, progress: Any) -> None:
    """Attempts with pauses between them; each goes on where the one before it was cut off."""
    for delay in (*_DELAYS, None):
        resumed = part.count > 0
        try:
            _attempt(url, part, source, progress)
            return _verify(part, source)
        except _Refused:
            if not resumed:
                raise
            part.restart()  # two halves that do not fit: the file may have changed between the attempts
            progress.reset()
            if delay is None:
                raise
        except _Retry:
            if delay is None:
                raise
        time.sleep(delay)
    return None


def _attempt(url: str, part: _Part, source: Source, progress: Any) -> None:
    headers = {"User-Agent": "hgraph", "Accept-Encoding": "identity"}
    if part.count:
        headers["Range"] = f"bytes={part.count}-"
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s) only, checked by fetch
        with _OPENER.open(request, timeout=_TIMEOUT) as response:
            begins = f"bytes {part.count}-"
            if part.count and not (
                response.status == 206 and response.headers.get("Content-Range", "").startswith(begins)
            ):
                part.restart()
                progress.reset()
                if response.status == 206:
                    raise _Retry("the server sent another part than was asked for")
            part.take(response, source.size, progress)
            if response.length and not source.sha256 and part.count <= source.size:
                raise _Retry(f"{response.length} bytes missing: truncated")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # asked for the rest, it has none: its file is shorter, or changed in between
            part.restart()
            progress.reset()
        if error.code in (408, 416, 425, 429) or error.code >= 500:
            raise _Retry(f"HTTP {error.code}") from error
        raise _Refused(f"HTTP {error.code}") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Retry(str(error) or type(error).__name__) from error


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http(s) only, and never from https back to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urllib.parse.urlsplit(req.full_url).scheme, urllib.parse.urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise _Refused(f"redirected to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_SafeRedirects)
