"""Data sets in folders: written atomically, verified when read, never confused with names."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hgraph import datasets
from hgraph.cli.app import app
from hgraph.data import Data, Dataset, Split
from hgraph.datasets import folder, from_tables
from hgraph.errors import ArgumentError, DataError


def example(n=30, **options):
    nodes = {
        "id": [f"v{i}" for i in range(n)],
        "y": ["ab"[i % 2] for i in range(n)],
        "age": [i if i % 5 else "" for i in range(n)],
        "kind": ["red", "green", "blü"][: min(n, 3)] * (n // 3),
        "said": [f"hello number {i % 4}" for i in range(n)],
    }
    edges = {"node": [f"v{i}" for i in range(n - 1)], "hyperedge": [f"e{i // 3}" for i in range(n - 1)]}
    return from_tables(nodes, edges, label="y", types={"said": "text"}, license="mine", **options)


def same(a: Data, b: Data) -> bool:
    assert a.structure.equal(b.structure)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.y, b.y)
    assert list(a.splits) == list(b.splits)
    for name, split in a.splits.items():
        for part in ("train", "val", "test"):
            assert torch.equal(getattr(split, part), getattr(b.splits[name], part))
        assert (split.observed is None) == (b.splits[name].observed is None)
    return True


def test_save_and_load(tmp_path):
    dataset = example()
    path = datasets.save(dataset, tmp_path / "deep" / "my-set")
    assert sorted(p.name for p in path.iterdir()) == [
        "card.json", "encoder.json", "encoder.safetensors", "meta.json", "structure.safetensors", "tensors.safetensors",
    ]  # fmt: skip
    assert [p.name for p in path.parent.iterdir()] == ["my-set"]
    for how in (path, str(path)):
        again = datasets.load(how)
        assert same(dataset[0], again[0])
        assert again.name == "my-set"
        assert (again.task, again.target_spec, again.license, again.redistribute, again.caveats) == (
            dataset.task, dataset.target_spec, "mine", False, dataset.caveats,
        )  # fmt: skip
        for key in ("node_names", "hyperedge_names", "class_names", "feature_names"):
            assert again[0].meta[key] == dataset[0].meta[key]
    new = {"age": ["", 7], "kind": ["blü", "unseen"], "said": ["hello you", ""]}
    assert torch.equal(again[0].meta["encoder"].transform(new), dataset[0].meta["encoder"].transform(new))
    card = datasets.info(path)
    assert card.sizes == {
        "nodes": 30,
        "hyperedges": 10,
        "incidences": 29,
        "features": dataset[0].num_features,
        "classes": 2,
    }


def test_folders_of_version_1_load_under_the_new_names(tmp_path):
    dataset = example()
    path = datasets.save(dataset, tmp_path / "old")
    head = json.loads((path / "card.json").read_bytes())
    card = head["card"]
    card["licence"], card["task"] = card.pop("license"), "vertex classification"
    card["sizes"]["vertices"] = card["sizes"].pop("nodes")
    head |= {"version": 1, "quirks": head.pop("caveats"), "target": "vertex"}
    (path / "card.json").write_text(json.dumps(head))
    again = datasets.load(path)
    assert same(dataset[0], again[0])
    assert (again.task, again.license, again.caveats) == (dataset.task, "mine", dataset.caveats)
    assert (again[0].target, datasets.info(path).sizes["nodes"]) == ("node", 30)
    card["task"] = 3
    (path / "card.json").write_text(json.dumps(head))
    with pytest.raises(DataError, match="card.json: card.task: expected a text"):
        datasets.load(path)


def test_own_metadata_keeps_its_names(tmp_path):
    data = example()[0]
    own = Data(data.structure, data.x, data.y, data.splits, {**data.meta, "quirks": "mine", "vertex": "a", "node": "b"})
    whole = Dataset("p", [own], task="node classification", target_spec={}, license="", redistribute=True, citation="")
    found = datasets.load(datasets.save(whole, tmp_path / "p"))[0].meta
    assert (found["quirks"], found["vertex"], found["node"]) == ("mine", "a", "b")


def test_graphs_triples_production_splits_and_regression(tmp_path):
    triples = {"head": ["a", "b", "a"], "relation": ["r", "s", "s"], "tail": ["b", "c", "b"]}
    nodes = {"id": ["a", "b", "c"], "y": [0.5, 1, ""]}
    dataset = from_tables(nodes, edges=triples, label="y")
    datasets.save(dataset, tmp_path / "t")
    again = datasets.load(tmp_path / "t")[0]
    assert again.meta["relation"].tolist() == dataset[0].meta["relation"].tolist()
    assert again.meta["relation_names"] == ("r", "s")
    assert again.y[2].isnan()
    data = example()[0]
    splits = {"default": data.split(), "production": Split.production(data, data.split())}
    whole = Dataset("p", [Data(data.structure, data.x, data.y, splits, data.meta)], task="node classification",
                    target_spec={}, license="", redistribute=True, citation="")  # fmt: skip
    datasets.save(whole, tmp_path / "p")
    assert same(whole[0], datasets.load(tmp_path / "p")[0])


def test_names_and_paths_are_not_confused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    datasets.save(example(), "karate")
    datasets.save(example(), "my-set")
    assert datasets.load("karate")[0].num_nodes == 34
    for path in ("./karate", Path("karate"), "my-set", "./my-set", str(tmp_path / "my-set")):
        assert datasets.load(path)[0].num_nodes == 30
        assert datasets.info(path).kind == "hypergraph"
    for wrong in ("./no-set", Path("no-set"), "no/set"):
        with pytest.raises(DataError, match="no such folder"):
            datasets.load(wrong)
    with pytest.raises(ArgumentError, match="the name of a data set"):
        datasets.load("no-set")
    with pytest.raises(ArgumentError, match="seed: expected no options"):
        datasets.load("my-set", seed=1)


def test_only_data_sets_are_replaced_and_only_with_force(tmp_path):
    path = datasets.save(example(), tmp_path / "set")
    with pytest.raises(ArgumentError, match="Pass force=True .--force. to replace"):
        datasets.save(example(12), path)
    assert datasets.load(path)[0].num_nodes == 30
    datasets.save(example(12), path, force=True)
    assert datasets.load(path)[0].num_nodes == 12
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "card.json").write_text('{"my": "photos"}')
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(path)
    for precious in ("photos", "file", "link"):
        for force in (False, True):
            with pytest.raises(ArgumentError, match="a new path, or a data set"):
                datasets.save(example(), tmp_path / precious, force=force)
    assert (tmp_path / "photos" / "card.json").read_text() == '{"my": "photos"}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "photos", "set"]


def test_replacing_if_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_exchange", lambda a, b: False)
    path = datasets.save(example(), tmp_path / "set")
    datasets.save(example(12), path, force=True)
    assert datasets.load(path)[0].num_nodes == 12
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "_hash", full)
        with pytest.raises(DataError, match="No space left"):
            datasets.save(example(), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        datasets.save(example(), tmp_path / "file" / "set")


@pytest.mark.parametrize("meta", [{"f": print}, {"f": float("nan")}, {"encoder2": {1, 2}}])
def test_values_that_cannot_be_saved_are_refused_before_writing(tmp_path, meta):
    whole = example()
    data = Data(whole[0].structure, whole[0].x, whole[0].y, whole[0].splits, meta)
    bad = Dataset("p", [data], task="t", target_spec={}, license="", redistribute=True, citation="")
    with pytest.raises(ArgumentError, match="a value that JSON can hold"):
        datasets.save(bad, tmp_path / "set")
    with pytest.raises(ArgumentError, match="one example"):
        datasets.save(Dataset("p", [data] * 2, task="t", target_spec={}, license="", redistribute=True, citation=""),
                      tmp_path / "set")  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def cut_off(seconds: float, run) -> tuple[bool, float]:
    """Run in a child process that is killed after some CPU time, at any point and without cleanup, as by kill -9.

    Returns whether it was killed, and its CPU time. (By wall-clock time, it could be killed before it starts.)
    """
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # the threads of the parent do not exist in the child, which would wait for them
            signal.signal(
                signal.SIGPROF, signal.SIG_DFL
            )  # the default action kills immediately, without a Python handler
            signal.setitimer(signal.ITIMER_PROF, seconds)
            run()
            os._exit(0)
        finally:
            os._exit(1)
    _, status, usage = os.wait4(child, 0)
    ended = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGKILL)
    assert ended or os.waitstatus_to_exitcode(status) == 0, f"the child failed by itself: {status}"
    return ended, usage.ru_utime + usage.ru_stime


@pytest.fixture
def no_fsync(monkeypatch):
    """Skip fsync: a killed process loses no written data, only a power failure does."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
