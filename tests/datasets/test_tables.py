"""Tables: read from files and memory, errors with their position, columns encoded without leaks."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph.datasets.tables import Encoder, from_tables, kinds, read_table, text_rows
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError, MissingPackageError


def written(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def cells(table):
    return {name: column.cells() for name, column in table.columns.items()}


# ---------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("id,age\na,1\nb,\n", "t.csv"),
        ("\ufeffid,age\r\na,1\r\nb,\r\n", "t.csv"),
        ("id,age\ra,1\rb,\r", "t.csv"),
        ("id\tage\na\t1\nb\t\n", "t.tsv"),
        ("id;age\n\na;1\n\n\nb;\n\n", "t.csv"),
        ("id|age\na|1\nb|", "t.txt"),
        (' id ,age\n"a",1\n  b , \n', "t.csv"),
        ('"i""d",age\na,1\nb,\n', "quoted.csv"),
    ],
)
def test_variants_of_csv(tmp_path, text, name):
    first = 'i"d' if name == "quoted.csv" else "id"
    assert cells(read_table(written(tmp_path, text, name))) == {first: ["a", "b"], "age": ["1", ""]}


def test_names_and_delimiter_for_files_without_a_header(tmp_path):
    table = read_table(written(tmp_path, "a b\nb c\n", "edges.txt"), names=["source", "target"], delimiter=" ")
    assert cells(table) == {"source": ["a", "b"], "target": ["b", "c"]}
    table = read_table(written(tmp_path, "a,b\nb,c\n"), names=["source", "target"])
    assert cells(table) == {"source": ["a", "b"], "target": ["b", "c"]}
    assert table.where(1, "target").endswith("t.csv:2: column 'target'")


def test_fast_and_full_parsing_agree_with_a_late_quote(tmp_path, monkeypatch):
    monkeypatch.setattr(text_rows, "_CHARACTERS", 50)
    monkeypatch.setattr(text_rows, "_ROWS", 3)
    rows = [[str(i), f"text {i}"] for i in range(40)]
    rows[25][1] = 'with, "quotes"\nand a second line'
    rows[39][1] = ""
    stream = io.StringIO()
    csv.writer(stream).writerows([["id", "words"], *rows])
    table = read_table(written(tmp_path, stream.getvalue()))
    assert cells(table) == {"id": [r[0] for r in rows], "words": [r[1] for r in rows]}
    lines = [int(table.where(i, "id").split(":")[-2]) for i in (0, 25, 26, 39)]
    assert lines == [2, 27, 29, 42]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)] * 3)),
    st.integers(1, 40),
)
def test_files_of_the_csv_module_are_read(tmp_path_factory, rows, characters):
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_MINIMAL).writerows([["a", "b", "c"], *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(stream.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_rows, "_CHARACTERS", characters)
        table = read_table(path)
    assert table.num_rows == len(rows)
    assert list(zip(*(c.cells() for c in table.columns.values()), strict=True)) == [
        tuple(cell.strip(" ") for cell in row) for row in rows
    ]


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text('ab,;"\n\r\t\0\ufeff 1é', max_size=60).map(str.encode)))
def test_random_files_are_read_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "t.csv"
    path.write_bytes(content)
    try:
        table = read_table(path)
    except DataError:
        with pytest.raises(DataError, match="^" + re.escape(str(path))):
            read_table(path)
        return
    assert {len(c.cells()) for c in table.columns.values()} == {table.num_rows}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", ":1", "an empty file"),
        ("\n\na,b\n", ":1", "an empty line"),
        ("a,b\n1,2\n3\n", ":3", r"expected 2 field\(s\), one per column, got 1"),
        ('a,b\n1,2\n\n"x\ny",2\n1,2,3\n', ":6", "got 3"),
        ("a\n1\n2,3\n", ":3", r"expected 1 field\(s\)"),
        ("a,b\n1,2,3\n4\n", ":2", "got 3"),
        ("a,a\n1,2\n", ":1", "'a' twice"),
        ("a,\n1,2\n", ":1", "a name for column 2"),
        ('a,b\n1,2\n"3,4\n', ":3", "not CSV"),
        ('a,b\n1,2\n"3"x,4\n', ":3", "a quote that is not closed"),
        ('a,b\n"1""",2\n"3,4\n5,6\n7,8\n', ":3", "not CSV"),  # the quote opens here, and the file ends later
        ('a,b\n"1\n2",2\n3,"4\n5,"6"\n7,8\n', ":4", "not CSV"),  # a quote of the next row closes it
        ("a,b\n1,2\n3,x\0y\n", ":3: column 'b'", "a zero byte"),
        (b"a,b\n1,2\n\xff\xfe,2\n", ":3", "not UTF-8"),
        ("a,b\n1,2\n3,".encode("utf-16"), ":1", "not UTF-8"),
        ("a,b\n1,2\n3," + "x" * 200_000 + "\n", ":3", "field larger than field limit"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path, text, place, message):
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}{place}: ")


