"""Cells of every type that a data frame can hold: sequences, missing values, and types that are refused."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import uuid

import numpy as np
import pytest

from hgraph.datasets.tables import from_tables, read_table
from hgraph.datasets.tables.cells import canonical
from hgraph.errors import DataError


def made_by(package, call):
    """A value of an optional package, created when the test runs."""
    return lambda: call(pytest.importorskip(package))


SEQUENCES = {
    "list": lambda: ["a", "b"],
    "tuple": lambda: ("a", "b"),
    "set": lambda: {"b", "a"},
    "frozenset": lambda: frozenset("ab"),
    "dict keys": lambda: {"a": 1, "b": 2}.keys(),
    "dict values": lambda: {1: "a", 2: "b"}.values(),
    "deque": lambda: collections.deque("ab"),
    "numpy": lambda: np.array(["a", "b"]),
    "numpy objects": lambda: np.array(["a", "b"], dtype=object),
    "pandas Series": made_by("pandas", lambda pd: pd.Series(["a", "b"])),
    "pandas Index": made_by("pandas", lambda pd: pd.Index(["a", "b"])),
    "pandas array": made_by("pandas", lambda pd: pd.array(["a", "b"])),
    "pandas Categorical": made_by("pandas", lambda pd: pd.Categorical(["a", "b"])),
    "pyarrow scalar": made_by("pyarrow", lambda pa: pa.scalar(["a", "b"])),
    "pyarrow array": made_by("pyarrow", lambda pa: pa.array(["a", "b"])),
}


@pytest.mark.checked(
    "cells", "A list, set, array, Series or Arrow list in a cell is read as a sequence, never as its printed form."
)
@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
def test_sequences_of_members(make):
    wide = {"members": [make(), ["b", "c"], []]}
    data = from_tables({"id": ["a", "b", "c"]}, wide)[0]
    assert data.structure.to_lists() == [[0, 1], [1, 2], []]


@pytest.mark.checked(
    "cells", "Two thousand members from `groupby().unique()` or a Parquet file become two thousand nodes."
)
def test_members_from_pandas_and_parquet(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = pd.DataFrame({"reader": np.arange(2000) % 8, "book": [f"b{i}" for i in range(2000)]})
    wide = rows.groupby("reader")["book"].unique().reset_index(name="members")
    wide.assign(members=wide["members"].map(list)).to_parquet(tmp_path / "wide.parquet")
    for source in (wide, pd.read_parquet(tmp_path / "wide.parquet"), tmp_path / "wide.parquet"):
        assert from_tables(None, source)[0].num_nodes == 2000


@pytest.mark.parametrize("size", [3, None], ids=["fixed", "list"])
def test_every_list_type_of_arrow(size):
    pa = pytest.importorskip("pyarrow")
    kind = pa.list_(pa.int64(), 2) if size else pa.large_list(pa.int64())
    table = pa.table({"members": pa.array([[1, 2], [2, 3]], type=kind)})
    assert from_tables(None, table)[0].structure.to_lists() == [[0, 1], [1, 2]]


class Color(enum.Enum):
    RED = "red"


MISSING = {
    "None": lambda: None,
    "NaN": lambda: float("nan"),
    "numpy NaN": lambda: np.float32("nan"),
    "numpy NaT": lambda: np.datetime64("NaT"),
    "Decimal NaN": lambda: decimal.Decimal("NaN"),
    "pandas NA": made_by("pandas", lambda pd: pd.NA),
    "pandas NaT": made_by("pandas", lambda pd: pd.NaT),
    "pyarrow null": made_by("pyarrow", lambda pa: pa.scalar(None, pa.string())),
}


@pytest.mark.checked(
    "cells", "None, NaN, and NaT and NA of any library are missing cells in every column, including id columns."
)
@pytest.mark.parametrize("make", MISSING.values(), ids=MISSING)
def test_missing_values_become_empty_cells(make):
    assert read_table({"a": ["x", make()]})["a"].cells() == ["x", ""]
    with pytest.raises(DataError, match="the id of a node, got an empty cell"):
        from_tables({"id": ["x", make()]}, {"members": [["x"]]})


def test_values_become_the_text_of_a_csv_file():
    moment = datetime.datetime(2024, 5, 31, 12)
    values = [np.int8(3), decimal.Decimal("1.5"), Color.RED, moment, np.datetime64("2024-05-31"), np.str_("a"),
              uuid.UUID(int=1), True, np.bool_(False), np.array(4)]  # fmt: skip
    expected = [
        "3",
        "1.5",
        "red",
        "2024-05-31T12:00:00",
        "2024-05-31",
        "a",
        str(uuid.UUID(int=1)),
        "true",
        "false",
        "4",
    ]
    assert read_table({"a": values})["a"].cells() == expected


REFUSED = {
    "bytes": b"a",
    "dict": {"a": 1},
    "object": object(),
    "function": len,
    "nested list": ["a", ["b"]],
    "nested array": np.eye(2),
    "numbers packed in bytes": array.array("b", [1]).tobytes(),
}


@pytest.mark.checked("cells", "A cell of any other type is an error that names its row and column.")
@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_other_values_are_refused_with_their_position(value):
    with pytest.raises(DataError, match=r"t, row 1 \(from 0\): column 'a': expected text, a number, a date or a seq"):
        read_table({"a": [None, value]}, name="t")


def test_text_mixed_with_sequences_is_refused():
    for cells in (["a;b", ["c"]], [["c"], "a;b"]):
        with pytest.raises(DataError, match="row 1 .*sequences in all cells of a column or in none"):
            read_table({"members": cells})


@pytest.mark.checked("cells", "A feature column with lists of numbers is an error; use one column per number instead.")
def test_lists_of_numbers_are_not_features():
    members = {"members": [["a", "b"]]}
    with pytest.raises(DataError, match="one value per cell"):
        from_tables({"id": ["a", "b"], "x": [[1.0, 2.0], [3.0, 4.0]]}, members)
    tags = {"id": ["a", "b"], "x": [["red", "blue"], ["blue", "red"]]}
    data = from_tables(tags, members, types={"x": "text"})[0]
    assert data.meta["feature_names"] == ("x=blue", "x=red")


KEYS = {"1.0": "1", "-2.00": "-2", "1.": "1", "True": "true", "FALSE": "false", "Red": "Red", "1.05": "1.05"}


@pytest.mark.parametrize(("cell", "key"), KEYS.items(), ids=KEYS)
def test_canonical_keys(cell, key):
    assert canonical(cell) == key
