"""Malicious files for every reader: refused with their name, nothing written, nothing executed.

Pickles are tested in `test_unpickle`, downloads in `test_download`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hgraph
import hgraph.datasets as datasets
from hgraph.convert import read_hif
from hgraph.datasets import download, from_tables, rawfiles
from hgraph.datasets.rawfiles import Files
from hgraph.errors import HgraphError

GOOD = b"0,1\n1,2\n"


class Executes:
    """Unpickling this would write a file that the tests look for."""

    def __reduce__(self):
        return (open, ("executed", "w"))


# ---------------------------------------------------------------------- makers


def archive(*members, method=zipfile.ZIP_STORED, mangle=lambda b: b):
    """A zip archive of (name, content) members; a name may be a ZipInfo."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members with the same name are intended
        for name, data in members:
            out.writestr(name, data)
    return mangle(content.getvalue())


def link(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info, target


def npy(shape="(2,)", descr="'<f8'", body=b"\0" * 16, magic=b"\x93NUMPY\x01\x00", head=None):
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode() if head is None else head
    head += b" " * (64 - (10 + len(head) + 1) % 64) + b"\n"
    return magic + struct.pack("<H", len(head)) + head + body


def npz(**arrays):
    return archive(*((f"{name}.npy", content) for name, content in arrays.items()))


def saved(thing):
    content = io.BytesIO()
    torch.save(thing, content)
    return content.getvalue()


def tensors(header, body=b"\0" * 16, length=None):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + body


def hif(**document):
    return json.dumps(document).encode()


ROWS = [{"node": 0, "edge": 0}]
F64 = {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}
GZ = gzip.compress(GOOD)

ARCHIVES = {
    "empty file": b"",
    "no archive": b"PK but not really",
    "no members": archive(),
    "no raw folder": archive(("a/b.csv", GOOD)),
    "two raw folders": archive(("a/raw/e.csv.gz", GZ), ("b/raw/e.csv.gz", GZ)),
    "one name twice": archive(("a/raw/e.csv.gz", GZ), ("a/raw/e.csv.gz", GZ)),
    "cut in half": archive(("a/raw/e.csv.gz", GZ), mangle=lambda b: b[: len(b) // 2]),
    "no directory at the end": archive(("a/raw/e.csv.gz", GZ), mangle=lambda b: b[:-22]),
    "a directory beyond the file": archive(
        ("a/raw/e.csv.gz", GZ), mangle=lambda b: b[:-6] + struct.pack("<I", 10**9) + b[-2:]
    ),
    "member not there": archive(("a/raw/other.csv.gz", GZ)),
    "climbs out": archive(("../../raw/e.csv.gz", GZ), ("a/raw/f", b"")),
    "absolute": archive(("/etc/raw/e.csv.gz", GZ), ("a/raw/f", b"")),
    "a link to a secret": archive(link("a/raw/e.csv.gz", "/etc/passwd")),
    "not gzip": archive(("a/raw/e.csv.gz", GOOD)),
    "cut gzip": archive(("a/raw/e.csv.gz", GZ[:-9])),
    "gzip of a wrong checksum": archive(("a/raw/e.csv.gz", GZ[:-8] + b"\0\0\0\0" + GZ[-4:])),
    "gzip of a wrong length": archive(("a/raw/e.csv.gz", GZ[:-4] + b"\xff\0\0\0")),
    "gzip of another method": archive(("a/raw/e.csv.gz", GZ[:2] + b"\x07" + GZ[3:])),
    "a flipped bit": archive(("a/raw/e.csv.gz", GZ), mangle=lambda b: b.replace(GZ, GZ[:12] + b"\xff" + GZ[13:])),
    "encrypted": archive(
        ("a/raw/e.csv.gz", GZ), mangle=lambda b: b.replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\1").replace(
            b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1")
    ),
    "an unknown method": archive(
        ("a/raw/e.csv.gz", GZ), mangle=lambda b: b.replace(
            b"PK\x01\x02\x14\x03\x14\0\0\0\0\0", b"PK\x01\x02\x14\x03\x14\0\0\0\x63\0")
    ),
    "text for numbers": archive(("a/raw/e.csv.gz", gzip.compress(b"a,b\n"))),
    "rows of different lengths": archive(("a/raw/e.csv.gz", gzip.compress(b"1,2\n3\n"))),
    "too many columns": archive(("a/raw/e.csv.gz", gzip.compress(b"1,2,3\n"))),
    "a number beyond 64 bits": archive(("a/raw/e.csv.gz", gzip.compress(b"1,99999999999999999999\n"))),
    "zero bytes": archive(("a/raw/e.csv.gz", gzip.compress(b"1,2\0\n"))),
}  # fmt: skip

ARRAYS = {
    "no archive": b"no",
    "an object array": npz(x=npy("(1,)", "'|O'", pickle.dumps([Executes()]))),
    "a pickle for an array": archive(("x.npy", pickle.dumps(Executes()))),
    "a terabyte of zeros": npz(x=npy("(100000000000,)")),
    "a shape of many dimensions": npz(x=npy(str((10**6,) * 9))),
    "a negative shape": npz(x=npy("(-2,)")),
    "two negative shapes": npz(x=npy("(-2, -1)")),
    "fewer bytes than the shape": npz(x=npy("(3,)")),
    "more bytes than the shape": npz(x=npy("(1,)")),
    "text": npz(x=npy("(2,)", "'<U2'")),
    "records": npz(x=npy("(2,)", "[('a', '<f8')]")),
    "complex numbers": npz(x=npy("(1,)", "'<c16'")),
    "an unknown kind": npz(x=npy("(2,)", "'<q9'")),
    "another format": npz(x=npy(magic=b"\x93NUMPY\x09\x00")),
    "another magic": npz(x=npy(magic=b"\x92NUMPY\x01\x00")),
    "a header that is code": npz(x=npy(head=b"__import__('os').system('touch executed')")),
    "a header that is not a dict": npz(x=npy(head=b"[1, 2]")),
    "a deep header": npz(x=npy(head=b"(" * 3000)),
    "a cut header": npz(x=npy()[:30]),
    "an empty member": npz(x=b""),
}

SAVED = {
    "code": saved({"edge": Executes()}),
    "a bare pickle": pickle.dumps({"edge": Executes()}),
    "a list": saved([torch.ones(2)]),
    "a number": saved({"edge": 1}),
    "a module": saved({"edge": torch.nn.Linear(1, 1)}),
    "empty": b"",
    "cut": saved({"edge": torch.ones(100)})[:-200],
    "another archive": archive(("x/data.pkl", b"not a pickle")),
    "two pickles": archive(("x/data.pkl", b"N."), ("y/data.pkl", b"N.")),
}

STRUCTURES = {
    "empty": b"",
    "a length beyond the file": tensors({"x": F64}, length=2**40),
    "a negative length": tensors({"x": F64}, length=2**64 - 1),
    "no JSON": tensors(b"{'x': 1}"),
    "offsets beyond the file": tensors({"x": F64 | {"data_offsets": [0, 10**9], "shape": [125_000_000]}}),
    "offsets that overlap": tensors({"x": F64, "y": F64}),
    "a shape that does not fit its bytes": tensors({"x": F64 | {"shape": [10**6]}}),
    "an unknown dtype": tensors({"x": F64 | {"dtype": "O8"}}),
    "tensors of an unknown structure": tensors({"x": F64}),
    "an unknown class": tensors({"__metadata__": {"hgraph": '{"class": "os.system"}'}, "x": F64}),
    "deep JSON": tensors(b"[" * 100_000),
    "a pickle": pickle.dumps(Executes()),
}

HIFS = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "no incidences": hif(nodes=[]),
    "incidences of another kind": hif(incidences={"node": 0}),
    "an incidence without an edge": hif(incidences=[{"node": 0}]),
    "a node that is a list": hif(incidences=[{"node": [0], "edge": 0}]),
    "one key twice": b'{"incidences": [], "incidences": [{"node": 0, "edge": 0}]}',
    "NaN for a weight": b'{"incidences": [{"node": 0, "edge": 0, "weight": NaN}]}',
    "infinity": b'{"incidences": [{"node": 0, "edge": 0, "weight": 1e999}]}',
    "deep": b'{"incidences": ' + b"[" * 100_000,
    "not UTF-8": b'{"incidences": [{"node": "\xff", "edge": 0}]}',
    "a foreign field": hif(incidences=ROWS, code="rm"),
    "an unknown network type": hif(incidences=ROWS, **{"network-type": "os"}),
}


def read_archive(path):
    return rawfiles.integers(Files(path), "raw/e.csv.gz", 2)


def read_arrays(path):
    path.with_name("in.zip").write_bytes(archive(("a/raw/x.npz", path.read_bytes())))
    return rawfiles.arrays(Files(path.with_name("in.zip")), "raw/x.npz")


def read_saved(path):
    path.with_name("in.zip").write_bytes(archive(("a/raw/x.pt", path.read_bytes())))
    return rawfiles.torch_saved(Files(path.with_name("in.zip")), "raw/x.pt")


READERS = {
    read_archive: ("hostile.zip", ARCHIVES),
    read_arrays: ("hostile.npz", ARRAYS),
    read_saved: ("hostile.pt", SAVED),
    hgraph.load: ("hostile.safetensors", STRUCTURES),
    read_hif: ("hostile.json", HIFS),
}
CASES = [
    pytest.param(reader, file, content, id=f"{file.split('.')[1]}: {name}")
    for reader, (file, contents) in READERS.items()
    for name, content in contents.items()
]


def test_there_are_at_least_sixty():
    assert len(CASES) >= 60


@pytest.mark.parametrize(("reader", "file", "content"), CASES)
def test_refused_with_the_file_name_and_no_side_effects(reader, file, content, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    path = tmp_path / file
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(HgraphError) as refused:
            reader(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file in str(refused.value) or "in.zip" in str(refused.value)
    assert peak < 64 * 2**20
    assert {p.name for p in tmp_path.rglob("*")} <= {"work", file, "in.zip"}


def test_the_valid_files_behind_the_cases_are_read(tmp_path):
    """Otherwise all cases could be refused for the same reason."""

    def at(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    assert read_archive(at("a.zip", archive(("a/raw/e.csv.gz", GZ)))).tolist() == [[0, 1], [1, 2]]
    assert read_arrays(at("a.npz", npz(x=npy())))["x"].tolist() == [0.0, 0.0]
    assert read_saved(at("a.pt", saved({"edge": torch.ones(2)})))["edge"].tolist() == [1.0, 1.0]
    assert read_hif(at("a.json", hif(incidences=ROWS))).structure.num_incidences == 1


class Flagged:
    """Pickled as an array of numbers with an object dtype: NumPy would treat the numbers as addresses."""

    class DType:
        def __reduce__(self):
            return np.dtype, ("i8", False, True), (3, "<", None, None, None, -1, -1, 63)

    def __reduce__(self):
        head = np.ones(1).__reduce__()[:2]  # the function that creates an array, under its name in this NumPy
        return (*head, (1, (2,), self.DType(), False, np.array([1, 2]).tobytes()))


def test_a_forged_dtype_state_never_reaches_numpy(tmp_path):
    (tmp_path / "flagged.pt").write_bytes(saved({"edge": Flagged()}))
    found = read_saved(tmp_path / "flagged.pt")["edge"]
    assert (found.dtype, found.tolist()) == (torch.int64, [1, 2])


# ---------------------------------------------------------------------- random bytes


def structure_file():
    """The bytes of a saved structure."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        hgraph.Hypergraph.from_lists([[0, 1], [1, 2]], num_nodes=4).save(Path(folder) / "s.safetensors")
        return (Path(folder) / "s.safetensors").read_bytes()


SEEDS = {
    read_arrays: npz(x=npy(), y=npy("(2, 1)")),
    read_archive: archive(("a/raw/e.csv.gz", GZ)),
    hgraph.load: structure_file(),
    read_hif: hif(incidences=[{"node": "a", "edge": 1, "weight": 2.0, "attrs": {"k": 1}}], nodes=[{"node": "a"}]),
}


@pytest.mark.parametrize("reader", SEEDS, ids=lambda r: r.__name__)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_give_data_or_an_hgraph_error(reader, data, tmp_path_factory):
    """Replaces, deletes and inserts bytes at random positions of a valid file."""
    content = bytearray(SEEDS[reader])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        cut = data.draw(st.integers(0, 12))
        content[at : at + cut] = data.draw(st.binary(max_size=12))
    path = tmp_path_factory.mktemp("fuzz") / "fuzzed.bin"
    path.write_bytes(bytes(content))
    with contextlib.suppress(HgraphError):
        reader(path)


@pytest.mark.parametrize(
    "name", ["uci-zoo", "mutag", "cornell", "email-enron", "senate-committees", "coauthorship-cora"]
)
def test_loaders_report_other_content_as_a_data_error(name, mirror, tmp_path, monkeypatch):
    """With hashes unchecked, as if the hash table were wrong."""
    monkeypatch.setattr(download, "_is_verified", lambda path, sha256, size: path.is_file())
    files = {file: (Path(mirror) / file).read_bytes() for file in datasets.info(name).files}
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    draw = random.Random(0)
    for file, content in list(files.items())[:4]:
        for _ in range(8 if len(content) < 100_000 else 2):
            plain = gzip.decompress(content) if file.endswith(".gz") else content
            at = draw.randrange(min(len(plain), 2000))
            junk = draw.choice([b"", b"x", b"-1", b"9" * 20, b"\n", b"\xff", b"\0"])
            plain = plain[:at] + junk + plain[at + draw.randrange(4) :]
            (tmp_path / file).write_bytes(gzip.compress(plain, 1) if file.endswith(".gz") else plain)
            with contextlib.suppress(HgraphError):
                datasets.load(name, tmp_path)
        (tmp_path / file).write_bytes(content)


CELL = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ["1", "-2.5", "nan", "inf", "1e999", '"', ""]
)


@settings(max_examples=100, deadline=None)
@given(nodes=st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=6), tail=st.binary(max_size=20))
def test_tables_give_a_data_set_or_an_hgraph_error(nodes, tail, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    text = "\n".join(["id,y,z", *(",".join(row) for row in nodes)])
    (folder / "nodes.csv").write_bytes(text.encode() + tail)
    (folder / "edges.csv").write_text("source,target\n1,2\n")
    try:
        built = from_tables(folder / "nodes.csv", edges=folder / "edges.csv", label="y")
    except HgraphError:
        return
    assert torch.isfinite(built[0].x).all()
    assert np.isfinite(built[0].y.double()).all() or built[0].y.is_floating_point()
