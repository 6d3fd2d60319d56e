"""Checkpoints that somebody else pickled: what comes out, and every kind of file that must be refused."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import types
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from hgraph.errors import ArgumentError, DataError, LicenseWarning
from hgraph.models import YOLOv13, load_published, published_tensors


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return YOLOv13("n", num_classes=3).eval()


def images():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------------- what comes out


def published_form(net):
    """A whole pickled model in half, with the odds and ends that official checkpoints carry."""
    net = YOLOv13("n", num_classes=net.num_classes).eval()
    net.load_state_dict(dict(net.state_dict()))
    net.half()
    net.stride, net.names, net.args = torch.tensor([8.0, 16.0, 32.0]), {0: "cat"}, types.SimpleNamespace(lr=0.01)
    net.model[4].shared = net.model[4].cv1.conv.stride  # one tuple in two places
    return net


def test_a_pickled_model_loads_unchanged(net, tmp_path):
    half = published_form(net)
    content = {"epoch": -1, "model": half, "ema": None, "optimizer": None, "train_args": {"lr": 0.01}, "date": "2025"}
    torch.save(content, tmp_path / "best.pt")
    with pytest.warns(LicenseWarning, match="AGPL-3.0"):
        loaded = load_published(tmp_path / "best.pt")
    assert not loaded.training
    assert loaded.scale == "n"
    published = half.state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, published[name].to(value.dtype)), name
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert [n for n, p in loaded.named_parameters() if not p.requires_grad] == ["model.32.dfl.conv.weight"]
    assert torch.equal(loaded(images()).scores, half.float()(images()).scores)


def test_ema_comes_first_and_other_forms_are_read(net, tmp_path):
    zeros = YOLOv13("n", num_classes=3)
    with torch.no_grad():
        for p in zeros.parameters():
            p.zero_()
    state = net.state_dict()
    for content in ({"model": zeros, "ema": net}, {"model": net}, net, state, {"state_dict": state}, dict(state)):
        torch.save(content, tmp_path / "some.pt")
        found = published_tensors(tmp_path / "some.pt")
        assert list(found) == list(state)
        assert all(torch.equal(found[k], state[k]) for k in state)


def test_the_class_need_not_exist_any_more(net, tmp_path):
    content = io.BytesIO()
    torch.save({"model": net}, content)
    renamed = repacked(content.getvalue(), {b"hgraph.models.vision.yolov13": b"ultralytics.nn.tasks_of_old."})
    (tmp_path / "foreign.pt").write_bytes(renamed)
    with pytest.warns(LicenseWarning):
        assert torch.equal(load_published(tmp_path / "foreign.pt")(images()).boxes, net(images()).boxes)


def repacked(archive, names):
    """The archive with names in its pickle replaced by others as long."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            if member.endswith("data.pkl"):
                for a, b in names.items():
                    assert len(a) == len(b)
                    assert a in data
                    data = data.replace(a, b)
            new.writestr(member, data)
    return out.getvalue()


def test_views_dtypes_and_shared_storages(tmp_path):
    base = torch.arange(24.0).view(4, 6)
    state = OrderedDict(
        a=base[1:, ::2], b=base.t(), c=torch.tensor(3), d=torch.zeros(0, 5), e=torch.tensor([True, False]),
        f=torch.ones(2, dtype=torch.bfloat16), g=nn.Parameter(torch.ones(2)),
    )  # fmt: skip
    torch.save(state, tmp_path / "views.pt")
    found = published_tensors(tmp_path / "views.pt")
    for name, value in state.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype
        assert found[name].is_contiguous()
    found["a"].zero_()
    assert found["b"].any()  # memory of their own