def test_missing_files_and_wrong_arguments(tmp_path):
    for name in ("no.csv", "no.parquet"):
        with pytest.raises((DataError, MissingPackageError), match="no such file|pyarrow"):
            read_table(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path)
    with pytest.raises(ArgumentError, match="delimiter"):
        read_table(tmp_path / "no.csv", delimiter=", ")
    with pytest.raises(ArgumentTypeError, match="CSV or Parquet, a dict"):
        read_table(7)


def test_tables_in_memory():
    day = np.array(["2024-05-31", "NaT", "1999-01-01"], "datetime64[ns]")
    table = read_table(
        {"n": np.array([1, 2, 3]), "x": [0.1, None, float("nan")], "b": torch.tensor([True, False, True]), "t": day}
        | {"m": [["a", "b"], (), {"z", "y"}], "d": [datetime.date(2020, 2, 3), "q", " r "]}
    )
    assert cells(table) == {
        "n": ["1", "2", "3"],
        "x": ["0.1", "", ""],
        "b": ["true", "false", "true"],
        "t": ["2024-05-31T00:00:00", "", "1999-01-01T00:00:00"],
        "m": ["a\x1fb", "", "y\x1fz"],
        "d": ["2020-02-03", "q", "r"],
    }
    assert table["m"].listed
    assert not table["d"].listed
    assert read_table(table) is table
    assert table.where(2, "n") == "table, row 2 (from 0): column 'n'"
    with pytest.raises(ArgumentError, match="columns of equal length"):
        read_table({"a": [1], "b": [1, 2]}, name="nodes")
    with pytest.raises(DataError, match="nodes, row 1 .from 0.: column 'a': .* zero character"):
        read_table({"a": ["x", "y\0z"]}, name="nodes")
    with pytest.raises(ArgumentTypeError, match="a sequence"):
        read_table({"a": "text"})


def test_parquet_pandas_and_arrow(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    arrow = pa.table(
        {
            "id": pa.array(["a", "b", "c"]).dictionary_encode(),
            "x": pa.array([1.5, None, float("nan")]),
            "n": pa.array([7, 8, None]),
            "b": pa.array([True, None, False]),
            "t": pa.array([datetime.datetime(2024, 5, 31), None, None]),
            "m": pa.array([["p", "q"], [], None]),
        }
    )
    pq.write_table(arrow, tmp_path / "t.parquet")
    expected = {
        "id": ["a", "b", "c"],
        "x": ["1.5", "", ""],
        "n": ["7", "8", ""],
        "b": ["true", "", "false"],
        "t": ["2024-05-31T00:00:00", "", ""],
        "m": ["p\x1fq", "", ""],
    }
    assert cells(read_table(tmp_path / "t.parquet")) == expected == cells(read_table(arrow))
    assert read_table(arrow)["m"].listed
    whole = (tmp_path / "t.parquet").read_bytes()
    for content in (b"", b"PAR1", whole[: len(whole) // 2], b"PAR1" + b"\0" * 99 + b"PAR1"):
        (tmp_path / "bad.parquet").write_bytes(content)
        with pytest.raises(DataError, match="damaged Parquet file"):
            read_table(tmp_path / "bad.parquet")


def test_pandas():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"id": [1, 2], "when": pd.to_datetime(["2020-01-02", None]), "c": pd.Categorical(["u", None])})
    assert cells(read_table(frame)) == {"id": ["1", "2"], "when": ["2020-01-02T00:00:00", ""], "c": ["u", ""]}


# ---------------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["", "NA", "?"], "ignore"),
        (["yes", "No", ""], "boolean"),
        (["0", "1", "1"], "boolean"),
        (["true", "0"], "categorical"),
        (["1", "-2.5e3", "nan"], "numeric"),
        (["1_000", "2_000"], "categorical"),
        (["2024-05-31", "2024-05-31T12:00:00Z", "2024-05-31 12:00+02:00"], "date"),
        (["2024-05-31", "2024-13-31"], "categorical"),
        (["red", "blue"] * 4, "categorical"),
        ([f"word{i} word{i + 1}" for i in range(50)], "text"),
        ([f"c{i % 30}" for i in range(60)], "categorical"),
    ],
)
def test_kinds_are_inferred(values, kind):
    assert kinds.infer(read_table({"c": values})["c"]) == kind


