"""Tables that are wide, repetitive or unfold to more than there is."""

from __future__ import annotations

import pytest

from hgraph.datasets import read_table
from hgraph.errors import ArgumentError, DataError


def test_many_columns_are_checked_in_one_pass(tmp_path):
    names = [f"c{i}" for i in range(40_000)]  # one pass each over the names before took 7 s
    path = tmp_path / "wide.csv"
    path.write_text(",".join(names) + "\n" + ",".join("1" * len(names)) + "\n", encoding="utf-8")
    assert len(read_table(path).columns) == 40_000
    path.write_text(",".join([*names, "c0"]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="unique column names, got 'c0' twice"):
        read_table(path)


def test_a_compressed_column_that_unfolds_is_refused_first(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install hgraph[io]")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "folded.parquet"
    parquet.write_table(pa.table({"a": pa.array(["x" * 100] * 100_000).dictionary_encode()}), path)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("hgraph.memory._SMALL", 0)
    monkeypatch.setenv("HGRAPH_MAX_BYTES", "1e5")
    with pytest.raises(ArgumentError, match="100,000 rows of 1 columns"):
        read_table(path)