quiet = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forks
@quiet
def test_killed_at_any_moment_leaves_a_complete_set(tmp_path, no_fsync):
    sets, path = [example(12), example(30)], tmp_path / "set"
    draw, seen = random.Random(0), set()

    def replace_forever():
        while True:
            for one in sets:
                folder.save(one, path, force=True)

    for i in range(20):
        assert cut_off(draw.uniform(0.005, 0.05) if i else 0.1, replace_forever)[0]
        data = datasets.load(path)[0]
        assert same(data, sets[data.num_nodes == 30][0])
        seen.add(data.num_nodes)
    assert seen == {12, 30}
    datasets.save(sets[0], path, force=True)
    assert datasets.load(path)[0].num_nodes == 12


def killed_at(number: int, run) -> bool:
    """Run in a child process that kills itself before file operation ``number`` (open, mkdir or rename) on the set."""

    def watched():
        met = itertools.count()

        def hook(event, args):
            of_set = event in ("open", "os.mkdir", "os.rename") and ".set." in str(args[0])
            if of_set and next(met) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        run()

    return cut_off(60, watched)[0]


@forks
@quiet
def test_a_build_killed_at_any_moment_leaves_nothing_or_a_complete_set(tmp_path, no_fsync):
    """Kills the command ten times at random, then at every file operation."""
    (tmp_path / "n.csv").write_text("id,a,y\n" + "".join(f"v{i},{i % 7},{'xyz'[i % 3]}\n" for i in range(500)))
    (tmp_path / "h.csv").write_text("node,hyperedge\n" + "".join(f"v{i},h{i % 50}\n" for i in range(500)))
    path, draw = tmp_path / "set", random.Random(0)
    command = ["datasets", "build", "--nodes", tmp_path / "n.csv", "--hyperedges", tmp_path / "h.csv", "--out", path]

    def build():
        CliRunner().invoke(app, [*map(str, command), "--label", "y"])

    def complete_or_nothing():
        if path.exists():
            assert datasets.load(path)[0].num_nodes == 500
            shutil.rmtree(path)
            return True
        return False

    whole = cut_off(60, build)[1]
    assert complete_or_nothing()
    for _ in range(10):
        assert cut_off(whole * draw.random(), build)[0] or path.exists()
        complete_or_nothing()
    kills = 0
    while killed_at(2 * kills, build):
        kills += 1
        assert not complete_or_nothing()  # the set gets its name in the last step
    assert kills >= 8
    assert complete_or_nothing()