def test_dates_count_days_in_utc():
    days = kinds.dates(["1970-01-02", "1970-01-01T12:00:00Z", "1970-01-01T00:00:00.5+06:00", "1970-01-01 06:00"])
    assert days.tolist() == [1.0, 0.5, (0.5 - 6 * 3600) / 86400, 0.25]


# ---------------------------------------------------------------------- the encoder

MIXED = {
    "n": ["1", "3", "", "11", "1e300"],
    "flag": ["yes", "no", "yes", "", "no"],
    "kind": ["red", "blue", "red", "green", ""],
    "said": ["the cat sat", "the cat ran", "a dog ran", "the bird", ""],
    "when": ["2024-01-01", "2024-01-03", "2024-01-05", "2030-01-01", ""],
}
KINDS = {"n": "numeric", "flag": "boolean", "kind": "categorical", "said": "text", "when": "date"}


def test_features_match_the_formulas():
    encoder = Encoder.fit(MIXED, KINDS, rows=[0, 1, 2])
    x = encoder.transform(MIXED).double()
    names = list(encoder.feature_names)
    assert x.dtype is torch.float64
    assert names == [
        "n", "n (missing)", "flag", "kind=blue", "kind=red", "said=cat", "said=ran", "said=the",
        "when (time)", "when (sin year)", "when (cos year)", "when (sin week)", "when (cos week)",
    ]  # fmt: skip
    column = dict(zip(names, x.T, strict=True))
    assert column["n"].tolist() == [-1, 1, 0, 9, 1e6]  # mean 2, deviation 1 of the training rows; clipped
    assert column["n (missing)"].tolist() == [0, 0, 1, 0, 0]
    assert column["flag"].tolist() == [1, 0, 1, 0, 0]
    assert column["kind=red"].tolist() == [1, 0, 1, 0, 0]
    assert x[3, 3:5].tolist() == x[4, 3:5].tolist() == [0, 0]  # unseen, missing
    # words of at least two training rows, all equally rare: log((1 + 3) / (1 + 2)) + 1
    torch.testing.assert_close(x[:4, 5:8], torch.tensor([[1, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 1]]).double()
                               / torch.tensor([2, 3, 1, 1]).sqrt()[:, None], rtol=1e-6, atol=1e-6)  # fmt: skip
    days = np.array([0, 2, 4, 2192]) + 19723
    torch.testing.assert_close(
        column["when (time)"][:4], torch.tensor((days - 19725) / np.sqrt(8 / 3)), rtol=1e-5, atol=1e-9
    )
    torch.testing.assert_close(
        column["when (sin week)"][:4], torch.tensor(np.sin(2 * np.pi * days / 7)), rtol=0, atol=1e-6
    )
    assert x[4, 8:].tolist() == [0] * 5


def test_only_training_rows_are_used_for_fitting():
    other = {name: [*values[:3], *reversed(values[3:])] for name, values in MIXED.items()}
    other["n"] = ["1", "3", "", "5", "6"]
    a, b = Encoder.fit(MIXED, KINDS, rows=[0, 1, 2]), Encoder.fit(other, KINDS, rows=[2, 1, 0])
    assert a.codings == b.codings
    assert Encoder.fit(MIXED, KINDS).codings != a.codings


def test_a_saved_encoder_gives_the_same_features(tmp_path):
    encoder = Encoder.fit(MIXED, KINDS, rows=[0, 1, 2])
    encoder.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"encoder.json", "encoder.safetensors"}
    again = Encoder.load(tmp_path)
    assert again.codings == encoder.codings
    assert again.missing == encoder.missing
    assert torch.equal(again.transform(MIXED), encoder.transform(MIXED))
    new = {name: list(reversed(values)) for name, values in MIXED.items()} | {"other": range(5)}
    assert torch.equal(again.transform(new), encoder.transform(MIXED).flip(0))


def test_chunk_size_does_not_change_the_result(monkeypatch, tmp_path):
    rows = [dict(zip(MIXED, values, strict=True)) for values in zip(*MIXED.values(), strict=True)] * 7
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(MIXED))
    writer.writeheader()
    writer.writerows(rows)
    path = written(tmp_path, stream.getvalue())
    whole = Encoder.fit(path, KINDS, rows=range(9)).transform(path)
    monkeypatch.setattr(text_rows, "_CHARACTERS", 100)
    assert torch.equal(Encoder.fit(path, KINDS, rows=range(9)).transform(path), whole)
    assert len(read_table(path)["n"].chunks) > 5


