"""Dates, labels, paths, addresses, sizes and lock files at the edge of what can be: one error with place and cause."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

import hgraph
import hgraph.datasets as datasets
from hgraph import convert
from hgraph.data import Split
from hgraph.datasets import download
from hgraph.errors import HgraphError
from hgraph.structure import Graph

LINKS = {"members": [["a", "b"]]}
GRAPH = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)


class Scalar:
    """A scalar of a library whose value Python cannot hold."""

    def __init__(self, error):
        self.error = error

    def as_py(self):
        raise self.error


DATES = {
    "year 30000": "30000-01-01",
    "year 30000 of numpy": np.datetime64("30000-01-01"),
    "before the era": "-0001-01-01",
    "month 13": "2000-13-01",
    "February 30": "2000-02-30",
    "hour 24": "2000-01-01T24:00",
    "a leap second": "2000-12-31T23:59:60Z",
    "a zone of seconds": "1890-01-01T00:00:00+00:53:28",
    "a zone of days": "2000-01-01T00:00:00+99:00",
    "a zone by name": "2000-01-01T00:00:00[Mars/Phobos]",
    "ten digits of a second": "2000-01-01T00:00:00.1234567890",
    "a time of day": datetime.time(12, 30),
    "a year that Python cannot hold": Scalar(OverflowError("date value out of range")),
    "a zone without a database": Scalar(KeyError("No time zone found with key Mars/Phobos")),
}


@pytest.mark.parametrize("kind", DATES)
def test_dates_that_are_none(kind):
    table = {"id": ["a", "b"], "seen": ["2000-01-01", DATES[kind]]}
    with pytest.raises(HgraphError, match=r"seen.*expected .*, got|row 1.*seen"):
        datasets.from_tables(table, LINKS, types={"seen": "date"})


@pytest.mark.parametrize(
    "value",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2024-05-31T12:00:00.123456789Z",
     np.datetime64("2024-05-31T12:00:00.123456789"), datetime.datetime.max, datetime.date.min],
)  # fmt: skip
def test_the_first_and_the_last_dates_are_read(value):
    x = datasets.from_tables({"id": ["a", "b"], "seen": ["2000-01-01", value]}, LINKS, types={"seen": "date"})[0].x
    assert bool(x.isfinite().all())


@pytest.mark.parametrize("y", [torch.tensor([0.5, 1.0]), torch.tensor([1j, 0j]), torch.tensor([1e-30, 1.0])])
def test_labels_that_are_fractions(y):
    with pytest.raises(HgraphError, match="y: expected class numbers, got"):
        Split.per_class(GRAPH, y, num_train_per_class=0, num_val_per_class=0)


READERS = {
    "load": lambda p: datasets.load(Path(p)),
    "info": lambda p: datasets.info(Path(p)),
    "read_table": lambda p: datasets.read_table(f"{p}.csv"),
    "save": lambda p: datasets.save(datasets.from_tables({"id": ["a", "b"]}, LINKS), p),
    "from_interactions": datasets.from_interactions,
    "read_triples": convert.read_triples,
    "load of a structure": hgraph.load,
    "save of a structure": GRAPH.save,
}
PATHS = {"zero": "a\0b", "long": "x" * 300, "long below": f"a/{'y' * 300}", "very long": "a/" * 3000, "half": "\ud800"}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", PATHS)
def test_paths_that_no_file_can_have(kind, reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HgraphError) as caught:
        READERS[reader](PATHS[kind])
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_DELAYS", ())
    monkeypatch.delenv("HGRAPH_MIRROR", raising=False)
    usual = {"set_name": "s", "path": "p", "url": "http://localhost:1/x", "sha256": "0" * 64, "size": 3}
    return lambda **options: download.fetch(**usual | options, root=tmp_path)


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://", "http:///x", "http://localhost:99999/x", "http://\ud800/x", "ftp://localhost/x", "file:///x",
     f"http://xn--\u00e9{'a' * 300}/", "x", "", 3, None, b"http://localhost/x"],
)  # fmt: skip
def test_addresses_that_are_none(url, fetch, tmp_path):
    with pytest.raises(HgraphError, match="url: expected|could not be downloaded"):
        fetch(url=url)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "mirror",
    [
        "http://[::1",
        "http://localhost:99999",
        "s3://bucket",
        "~nobody_here/x",
        "https://",
        "x" * 5000,
        "file://host/none",
    ],
)
def test_mirrors_that_are_none(mirror, fetch, monkeypatch):
    monkeypatch.setenv("HGRAPH_MIRROR", mirror)
    with pytest.raises(HgraphError, match="HGRAPH_MIRROR"):
        fetch()


WRONG = {
    "size": ["3", 1.5, None, True, float("nan"), -1],
    "sha256": [3, None, b"0" * 64, "0" * 63, "G" * 64],
    "path": [3, None, "", "..", "a/../b", "a\0", "x" * 300, "a\\b", "C:x"],
    "set_name": [None, 3, "../s"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_rows_of_a_registry_of_wrong_types(name, value, fetch, tmp_path):
    with pytest.raises(HgraphError, match=f"^{name}: expected"):
        fetch(**{name: value})
    assert not list(tmp_path.iterdir())


LOCKS = {
    "empty": "", "open": "{", "a list": "[]", "a number": "3", "a number as hash": '{"sha256": 3}',
    "no hash": '{"sha256": null}', "a short hash": '{"sha256": "x"}', "another key": '{"other": 1}',
    "deep": "[" * 99_999,
    "a list as hash": '{"sha256": ["a"]}', "a text as size": f'{{"sha256": "{"0" * 64}", "size": "3"}}',
    "binary": "\0\1",
}  # fmt: skip


@pytest.mark.parametrize("kind", LOCKS)
def test_lock_files_that_are_not_ours(kind, tmp_path):
    file, lock = tmp_path / "s" / "p", tmp_path / "s" / "p.lock.json"
    file.parent.mkdir()
    file.write_text("abc")
    lock.write_text(LOCKS[kind], encoding="utf-8")
    with pytest.raises(HgraphError, match=r"p\.lock\.json: .*expected .*, got .*Delete it"):
        download.fetch_unlisted("s", "p", "http://localhost:1/x", max_bytes=9, root=tmp_path)
    assert (file.read_text(), lock.read_text(encoding="utf-8")) == ("abc", LOCKS[kind])


def test_a_lock_file_that_is_a_link(tmp_path):
    file, lock, other = tmp_path / "s" / "p", tmp_path / "s" / "p.lock.json", tmp_path / "other"
    file.parent.mkdir()
    file.write_text("abc")
    other.write_text("mine")
    lock.symlink_to(other)
    with pytest.raises(HgraphError, match="got a link"):
        download.fetch_unlisted("s", "p", "http://localhost:1/x", max_bytes=9, root=tmp_path)
    assert other.read_text() == "mine"
