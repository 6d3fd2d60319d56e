"""Downloads files of data sets from a mirror or their published URL, verifies and caches them."""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO, Any

from hgraph.errors import ArgumentError, ArgumentTypeError, DataError
from hgraph.files import writing
from hgraph.schema import read

__all__ = ["Source", "data_root", "fetch", "fetch_listed", "fetch_unlisted", "listed"]

_CHUNK = 1 << 16
_LONGEST = 220  # bytes of a name; temporary files have a longer one
_HASH = re.compile(r"[0-9a-f]{64}")
_TIMEOUT = 30.0  # seconds without a byte
_DELAYS = (0.5, 1.0, 2.0)  # before the second, third and fourth attempt at one address


@dataclass(frozen=True)
class Source:
    """One row of a file table: the path, size, hash and URL of a file.

    If ``sha256`` is empty, the content is not known in advance and ``size`` is the maximum size.
    """

    path: str
    size: int
    sha256: str
    url: str


@dataclass(frozen=True)
class _Lock:
    """The content of a lock file."""

    sha256: str
    size: int | None = None
    url: str | None = None


class _Retry(Exception):
    """An attempt failed in a way that a retry may fix."""


class _Refused(Exception):
    """This URL cannot give the file; a retry does not help."""


# ---------------------------------------------------------------------- public functions


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder for downloaded files: ``root``, else ``$HGRAPH_DATA``, else the cache folder of the platform.

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

    A cached file with the right hash is used. Otherwise ``$HGRAPH_MIRROR`` (a folder or URL with files at
    ``<set>/<path>``) is tried first, then the published URL. The file is written under its name only after its size
    and SHA-256 have been verified, in one atomic step.

    Args:
        set_name: the folder of the set below the root.
        path: the file's path within the set, with forward slashes.
        url: its published http(s) URL.
        sha256: 64 hexadecimal digits.
        size: its size in bytes; no more are read.
        root: see `data_root`.

    Raises:
        ArgumentError: a path outside its folder, a URL that is not http(s), or a malformed hash.
        DataError: no source has the file; the message lists each source with its error, and how to work offline.
    """
    relative = _checked_path("set_name", set_name) / _checked_path("path", path)
    source = _checked_source(Source(path, size, sha256 or "none", url))
    target = data_root(root) / relative
    return target if _is_verified(target, sha256, size) else _get(relative, source, target)


def _get(relative: PurePosixPath, source: Source, target: Path) -> Path:
    """Get the file from the first address that works."""
    reasons = []
    for address in _addresses(relative, source.url):
        try:
            with _replacing(target) as part:
                _copy(address, part, source)
            return target
        except (_Refused, _Retry) as error:
            reasons.append(f"{address}: {error}")
    raise DataError(
        f"{relative}: could not be downloaded.\n  "
        + "\n  ".join(reasons)
        + f"\nTo work offline, set HGRAPH_MIRROR to a folder that contains {relative}, or put the file at {target}"
    )


@functools.cache
def listed(set_name: str) -> Mapping[str, Source]:
    """The file table of a set, which is part of the package, by path.

    >>> listed("hypergcn")["cocitation/cora/labels.pickle"].size
    5436
    """
    table = Path(__file__).with_name(f"{_checked_path('set_name', set_name)}.tsv")
    if not table.is_file():
        raise ArgumentError("set_name", "a data set with a list of files to download", repr(set_name))
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    return MappingProxyType({path: Source(path, int(size), sha256, url) for path, size, sha256, url in rows})


def fetch_listed(set_name: str, path: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Fetch a file that is listed in the file table of a set.

    Raises:
        ArgumentError: the file is not in the table.
        DataError: the file cannot be downloaded.
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
    """Fetch a file without a published hash: the first download is trusted, later ones must match it.

    Size and SHA-256 of the first download are saved next to the file in ``<path>.lock.json``. Later calls return the
    file only if it still matches. With ``sha256``, the first download must match it too.

    Args:
        set_name: the folder of the set below the root.
        path: the file's path within the set.
        url: its published http(s) URL.
        max_bytes: maximum size; larger files are refused.
        sha256: 64 hexadecimal digits, or None.
        root: see `data_root`.

    Raises:
        ArgumentError: as `fetch`.
        DataError: no source has the file, or it differs from the first download or from ``sha256``.
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
            hint = f"If this file is right, delete {lock}; if it is not, delete {target}"
            raise DataError(f"{target}: expected SHA-256 {wanted} ({source}), got {found['sha256']}. {hint}")
    if not lock.is_file():
        with _replacing(lock) as part:
            part.file.write(json.dumps({**found, "url": url}, indent=1).encode())
    return target


def _locked(lock: Path) -> str | None:
    if not lock.is_file():
        return None
    hint = "Delete it to trust the file next to it again"
    if lock.is_symlink():
        raise DataError(f"{lock}: expected a lock file of hgraph, got a link. {hint}")
    found = read(lock, _Lock, hint=hint)
    if not _HASH.fullmatch(found.sha256):
        raise DataError(f"{lock}: sha256: expected 64 lowercase hexadecimal digits, got {found.sha256[:80]!r}. {hint}")
    return found.sha256


# ---------------------------------------------------------------------- paths and cached files


