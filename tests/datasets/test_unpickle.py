"""Malicious and valid pickles: nothing in a file is executed, and damaged files are refused."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import struct
import subprocess
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, random_array

from hgraph.datasets import unpickle
from hgraph.errors import DataError

PROTO, STOP = b"\x80\x04", b"."


def text(s: str) -> bytes:
    return b"\x8c" + bytes([len(s)]) + s.encode()


def stack_global(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def number(n: int) -> bytes:
    return b"J" + struct.pack("<i", n) if -(2**31) <= n < 2**31 else b"\x8a\x08" + struct.pack("<q", n)


def raw(b: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(b)) + b


def dtype(code: str = "f8", state: bytes | None = None) -> bytes:
    made = stack_global("numpy", "dtype") + text(code) + b"\x89\x88\x87R"
    return made + (b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" if state is None else state)


def array(shape: bytes, content: bytes, kind: bytes | None = None) -> bytes:
    empty = stack_global("numpy.core.multiarray", "_reconstruct") + stack_global("numpy", "ndarray")
    empty += b"K\x00\x85" + raw(b"b") + b"\x87R"
    return empty + b"(K\x01" + shape + (dtype() if kind is None else kind) + b"\x89" + content + b"tb"


def csr(rows: int, columns: int, data: list[float], indices: list[int], indptr: list[int], kind: str = "i4") -> bytes:
    def part(name: str, values: list, code: str) -> bytes:
        content = np.array(values, code).tobytes()
        return text(name) + array(number(len(values)) + b"\x85", raw(content), dtype(code))

    shape = text("_shape") + number(rows) + number(columns) + b"\x86"
    state = b"}(" + shape + part("data", data, "f4") + part("indices", indices, kind)
    state += part("indptr", indptr, kind) + b"u"
    return PROTO + stack_global("scipy.sparse.csr", "csr_matrix") + b")\x81" + state + b"b" + STOP


class Evil:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.fixture
def sentinel(tmp_path):
    return tmp_path / "touched"


# ---------------------------------------------------------------------- nothing is executed


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_calls_are_refused_by_name_and_not_made(sentinel, protocol):
    attacks = {
        "system": Evil(os.system, f"touch {sentinel}"),
        "mkdir": Evil(os.mkdir, str(sentinel)),
        "eval": Evil(eval, f"open({str(sentinel)!r}, 'w')"),
        "exec": Evil(exec, f"open({str(sentinel)!r}, 'w')"),
        "open": Evil(open, str(sentinel), "w"),
        "getattr": Evil(getattr, "", "format"),
        "Popen": Evil(subprocess.Popen, ["touch", str(sentinel)]),
        "frombuffer": Evil(np.frombuffer, b"12345678"),
    }
    for name, attack in attacks.items():
        content = pickle.dumps([{"x": attack}], protocol=protocol)
        with pytest.raises(DataError, match=f"{name} is not allowed, only arrays"):
            unpickle.loads(content, source="f.pickle")
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "dtype.__class__"),
        ("numpy", "ndarray.tofile"),
        ("collections", "defaultdict.__init__.__globals__"),
        ("builtins", "list.append"),
        ("os", "system"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("hgraph.data.pickles", "Record"),
        ("copyreg", "_reconstructor"),
        ("functools", "partial"),
    ],
)
def test_dotted_and_other_names_are_refused(module, name):
    with pytest.raises(DataError, match="is not allowed, only arrays"):
        unpickle.loads(PROTO + stack_global(module, name) + STOP)


def test_nested_calls_are_not_made(sentinel):
    inner = stack_global("posix", "system") + text(f"touch {sentinel}") + b"\x85R"
    outer = PROTO + stack_global("numpy", "dtype") + inner + b"\x85R" + STOP
    with pytest.raises(DataError, match="posix.system"):
        unpickle.loads(outer)
    assert not sentinel.exists()


# Every allowed name is called, created, given a state and filled with unexpected values.
ARGUMENTS = [b")", b"K\x07\x85", text("O") + b"\x85", text("i4") + b"\x85", b"]\x85", b"}\x85", b"N\x85", b"NNN\x87"]
ARGUMENTS += [number(2**62) + b"\x85", b"(" + b"N" * 9 + b"t"]
STATES = [b"N", b"}", b"]", b"K\x01", b"}" + text("code") + text("O") + b"s", b"N}" + text("x") + b"K\x01s\x86"]
STATES += [b"}" + text("__class__") + b"K\x01s", b"N}" + text("__setstate__") + b"Ns\x86", b"(" + b"N" * 8 + b"t"]
FILLS = [b"K\x01a", b"(K\x01e", b"K\x01K\x02s", b"(K\x01K\x02u", b"(K\x01\x90"]


@pytest.mark.parametrize("named", sorted(unpickle._NAMES))
def test_allowed_names_survive_any_use(named):
    plain = (np.ndarray, np.dtype, csr_matrix, collections.defaultdict, list)
    name = stack_global(*named.rsplit(".", 1))
    made = [name + a + how for a in ARGUMENTS for how in (b"R", b"\x81")]
    contents = [base + then for base in [name, *made] for then in [b"", *FILLS, *(s + b"b" for s in STATES)]]
    for content in contents:
        try:
            result = unpickle.loads(PROTO + content + STOP)
        except DataError:
            continue
        assert isinstance(result, (dict, set, np.ndarray, csr_matrix, int, float)), content
    assert plain == (np.ndarray, np.dtype, csr_matrix, collections.defaultdict, builtins.list)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_give_data_or_an_error(content):
    try:
        unpickle.loads(PROTO + content)
    except DataError:
        return


def _valid() -> bytes:
    return pickle.dumps({"a": np.arange(6.0).reshape(2, 3), "m": csr_matrix(np.eye(3)), "s": {1, 2}}, protocol=4)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 10**6))
def test_changed_and_shortened_files_give_data_or_an_error(at, byte, cut):
    content = bytearray(_valid())
    content[at % len(content)] = byte
    for damaged in (bytes(content), _valid()[: cut % len(content)]):
        try:
            unpickle.loads(damaged)
        except DataError:
            continue


# ---------------------------------------------------------------------- limits of memory and time


def refused_cheaply(content: bytes, match: str) -> None:
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(DataError, match=match):
            unpickle.loads(content)
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        (number(2**40) + b"\x85", "does not fit"),
        (number(2**31 - 1) + number(2**31 - 1) + b"\x86", "does not fit"),
        (number(0) + number(2**62) + b"\x86", "does not fit"),
        (number(-1) + b"\x85", "does not fit"),
        (number(2) + b"\x85", "does not fit"),
        (b"(" + number(1) * 40 + b"t", "does not fit"),
        (b"\x88\x85", "does not fit"),
        (number(1), "does not fit"),
        (b"]", "does not fit"),
    ],
)
def test_shapes_that_do_not_fit_their_bytes(shape, match):
    refused_cheaply(PROTO + array(shape, raw(b"12345678")) + STOP, match)


def test_reconstruct_with_a_giant_shape_allocates_nothing():
    content = PROTO + stack_global("numpy.core.multiarray", "_reconstruct") + stack_global("numpy", "ndarray")
    refused_cheaply(content + number(2**60) + b"\x85" + raw(b"b") + b"\x87R" + STOP, "has no content")


def test_one_memo_entry_cannot_allocate_billions_of_slots():
    tracemalloc.start()
    assert unpickle.loads(b"\x80\x02]r\xff\xff\xff\x7f.") == []
    assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    tracemalloc.stop()


def test_one_list_cannot_become_thousands_of_sets():
    """A list is written once; every set made of it takes five bytes in the file and 600 kB in memory."""
    members = b"](" + b"".join(number(i) for i in range(10_000)) + b"eq\x01"
    again = stack_global("builtins", "set") + b"q\x00h\x01\x85R" + b"h\x00h\x01\x85R" * 20_000
    refused_cheaply(PROTO + members + again + STOP, "the same values over and over")


def test_counts_beyond_the_file():
    refused_cheaply(PROTO + b"B\xff\xff\xff\x7fab" + STOP, "not a complete pickle")
    refused_cheaply(PROTO + b"\x95" + struct.pack("<Q", 2**62) + b"N" + STOP, "a frame of")
    refused_cheaply(PROTO + b"\x96" + struct.pack("<Q", 2**40) + STOP, "BYTEARRAY8|complete pickle")


def test_many_arrays_of_the_same_bytes_are_limited():
    first = array(number(2**13) + b"\x85", raw(bytes(2**16)) + b"\x94")
    again = array(number(2**13) + b"\x85", b"h\x00")
    refused_cheaply(PROTO + b"](" + first + again * 300 + b"e" + STOP, "much larger than the file")


@pytest.mark.parametrize("encoded", [False, True])
def test_many_arrays_of_the_same_text_are_limited(encoded):
    """Text is encoded when an array is built, not each time the file requests it."""
    long = b"X" + struct.pack("<I", 2**17) + bytes(2**17) + b"\x94"
    encode = (stack_global("_codecs", "encode"), text("latin1") + b"\x86R") if encoded else (b"", b"")
    first = array(number(2**14) + b"\x85", encode[0] + long + encode[1])
    again = array(number(2**14) + b"\x85", encode[0] + b"h\x00" + encode[1])
    refused_cheaply(PROTO + b"](" + first + again * 600 + b"e" + STOP, "much larger than the file")


def test_encode_is_for_latin1_text_alone():
    encode = stack_global("_codecs", "encode")
    for arguments in (text("a") + text("zip") + b"\x86", text("a") + b"\x85", raw(b"a") + text("latin1") + b"\x86"):
        with pytest.raises(DataError, match="bytes: malformed"):
            unpickle.loads(PROTO + encode + arguments + b"R" + STOP)


def test_arrays_that_python_3_wrote_under_protocol_2():
    values = {"x": np.arange(300, dtype=np.uint8), "s": csr_matrix(np.eye(3, dtype=np.float32)), "n": np.float64(0.1)}
    found = unpickle.loads(pickle.dumps(values, protocol=2))
    assert found["x"].tolist() == [i % 256 for i in range(300)]
    assert (found["s"] != values["s"]).nnz == 0
    assert found["n"] == 0.1


DOUBLED = b")\x94" + b"".join(b"h" + bytes([i]) + b"\x86\x94" for i in range(100))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"}" + DOUBLED + b"Ns", "keys and set members"),
        (b"\x8f(" + DOUBLED + b"\x90", "keys and set members"),
        (DOUBLED, "nested deeper"),
        (array(DOUBLED, raw(b"12345678")), "shape does not fit"),
        (stack_global("numpy", "dtype") + DOUBLED + b"\x85R" + b"\x85", "not a value|malformed|expected booleans"),
        (array(number(1) + b"\x85", raw(bytes(8)), stack_global("numpy", "dtype") + DOUBLED + b"\x85R"), "dtype tuple"),
        (array(number(1) + b"\x85", DOUBLED), "expected raw bytes, got tuple"),
    ],
)
def test_nested_tuples_that_take_forever_to_hash_or_print(content, match):
    refused_cheaply(PROTO + content + STOP, match)


def test_shared_lists_are_resolved_once():
    nested: list = []
    for _ in range(14):  # 2 ** 14 paths
        nested = [nested, nested]
    result = unpickle.loads(pickle.dumps(nested, protocol=4))
    assert result[0] is result[1]


def test_recursive_and_deep_containers():
    loop: list = []
    loop.append(loop)
    deep: list = []
    for _ in range(400):
        deep = [deep]
    for value in (loop, deep):
        with pytest.raises(DataError, match="nested deeper"):
            unpickle.loads(pickle.dumps(value))


def test_size_cap():
    with pytest.raises(DataError, match="x: expected at most 200 bytes, got 300"):
        unpickle.loads(b"." * 300, source="x", max_bytes=200)


# ---------------------------------------------------------------------- other types


def test_object_arrays_of_every_kind(sentinel):
    objects = np.array([Evil(os.mkdir, str(sentinel)), None], dtype=object)
    with pytest.raises(DataError):
        unpickle.loads(pickle.dumps(objects))
    for code in ("O", "O8", "|O", "S4", "U4", "V8", "M8", "c16", "f16", "i3", "(2,)f8", "f8,O"):
        with pytest.raises(DataError, match="expected booleans, integers or floats"):
            unpickle.loads(PROTO + array(number(1) + b"\x85", b"](Ne", dtype(code)) + STOP)
    with pytest.raises(DataError, match="expected raw bytes, got list"):
        unpickle.loads(PROTO + array(number(1) + b"\x85", b"](Ne") + STOP)
    assert not sentinel.exists()


def test_structured_dtypes_are_refused():
    fields = b"(K\x03" + text("<") + b"N" + text("a") + b"\x85}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    with pytest.raises(DataError, match="fields, subarrays"):
        unpickle.loads(PROTO + array(number(1) + b"\x85", raw(bytes(8)), dtype("f8", fields)) + STOP)
    with pytest.raises(DataError):
        unpickle.loads(pickle.dumps(np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])))


def test_subclasses_and_other_factories():
    with pytest.raises(DataError, match="numpy.*matrix"):
        unpickle.loads(pickle.dumps(np.ones((1, 1)).view(np.matrix)))
    with pytest.raises(DataError, match="builtins.int"):
        unpickle.loads(pickle.dumps(collections.defaultdict(int)))
    keys = PROTO + b"}" + stack_global("numpy", "dtype") + b"K\x01s" + STOP
    with pytest.raises(DataError, match="keys and set members must be numbers or strings"):
        unpickle.loads(keys)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (csr(2, 3, [1, 1], [0, 3], [0, 1, 2]), "do not fit shape"),
        (csr(2, 3, [1, 1], [0, -1], [0, 1, 2]), "do not fit shape"),
        (csr(2, 3, [1], [0, 1], [0, 1, 2]), "do not fit shape"),
        (csr(2, 3, [1, 1], [0, 1], [0, 1]), "divide"),
        (csr(2, 3, [1, 1], [0, 1], [0, 1, 5]), "divide"),
        (csr(2, 3, [1, 1], [0, 1], [1, 1, 2]), "divide"),
        (csr(3, 3, [1, 1], [0, 1], [0, 2, 1, 2]), "divide"),
        (csr(3, 3, [1, 1], [0, 1], [0, 2**63 - 1, -5, 2], "i8"), "divide"),  # the differences overflow and look right
        (csr(-1, 3, [], [], []), "shape does not fit"),
        (csr(1, 2**40, [], [], [0, 0]), "shape does not fit"),
        (csr(1, 3, [1], [0], [0, 1], "f8"), "integers"),
        (
            PROTO + stack_global("scipy.sparse", "csr_matrix") + b")\x81" + STOP,
            "scipy.sparse.csr_matrix is not allowed",
        ),
        (PROTO + stack_global("scipy.sparse.csr", "csr_matrix") + b")\x81" + STOP, "expected a shape"),
        (
            PROTO + stack_global("scipy.sparse.csr", "csr_matrix") + b")\x81}" + text("data") + b"Nsb" + STOP,
            "expected a shape",
        ),
    ],
)
def test_inconsistent_matrices(content, match):
    with pytest.raises(DataError, match=match):
        unpickle.loads(content)


# ---------------------------------------------------------------------- valid files


def test_hand_written_matrix():
    made = unpickle.loads(csr(2, 3, [1, 2], [0, 2], [0, 1, 2]))
    assert made.toarray().tolist() == [[1, 0, 0], [0, 0, 2]]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_round_trip(protocol):
    value = {"a": [1, -2, 3.5, None, True, "é"], 5: {"x": (1, 2)}, "big": 2**62}
    assert unpickle.loads(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("code", ["?", "i1", "<i2", ">i4", "i8", "u1", "u8", "f2", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_round_trip(code, order):
    value = np.asarray(np.arange(24).reshape(2, 3, 4) % 7, dtype=code, order=order)
    back = unpickle.loads(pickle.dumps({"v": value}, protocol=4))["v"]
    np.testing.assert_array_equal(back, value)
    assert back.dtype == value.dtype.newbyteorder("=")
    back[...] = 0  # is writable


def test_empty_arrays_scalars_and_sets():
    back = unpickle.loads(pickle.dumps([np.empty((0, 3)), np.int32(-7), np.float32(0.5), np.bool_(True)], protocol=4))
    assert back[0].shape == (0, 3)
    assert back[1:] == [-7, 0.5, True]
    assert unpickle.loads(pickle.dumps({np.int32(3): {np.int64(1), np.int64(2)}}, protocol=4)) == {3: {1, 2}}
    assert unpickle.loads(pickle.dumps({"s": {1, 2}}, protocol=2)) == {"s": {1, 2}}


def test_matrices_round_trip():
    value = csr_matrix(random_array((20, 9), density=0.2, rng=np.random.default_rng(1)))
    back = unpickle.loads(pickle.dumps(value, protocol=4))
    np.testing.assert_array_equal(back.toarray(), value.toarray())


def test_python_2_strings_and_defaultdicts():
    # As Python 2 wrote `defaultdict(list, {0: [1]})` and an array of one float, protocol 2.
    graph = b"\x80\x02ccollections\ndefaultdict\nq\x01c__builtin__\nlist\nq\x02\x85Rq\x03K\x00]q\x04K\x01as."
    assert unpickle.loads(graph) == {0: [1]}
    kind = b"cnumpy\ndtype\nq\x04U\x02f8q\x05K\x00K\x01\x87Rq\x06"
    kind += b"(K\x03U\x01<q\x07NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    value = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    value += b"(K\x01K\x01\x85" + kind + b"\x89U\x08" + struct.pack("<d", -2.5) + b"tb."
    np.testing.assert_array_equal(unpickle.loads(value), [-2.5])