def tampered(path: Path):
    """Pairs of a description and a function that damages the folder."""
    head = json.loads((path / "card.json").read_text())
    for name in head["files"]:
        yield f"{name} gone", lambda p, n=name: (p / n).unlink()
        yield f"{name} cut", lambda p, n=name: (p / n).write_bytes((p / n).read_bytes()[:-5])
        yield f"{name} changed", lambda p, n=name: (p / n).write_bytes((p / n).read_bytes()[:-1] + b"\x7f")

    def card(**changes):
        return lambda p: (p / "card.json").write_text(json.dumps(head | changes))

    yield "card gone", lambda p: (p / "card.json").unlink()
    yield "card no JSON", lambda p: (p / "card.json").write_text("{")
    yield "card deep", lambda p: (p / "card.json").write_text("[" * 100_000)
    yield "card a list", lambda p: (p / "card.json").write_text("[]")
    yield "version", card(version=99)
    yield "format", card(format="zip")
    yield "outside", card(files={"../x": "0"})
    yield "no files", card(files=None)
    yield "no card", card(card=None)
    yield "card of other fields", card(card={"evil": 1})
    yield "target", card(target="hyperedge")
    yield "splits", card(splits=["default", "more"])
    yield "no splits", card(splits=7)


def test_a_damaged_folder_is_refused(tmp_path):
    path = datasets.save(example(), tmp_path / "set")
    ways = list(tampered(path))
    assert len(ways) >= 25
    for what, spoil in ways:
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)
        spoil(copy)
        with pytest.raises(DataError):
            datasets.load(copy)
            pytest.fail(what)
        shutil.rmtree(copy)


def test_split_ids_out_of_range_are_refused_even_if_the_hashes_match(tmp_path):
    from safetensors.torch import load_file, save_file

    path = datasets.save(example(), tmp_path / "set")
    tensors = load_file(path / "tensors.safetensors")
    for name, value in (
        ("split.0.train", torch.tensor([99])),
        ("split.0.test", torch.tensor([0.5])),
        ("x", torch.ones(3, 2)),
    ):
        save_file(tensors | {name: value}, path / "tensors.safetensors")
        head = json.loads((path / "card.json").read_text())
        head["files"]["tensors.safetensors"] = folder._hash(path / "tensors.safetensors")
        (path / "card.json").write_text(json.dumps(head))
        with pytest.raises(DataError):
            datasets.load(path)