def _checked_path(name: str, path: str) -> PurePosixPath:
    """The path, after checking that each part is a plain name, so that it cannot leave its folder."""
    if not isinstance(path, str):
        raise ArgumentTypeError(name, "a relative path", repr(path))
    parts = path.split("/")
    bad = any(
        p in ("", ".", "..") or any(c in p for c in "\\:\0") or len(p.encode(errors="replace")) > _LONGEST
        for p in parts
    )
    if bad:
        raise ArgumentError(name, "a relative path of plain names, without '..'", repr(path))
    return PurePosixPath(*parts)


def _checked_source(source: Source) -> Source:
    for name, value, kind in (("url", source.url, str), ("sha256", source.sha256, str), ("size", source.size, int)):
        if type(value) is not kind:
            raise ArgumentTypeError(name, "a whole number" if kind is int else "a text", repr(value))
    if _host_of(source.url) is None:
        raise ArgumentError("url", "an http or https URL with a host", repr(source.url)[:200])
    if source.sha256 and not _HASH.fullmatch(source.sha256):
        raise ArgumentError("sha256", "64 lowercase hexadecimal digits", repr(source.sha256))
    if source.size < 0:
        raise ArgumentError("size", "a size >= 0", source.size)
    return source


def _host_of(url: str) -> str | None:
    """The host of an http or https URL; None if it is no such URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
        _ = parts.port, (host or "").encode("idna"), url.encode()
    except ValueError:
        return None
    return host if parts.scheme in ("http", "https") else None


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
        expected = "a folder, or an http, https or file URL"
        try:
            parts = urllib.parse.urlsplit(mirror)
            folder = Path(mirror).expanduser()
        except (ValueError, RuntimeError) as error:
            raise ArgumentError("HGRAPH_MIRROR", expected, f"{mirror[:200]!r} ({error})") from error
        if parts.scheme in ("http", "https"):
            if _host_of(mirror) is None:
                raise ArgumentError("HGRAPH_MIRROR", expected, repr(mirror)[:200])
            yield mirror.rstrip("/") + "/" + urllib.parse.quote(str(relative))
        elif parts.scheme == "file":
            yield Path(urllib.request.url2pathname(parts.path)) / relative
        elif "://" in mirror:
            raise ArgumentError("HGRAPH_MIRROR", expected, repr(mirror)[:200])
        else:
            yield folder / relative
    yield url


# ---------------------------------------------------------------------- writing


@dataclass
class _Part:
    """A temporary file with the hash and the size of its content so far."""

    file: IO[bytes]
    digest: Any
    count: int = 0

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.digest, self.count = hashlib.sha256(), 0

    def append(self, stream: Any, size: int, progress: Any) -> None:
        """Append the stream; stops one byte after ``size``, so that a faulty server cannot fill the disk."""
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
                raise _Refused(f"more than the expected {size} bytes")


@contextmanager
def _replacing(target: Path) -> Iterator[_Part]:
    """A temporary file next to the target that replaces it if the block succeeds and is deleted if not.

    Its name is unique, so that processes that fetch the same file at once do not write to the same temporary file.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with writing(target, "wb") as file:
            yield _Part(file, hashlib.sha256())
    except OSError as error:  # errors of reading were converted before, so this is the disk
        raise DataError(f"{target}: cannot be written ({error}). Set HGRAPH_DATA to another folder") from error


# ---------------------------------------------------------------------- downloading


def _copy(address: str | Path, part: _Part, source: Source) -> None:
    """Write the content of one address to ``part`` and verify it."""
    from tqdm import tqdm

    # disable=None: show the bar on a terminal only.
    total = source.size if source.sha256 else None
    with tqdm(total=total, unit="B", unit_scale=True, desc=source.path, leave=False, disable=None) as progress:
        if isinstance(address, Path):
            try:
                stream = open(address, "rb")  # noqa: SIM115 - closed below; errors of writing must not be caught here
            except (OSError, ValueError) as error:
                raise _Refused(getattr(error, "strerror", None) or str(error)) from error
            with stream:
                part.append(stream, source.size, progress)
            _verify(part, source)
        else:
            _download(address, part, source, progress)


def _verify(part: _Part, source: Source) -> None:
    if not source.sha256:
        return
    if part.count != source.size:
        raise _Retry(f"expected {source.size} bytes, got {part.count}: truncated")
    if part.digest.hexdigest() != source.sha256:
        raise _Refused(f"expected the published SHA-256 {source.sha256}, got {part.digest.hexdigest()}")


def _download(url: str, part: _Part, source: Source, progress: Any) -> None:
    """Download with retries after pauses; each retry resumes where the last attempt stopped."""
    for delay in (*_DELAYS, None):
        resumed = part.count > 0
        try:
            _attempt(url, part, source, progress)
            return _verify(part, source)
        except _Refused:
            if not resumed:
                raise
            part.restart()  # the parts do not fit together: the file may have changed between the attempts
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
                    raise _Retry("the server sent a different range than requested")
            part.append(response, source.size, progress)
            if response.length and not source.sha256 and part.count <= source.size:
                raise _Retry(f"truncated, {response.length} bytes are missing")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # range not satisfiable: the file is shorter, or has changed in between
            part.restart()
            progress.reset()
        if error.code in (408, 416, 425, 429) or error.code >= 500:
            raise _Retry(f"HTTP {error.code}") from error
        raise _Refused(f"HTTP {error.code}") from error
    except ValueError as error:  # a redirect to a name that is none
        raise _Refused(str(error)) from error
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