def test_weights_of_another_network_are_named(net, tmp_path):
    state = dict(net.state_dict())
    state["model.4.cv1.conv.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(
        DataError, match=r"not a YOLOv13-n: 1 tensors differ, the first: model.4.cv1.conv.weight is \(1,"
    ):
        load_published(tmp_path / "odd.pt")
    torch.save({"w": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(DataError, match=r"other.pt: not the tensors of a YOLOv13 \(1 of them\)"):
        load_published(tmp_path / "other.pt")
    with pytest.raises(DataError, match="no such file"):
        load_published(tmp_path / "none.pt")


@pytest.mark.filterwarnings("ignore::hgraph.errors.LicenseWarning")
def test_a_checkpoint_on_another_number_of_classes(net, tmp_path, caplog):
    torch.save(net.state_dict(), tmp_path / "three.pt")
    loaded = load_published(tmp_path / "three.pt", num_classes=70)
    state, before = loaded.state_dict(), net.state_dict()
    new = {name for name in before if before[name].shape != state[name].shape}
    assert new
    assert all(name.startswith("model.32.cv3.") for name in new)
    assert all(torch.equal(state[name], before[name]) for name in before.keys() - new)
    assert all(value.isfinite().all() for value in state.values())
    assert all(name in caplog.text for name in new)
    assert loaded(images()).scores.shape[-1] == 70
    assert torch.equal(loaded(images()).boxes, net(images()).boxes)
    caplog.clear()
    same = load_published(tmp_path / "three.pt", num_classes=3)
    assert torch.equal(same(images()).scores, net(images()).scores)
    assert not caplog.text
    with pytest.raises(ArgumentError, match="num_classes"):
        load_published(tmp_path / "three.pt", num_classes=0)


# ---------------------------------------------------------------------- hostile files


class Run:
    """What a hostile pickle calls when it is loaded by Python."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def saved(tmp_path, content, name="hostile.pt"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def test_nothing_in_the_file_is_run(tmp_path):
    target = tmp_path / "owned"
    content = {"w": torch.ones(2), "__": Run(os.mkdir, str(target))}
    path = saved(tmp_path, {"model": {"w": torch.ones(2)}, "extra": content["__"]})
    assert torch.equal(published_tensors(path)["w"], torch.ones(2))
    assert not target.exists()
    torch.load(path, weights_only=False)  # the file does what it says where it is let
    assert target.exists()


class Holder:
    pass


def holder(**values):
    made = Holder()
    made.__dict__.update(values)
    return made


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"w": torch.ones(2)}, "x": holder(t=torch.ones(1))}, "a tensor is inside .*Holder"),
        ({"model": {"w": torch.ones(2)}, "x": [holder(t=[{"k": torch.ones(1)}])]}, "a tensor is inside .*Holder"),
        ({"model": {"w": torch.ones(2)}, "x": Run(len, torch.ones(1))}, "a tensor is inside .*len"),
        (holder(_parameters={"w": torch.ones(1)}, _buffers={}, _modules={"a": 5}), "a tensor is inside"),
        (holder(_parameters={"w": 5}, _buffers={}, _modules={}), "the model is a .*Holder, which is not a module"),
        (holder(_parameters={}, _buffers={}, _modules={"a": holder(b=1)}), "a is a .*Holder, which is not a module"),
        ({"a": 1}, "neither a model nor a state dict"),
        ({"model": [torch.ones(1)]}, "neither a module nor a dict of tensors"),
        ({1: torch.ones(1)}, "neither a module nor a dict of tensors"),
        ({(1, 2): torch.ones(1)}, "keys and set members must be numbers or strings, not tuple"),
        (7, "neither a module nor a dict of tensors"),
    ],
)
def test_tensors_may_not_hang_elsewhere(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        published_tensors(saved(tmp_path, content))


def archive(tmp_path, pickled, storages=(), *, packed=False, extra=()):
    path = tmp_path / "made.pt"
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, data in (("a/data.pkl", pickled), *((f"a/data/{i}", s) for i, s in enumerate(storages)), *extra):
            file.writestr(name, data)
    return path


def tensor_pickle(size, stride, *, offset=0, count=4, kind=b"FloatStorage", key=b"0", keys=(b"w",)):
    """A state dict as torch pickles it, with whatever numbers."""

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value

    def integer(value):
        return pickle.dumps(value, protocol=2)[2:-1]

    def integers(values):
        return b"(" + b"".join(map(integer, values)) + b"t"

    storage = b"(" + text(b"storage") + b"ctorch\n" + kind + b"\n" + text(key) + text(b"cpu") + integer(count) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(offset) + integers(size) + integers(stride)
    tensor += b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}(" + b"".join(text(k) + tensor for k in keys) + b"u."


FOUR = struct.pack("<4f", 1, 2, 3, 4)


def test_the_made_files_below_differ_from_a_good_one_by_one_fault(tmp_path):
    found = published_tensors(archive(tmp_path, tensor_pickle((2, 2), (1, 2)), [FOUR]))
    assert found["w"].tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (2, 3), "stride": (3, 1)}, "reaches beyond its storage of 4 numbers"),
        ({"size": (2, 2), "stride": (2, 1), "offset": 1}, "reaches beyond its storage"),
        ({"size": (10**6,), "stride": (0,)}, "reaches beyond its storage"),
        ({"size": (2,), "stride": (-1,), "offset": 1}, "a malformed tensor"),
        ({"size": (-2,), "stride": (1,)}, "a malformed tensor"),
        ({"size": (2, 2), "stride": (1,)}, "a malformed tensor"),
        ({"size": (1,) * 9, "stride": (1,) * 9}, "a malformed tensor"),
        ({"size": (2**70,), "stride": (1,)}, "a malformed tensor"),
        ({"size": (4,), "stride": (1,), "count": 5}, "storage 0: expected 20 bytes, got 16 bytes"),
        ({"size": (4,), "stride": (1,), "kind": b"DoubleStorage"}, "storage 0: expected 32 bytes, got 16 bytes"),
        ({"size": (4,), "stride": (1,), "kind": b"Tensor"}, "a storage of an unknown kind"),
        ({"size": (4,), "stride": (1,), "key": b"1"}, "storage 1: expected 16 bytes, got nothing"),
        ({"size": (4,), "stride": (1,), "key": b"../../etc/passwd"}, "a storage of an unknown kind"),
        ({"size": (16,), "stride": (1,), "count": 16, "kind": b"BoolStorage"}, "invalid booleans"),
    ],
)
def test_tensors_that_contradict_themselves(options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        published_tensors(archive(tmp_path, tensor_pickle(**options), [FOUR]))


def test_many_tensors_of_one_storage_are_paid_for(tmp_path):
    """A small file whose tensors, all of one storage, would fill the memory."""
    pickled = tensor_pickle((4096,), (1,), count=4096, keys=[b"%d" % i for i in range(100)])
    path = archive(tmp_path, pickled, [bytes(4 * 4096)])
    assert len(published_tensors(path)) == 100
    with pytest.raises(DataError, match="together exceed the size limit"):
        published_tensors(path, max_bytes=100_000)
    with pytest.raises(DataError, match="bytes, more than the limit of 1000"):
        published_tensors(path, max_bytes=1000)


GOOD = tensor_pickle((4,), (1,))


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02\x82\x01.", "opcode EXT1 at byte 2 is not needed for data"),
        (b"\x80\x02(cos\nsystem\no.", "opcode OBJ at byte"),
        (b"(S'ls'\nios\nsystem\n.", "opcode STRING|opcode INST"),
        (b"\x80\x02}2.", "opcode DUP"),
        (b"\x80\x02]h\x05.", "not a complete pickle|KeyError"),
        (b"\x80\x02R.", "the stack is empty"),
        (b"\x80\x02u.", "no mark"),
        (b"\x80\x02}(K\x01u.", "a key without a value"),
        (b"\x80\x02]K\x01b.", "list accepts no state"),
        (b"\x80\x02K\x01)R.", "only a global can be called"),
        (b"\x80\x02ccollections\nOrderedDict\n](K\x01e\x85R.", "filled by its constructor"),
        (b"\x80\x02K\x01Q.", "a reference that torch does not write"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\nK\x01\x85R.", "a parameter without a tensor"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nK\x01\x85R.", "not a complete pickle|TypeError"),
        (b"\x80\x02}", "not a complete pickle|has no end"),
        (b"", "not a complete pickle|has no end"),
        (b"\x80\x02" + b"(" * 3000 + b"t" * 3000 + b".", "neither a module nor|nested"),
        (b"\x80\x02" + b")" + b"\x85" * 3000 + b".", "nested deeper|neither a module"),
        (GOOD[:-1] + b"q\x01h\x01" + b"\x86" * 1 + b".", "neither a module nor a dict"),
    ],
)  # fmt: skip
def test_hostile_pickles(pickled, message, tmp_path):
    with pytest.raises(DataError, match=message):
        published_tensors(archive(tmp_path, pickled, [FOUR]))


def test_a_container_in_itself_ends(tmp_path):
    pickled = b"\x80\x02]q\x00h\x00a."
    with pytest.raises(DataError, match="neither a module nor a dict"):
        published_tensors(archive(tmp_path, pickled))


def test_tuples_within_tuples_take_no_time(tmp_path):
    """Thirty that each hold the one before twice: 2**30 steps for who walks or hashes them."""
    chain = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))
    with pytest.raises(DataError, match="neither a module nor a dict"):
        published_tensors(archive(tmp_path, b"\x80\x02}" + chain + b"X\x01\x00\x00\x00a\x86."))
    with pytest.raises(DataError, match="keys and set members must be numbers or strings, not tuple"):
        published_tensors(archive(tmp_path, b"\x80\x02}" + chain + b"K\x01s."))


def test_archives_that_torch_does_not_write(tmp_path):
    with pytest.raises(DataError, match="a compressed file"):
        published_tensors(archive(tmp_path, GOOD, [FOUR], packed=True))
    with pytest.raises(DataError, match="expected one data.pkl, found 2"):
        published_tensors(archive(tmp_path, GOOD, [FOUR], extra=[("b/data.pkl", GOOD)]))
    with pytest.warns(UserWarning, match="Duplicate"), pytest.raises(DataError, match="two files with the same name"):
        published_tensors(archive(tmp_path, GOOD, [FOUR], extra=[("a/data/0", FOUR)]))
    with pytest.raises(DataError, match="another byte order"):
        published_tensors(archive(tmp_path, GOOD, [FOUR], extra=[("a/byteorder", b"big")]))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(DataError, match="not a file saved by torch"):
        published_tensors(tmp_path / "text.pt")
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match="not a file saved by torch"):
        published_tensors(tmp_path / "old.pt")
    with pytest.raises(DataError, match="Is a directory"):
        published_tensors(tmp_path)


def test_damaged_files_raise_nothing_but_data_errors(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    torch.save({"model": model, "epoch": 3}, tmp_path / "good.pt")
    good = (tmp_path / "good.pt").read_bytes()
    with zipfile.ZipFile(io.BytesIO(good)) as file:
        pickled = next(file.read(n) for n in file.namelist() if n.endswith("data.pkl"))
        storages = [file.read(f"good/data/{i}") for i in range(len(model.state_dict()))]
    draw, refused = random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(pickled)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            published_tensors(archive(tmp_path, bytes(damaged), storages))
        except DataError:
            refused += 1
    for _ in range(60):
        cut = bytearray(good[: draw.randrange(len(good))] if draw.random() < 0.5 else good)
        if cut:
            cut[draw.randrange(len(cut))] ^= 1 << draw.randrange(8)
        (tmp_path / "cut.pt").write_bytes(bytes(cut))
        try:
            published_tensors(tmp_path / "cut.pt")
        except DataError:
            refused += 1
    assert refused > 200