@pytest.mark.parametrize(
    ("column", "kind", "cell", "expected"),
    [
        ("n", "numeric", "tall", "a finite number"),
        ("n", "numeric", "inf", "a finite number"),
        ("n", "boolean", "maybe", "true or false"),
        ("n", "date", "31.5.2024", "a date such as"),
    ],
)
def test_a_cell_of_another_kind_is_refused_with_its_position(tmp_path, column, kind, cell, expected):
    path = written(tmp_path, f"id,n\na,1\n\nb,\nc,{cell}\n")
    with pytest.raises(DataError, match=expected) as caught:
        Encoder.fit(path, {column: kind})
    assert str(caught.value).startswith(f"{path}:{5 if kind != 'date' else 2}: column 'n': ")
    assert (repr(cell) if kind != "date" else "'1'") in str(caught.value)


def test_new_rows_without_a_column_are_refused(tmp_path):
    encoder = Encoder.fit(MIXED, KINDS)
    with pytest.raises(DataError, match="a column 'kind'"):
        encoder.transform({"n": ["1"], "flag": ["yes"]})


def damaged(head, numbers):
    """Ways to damage a saved encoder."""
    yield "no JSON", b"{", None
    yield "deep", b"[" * 100_000, None
    yield "not an object", b"[]", None
    yield "another version", json.dumps(head | {"version": 9}).encode(), None
    yield "no columns", json.dumps({k: v for k, v in head.items() if k != "columns"}).encode(), None
    for change in (
        {"kind": "pickle"},
        {"kind": 3},
        {"words": "abc"},
        {"words": ["a", "a"]},
        {"missing": "yes"},
        {"name": None},
    ):
        columns = [head["columns"][0] | change, *head["columns"][1:]]
        yield str(change), json.dumps(head | {"columns": columns}).encode(), None
    yield "numbers cut", None, numbers[:-9]
    yield "numbers gone", None, b""
    yield "more columns than numbers", json.dumps(head | {"columns": head["columns"] * 2}).encode(), None


def test_a_damaged_encoder_is_refused(tmp_path):
    encoder = Encoder.fit(MIXED, KINDS)
    encoder.save(tmp_path)
    head, numbers = (tmp_path / "encoder.json").read_bytes(), (tmp_path / "encoder.safetensors").read_bytes()
    count = 0
    for what, json_bytes, tensor_bytes in damaged(json.loads(head), numbers):
        (tmp_path / "encoder.json").write_bytes(head if json_bytes is None else json_bytes)
        (tmp_path / "encoder.safetensors").write_bytes(numbers if tensor_bytes is None else tensor_bytes)
        with pytest.raises(DataError):
            Encoder.load(tmp_path)
            pytest.fail(what)
        count += 1
    assert count >= 12


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["", "a b", "1", "-3.5", "1e308", "-1e308", "inf", "yes", "no", "2024-05-31"]), max_size=8
    ),
    st.sampled_from(["numeric", "boolean", "categorical", "text", "date"]),
)
def test_features_are_finite_or_the_cell_is_refused(values, kind):
    try:
        x = Encoder.fit({"c": values}, {"c": kind}, rows=range(len(values) // 2)).transform({"c": values})
    except DataError:
        with pytest.raises(DataError, match="column 'c': expected"):
            Encoder.fit({"c": values}, {"c": kind})
        return
    assert x.shape[0] == len(values)
    assert bool(x.isfinite().all())


COMMENTED = {
    "before a header": ("# made 2024\n% by hand\na,b\n1,2\n", None, ["a", "b"], ["1"], 4),
    "a header in a comment": ("# Nodes: 2 Edges: 1\n# a\tb\n1\t2\n", None, ["a", "b"], ["1"], 3),
    "without a header": ("# Nodes: 2\n# x,y\n1,2\n3,4\n", ["a", "b"], ["a", "b"], ["1", "3"], 3),
    "no comment": ("#a,b\n1,2\n", None, ["a", "b"], ["1"], 2),
}


@pytest.mark.checked(
    "triples", "Comment lines (#, %) before a table are skipped with a note; they never become rows or edges."
)
@pytest.mark.parametrize(("text", "names", "header", "first", "line"), COMMENTED.values(), ids=COMMENTED)
def test_comments_before_a_table_are_skipped(tmp_path, text, names, header, first, line, caplog):
    table = read_table(written(tmp_path, text), names=names)
    assert list(table.columns) == header
    assert table["a"].cells() == first
    assert table.place(0).endswith(f":{line}")
    assert bool(caplog.text) == (text[1] == " ")
    with pytest.raises(DataError, match=rf"t.csv:{line + len(first)}: expected 2 field"):
        read_table(written(tmp_path, text + "9\n"), names=names)


@pytest.mark.checked("triples", "A comment line among the rows of an edge list is an error.")
def test_comments_among_edges_are_refused(tmp_path):
    path = written(tmp_path, "source,target\na,b\n# c,d\n")
    with pytest.raises(DataError, match="the id of a node, got the comment '# c'"):
        from_tables(None, edges=path)
