"""Downloads: mirrors, the cache, damaged files, resumption, and errors without a network."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import random
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hgraph.datasets import download
from hgraph.datasets.download import data_root, fetch, fetch_listed, fetch_unlisted, listed
from hgraph.errors import ArgumentError, DataError

CONTENT = bytes(range(256)) * 1024  # several chunks
SHA = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:1/a/b.bin"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ("HGRAPH_MIRROR", "HGRAPH_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_DELAYS", (0.0, 0.0, 0.0))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A mirror folder that contains the file."""
    place = tmp_path / "mirror"
    (place / "set/a").mkdir(parents=True)
    (place / "set/a/b.bin").write_bytes(CONTENT)
    monkeypatch.setenv("HGRAPH_MIRROR", str(place))
    return place


get = functools.partial(fetch, "set", "a/b.bin", NOWHERE, SHA, len(CONTENT))


def nothing_written(root: Path) -> bool:
    return not [p for p in root.rglob("*") if p.is_file()]


# ---------------------------------------------------------------------- a test server


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at any path; ``habits`` has one function per request; the last one stays."""

    def __init__(self, *habits):
        super().__init__(("127.0.0.1", 0), Handler)
        self.habits, self.seen = list(habits), []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/set/a/b.bin"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        habits = self.server.habits
        self.server.seen.append((self.path, self.headers.get("Range")))
        (habits.pop(0) if len(habits) > 1 else habits[0])(self)

    def answer(self, body, code=200, length=None, **headers):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def whole(h):
    h.answer(CONTENT)


def ranged(h):
    begin = int(h.headers["Range"].removeprefix("bytes=").rstrip("-"))
    rest = CONTENT[begin:]
    h.answer(rest, 206, Content_Range=f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")


def cut(at, content=CONTENT):
    return lambda h: h.answer(content[:at], length=len(content))


def status(code):
    return lambda h: h.answer(b"no", code)


# ---------------------------------------------------------------------- mirrors and the cache


def test_folder_mirror_then_cache(root, folder):
    path = get(root)
    assert path == root / "set/a/b.bin"
    assert path.read_bytes() == CONTENT
    (folder / "set/a/b.bin").unlink()
    assert get(root) == path
    assert [p.name for p in path.parent.iterdir()] == ["b.bin"]


def test_file_url_as_mirror(root, folder, monkeypatch):
    monkeypatch.setenv("HGRAPH_MIRROR", folder.as_uri())
    assert get(root).read_bytes() == CONTENT


def test_url_mirror_is_tried_before_the_published_url(root, monkeypatch):
    with Server(whole) as mirror, Server(whole) as published:
        monkeypatch.setenv("HGRAPH_MIRROR", mirror.url.removesuffix("/set/a/b.bin") + "/x/")
        fetch("set", "a/b c.bin", published.url, SHA, len(CONTENT), root)
        assert mirror.seen == [("/x/set/a/b%20c.bin", None)]
        assert published.seen == []


def test_a_mirror_without_the_right_file_is_skipped(root, folder):
    with Server(whole) as server:
        (folder / "set/a/b.bin").write_bytes(CONTENT[::-1])
        assert fetch("set", "a/b.bin", server.url, SHA, len(CONTENT), root).read_bytes() == CONTENT
        (root / "set/a/b.bin").unlink()
        (folder / "set/a/b.bin").unlink()
        assert fetch("set", "a/b.bin", server.url, SHA, len(CONTENT), root).read_bytes() == CONTENT


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_damaged_cached_file_is_downloaded_again(root, folder, damaged):
    get(root).write_bytes(damaged)
    assert get(root).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (b"", "expected 262144 bytes, got 0: truncated"),
        (CONTENT[:1000], "expected 262144 bytes, got 1000: truncated"),
        (CONTENT[:-1] + b"x", "expected the published SHA-256"),
        (CONTENT + b"x", "more than the expected 262144 bytes"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_written(root, folder, damaged, why):
    (folder / "set/a/b.bin").write_bytes(damaged)
    with pytest.raises(DataError, match=why):
        get(root)
    assert nothing_written(root)


def test_a_failed_download_does_not_change_the_cached_file(root, folder):
    cached = get(root)
    with pytest.raises(DataError):
        fetch("set", "a/b.bin", NOWHERE, "0" * 64, len(CONTENT), root)
    assert cached.read_bytes() == CONTENT  # the download with another hash did not touch it


def test_many_at_once(root, folder):
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: get(root), range(16)))
    assert set(paths) == {root / "set/a/b.bin"}
    assert [p.name for p in paths[0].parent.iterdir()] == ["b.bin"]


def test_roots(monkeypatch, tmp_path):
    assert data_root("x") == Path("x")
    if sys.platform == "linux":
        assert data_root() == tmp_path / "cache" / "hgraph"
    monkeypatch.setenv("HGRAPH_DATA", str(tmp_path / "mine"))
    assert data_root() == tmp_path / "mine"
    assert data_root("x") == Path("x")


def test_a_root_that_cannot_be_written(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written .*HGRAPH_DATA"):
        get(tmp_path / "file")


# ---------------------------------------------------------------------- checks of arguments


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "a//b", "", "a/", ".", "a/./b", "C:/x", "a\\..\\b", "a\0b", "~/../x/"]
)
def test_paths_stay_in_their_folder(root, folder, path):
    with pytest.raises(ArgumentError, match="plain names"):
        fetch("set", path, NOWHERE, SHA, 1, root)
    with pytest.raises(ArgumentError, match="plain names"):
        fetch(path, "x", NOWHERE, SHA, 1, root)
    assert not root.exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "data:,x", "x", ""])
def test_only_http(root, url):
    with pytest.raises(ArgumentError, match="http or https"):
        fetch("set", "x", url, SHA, 1, root)


def test_malformed_hash_size_and_mirror(root, monkeypatch):
    with pytest.raises(ArgumentError, match="64 lowercase hexadecimal"):
        fetch("set", "x", NOWHERE, SHA[:-1], 1, root)
    with pytest.raises(ArgumentError, match="size >= 0"):
        fetch("set", "x", NOWHERE, SHA, -1, root)
    monkeypatch.setenv("HGRAPH_MIRROR", "ftp://host/x")
    with pytest.raises(ArgumentError, match="HGRAPH_MIRROR"):
        get(root)


def test_file_tables():
    with pytest.raises(ArgumentError, match="a list of files to download"):
        listed("nothing")
    with pytest.raises(ArgumentError, match="in the table of 'hypergcn'"):
        fetch_listed("hypergcn", "cocitation/pubmed/labels.pickle")
    for row in listed("hypergcn").values():
        assert row.url.startswith("https://raw.githubusercontent.com/malllabiisc/HyperGCN/")
        assert len(row.sha256) == 64


# ---------------------------------------------------------------------- the network


def test_the_error_without_a_network_says_what_to_do(root, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/b.bin"
    monkeypatch.setenv("HGRAPH_MIRROR", str(tmp_path / "empty"))
    with pytest.raises(DataError) as caught:
        fetch("set", "a/b.bin", url, SHA, len(CONTENT), root)
    message = str(caught.value)
    assert f"{tmp_path / 'empty' / 'set/a/b.bin'}: No such file" in message
    assert f"{url}: <urlopen error" in message
    assert "set HGRAPH_MIRROR to a folder that contains set/a/b.bin" in message
    assert f"put the file at {root / 'set/a/b.bin'}" in message
    assert nothing_written(root)
    (root / "set/a").mkdir(parents=True, exist_ok=True)
    (root / "set/a/b.bin").write_bytes(CONTENT)  # as the message says
    assert fetch("set", "a/b.bin", url, SHA, len(CONTENT), root).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("habits", "ranges"),
    [
        ([whole], [None]),
        ([status(503), status(429), whole], [None, None, None]),
        ([cut(100_000), ranged], [None, "bytes=100000-"]),
        ([cut(100_000), status(500), ranged], [None, "bytes=100000-", "bytes=100000-"]),
        ([cut(100_000), whole], [None, "bytes=100000-"]),  # a server that does not resume
        ([cut(100_000), status(416), whole], [None, "bytes=100000-", None]),
        ([cut(100_000, CONTENT[::-1]), ranged, whole], [None, "bytes=100000-", None]),  # the file changed in between
        ([cut(9), lambda h: h.answer(CONTENT[:9], 206, Content_Range="bytes 0-8/9"), whole], [None, "bytes=9-", None]),
    ],
)
def test_retries_and_resumption(root, habits, ranges):
    with Server(*habits) as server:
        assert fetch("set", "a/b.bin", server.url, SHA, len(CONTENT), root).read_bytes() == CONTENT
        assert [r for _, r in server.seen] == ranges


@pytest.mark.parametrize(
    ("habit", "requests", "why"),
    [
        (status(404), 1, "HTTP 404"),
        (status(403), 1, "HTTP 403"),
        (status(503), 4, "HTTP 503"),
        (cut(0), 4, "expected 262144 bytes, got 0: truncated"),
        (lambda h: h.answer(CONTENT[::-1]), 1, "expected the published SHA-256"),
        (lambda h: h.answer(CONTENT * 9), 1, "more than the expected"),
        (lambda h: h.answer(b"", 302, Location="file:///etc/passwd"), 1, "HTTP 302"),
        (lambda h: h.answer(b"", 302, Location="ftp://127.0.0.1/x"), 1, "redirected to ftp"),
    ],
)
def test_retries_are_limited_and_refusals_are_final(root, habit, requests, why):
    with Server(habit) as server:
        with pytest.raises(DataError, match=why):
            fetch("set", "a/b.bin", server.url, SHA, len(CONTENT), root)
        assert len(server.seen) == requests
    assert nothing_written(root)


def test_redirects_are_followed(root):
    with Server(lambda h: h.answer(b"", 302, Location="/elsewhere"), whole) as server:
        assert fetch("set", "a/b.bin", server.url, SHA, len(CONTENT), root).read_bytes() == CONTENT
        assert [p for p, _ in server.seen] == ["/set/a/b.bin", "/elsewhere"]


def test_a_silent_server_times_out(root, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.1)
    monkeypatch.setattr(download, "_DELAYS", (0.0,))
    release = threading.Event()
    with Server(lambda h: release.wait(5)) as server:
        with pytest.raises(DataError, match="timed out"):
            fetch("set", "a/b.bin", server.url, SHA, len(CONTENT), root)
        release.set()
        assert len(server.seen) == 2


def test_an_interrupted_download_leaves_nothing(root, folder, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get(root)
    assert nothing_written(root)


# ---------------------------------------------------------------------- files without a published hash


def unlisted(root, url=NOWHERE, **options):
    return fetch_unlisted("set", "a/b.bin", url, max_bytes=len(CONTENT), root=root, **options)


def test_later_files_must_match_the_first_download(root, folder):
    path = unlisted(root)
    assert path.read_bytes() == CONTENT
    lock = path.with_name("b.bin.lock.json")
    assert f'"sha256": "{SHA}"' in lock.read_text()
    (folder / "set/a/b.bin").unlink()
    assert unlisted(root) == path  # no source is tried again
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(DataError, match=rf"expected SHA-256 {SHA} \(.*lock.json\)"):
        unlisted(root)
    lock.unlink()
    assert unlisted(root) == path  # trusted again, as the message says


def test_a_deleted_file_must_match_when_downloaded_again(root, folder):
    unlisted(root).unlink()
    (folder / "set/a/b.bin").write_bytes(CONTENT[::-1])
    with pytest.raises(DataError, match="lock.json., got"):
        unlisted(root)
    assert not (root / "set/a/b.bin").exists()


def test_the_first_download_must_match_the_hash_of_the_caller(root, folder):
    with pytest.raises(DataError, match=r"expected SHA-256 0000.* \(sha256=\)"):
        unlisted(root, sha256="0" * 64)
    assert nothing_written(root)
    assert unlisted(root, sha256=SHA).read_bytes() == CONTENT
    with pytest.raises(ArgumentError, match="sha256: expected 64"):
        unlisted(root, sha256="abc")


def test_more_than_the_maximum_size_is_refused(root, folder):
    with pytest.raises(DataError, match="more than the expected 10 bytes"):
        fetch_unlisted("set", "a/b.bin", NOWHERE, max_bytes=10, root=root)
    assert nothing_written(root)


def test_a_truncated_download_is_refused(root):
    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:100])

    with Server(cut) as server:
        with pytest.raises(DataError, match="truncated"):
            unlisted(root, server.url)
    assert nothing_written(root)


def test_a_damaged_lock(root, folder):
    path = unlisted(root)
    path.with_name("b.bin.lock.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        unlisted(root)


# ---------------------------------------------------------------------- killed processes


def trickle(h):
    """Send the file in sixteen pieces, a few milliseconds apart."""
    h.send_response(200)
    h.send_header("Content-Length", str(len(CONTENT)))
    h.end_headers()
    step = len(CONTENT) // 16
    for at in range(0, len(CONTENT), step):
        h.wfile.write(CONTENT[at : at + step])
        time.sleep(0.003)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_at_any_moment_leaves_no_partial_file(root):
    random.seed(0)
    seen = set()
    with Server(trickle) as server:
        target = data_root(root) / "set/a/b.bin"
        for _ in range(20):
            child = os.fork()
            if child == 0:
                try:
                    while True:
                        target.unlink(missing_ok=True)
                        fetch("set", "a/b.bin", server.url, SHA, len(CONTENT), root=root)
                finally:
                    os._exit(1)
            time.sleep(random.uniform(0.005, 0.12))
            os.kill(child, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            seen.add(target.exists())
            assert not target.exists() or target.read_bytes() == CONTENT
            if target.exists() and random.random() < 0.5:
                target.write_bytes(CONTENT[:1000])  # damage by others is repaired too
        assert list(target.parent.glob(".*.tmp"))
        target.unlink(missing_ok=True)
        assert fetch("set", "a/b.bin", server.url, SHA, len(CONTENT), root=root).read_bytes() == CONTENT
        assert not list(target.parent.glob(".*.tmp"))  # those of killed processes
    assert False in seen  # some were killed during a download
