"""Edited JSON files of runs, students, data sets and studies: one error that names file and key, never a traceback."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import hgraph.datasets as datasets
from hgraph.cli.app import app
from hgraph.cli.recommenders import load_run, network_of
from hgraph.cli.trained import config_of, read_settings
from hgraph.data.io import fingerprint
from hgraph.datasets.tables import Encoder, Inputs
from hgraph.distill import Predictor, export
from hgraph.errors import HgraphError
from hgraph.models import MLP
from hgraph.recipes import lighthgnn
from hgraph.recipes.recipe import read_results
from hgraph.train import Regression, seeded, tune
from hgraph.train.checkpoint import weights_file

MISSING, NESTED = "(missing)", "(nested)"
WRONG = (
    None, True, -1, 0.5, 1e308, 10**400, "", "x" * 9999, "\0", "\ud800", "../../etc", [], {}, [None], [[]], {"a": 1},
    MISSING, NESTED,
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set, a run, a student, a recommender and a study, without any training."""
    folder = tmp_path_factory.mktemp("json")
    ids = [f"n{i}" for i in range(12)]
    nodes = {"id": ids, "color": [*"rgb"] * 4, "size": [str(i) for i in range(12)], "y": [*"xy"] * 6}
    made = datasets.from_tables(nodes, {"members": [ids[:4], ids[3:]]}, label="y", shares=(0.5, 0.25, 0.25))
    datasets.save(made, folder / "set")
    data = made[0]
    with seeded(0):
        names = {"class_names": ["x", "y"], "feature_names": data.meta["feature_names"]}
        encoder = data.meta["encoder"]
        export(MLP(data.num_features, 4, 2).eval(), folder / "student", data.x, encoder=encoder, notes=["one"], **names)
    (folder / "run").mkdir()
    Inputs.of(data).save(folder / "run")
    shape = {"hidden": 4, "dropout": 0.5}
    run = {"source": "./set", "model": "gcn", "setting": "transductive", "seed": 0, **shape, "threads": 1, "epochs": 3}
    run |= {"lr": 0.1, "task": Regression(mean=[3.0], scale=[2.0]).settings()}
    (folder / "run" / "config.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "distilled").mkdir()
    settings = {"dataset": "./set", "teacher": "gcn", "setting": "production", "seed": 0, "student": "words"}
    (folder / "distilled" / "config.json").write_text(json.dumps({"run": settings, "seed": 0}), encoding="utf-8")
    (folder / "shop").mkdir()
    lines = "".join(f"u{i % 5},i{i * i % 7}\n" for i in range(40))
    (folder / "shop" / "interactions.csv").write_text("user,item\n" + lines, encoding="utf-8")
    (folder / "kgat").mkdir()
    pairs = datasets.from_interactions(folder / "shop", seed=0)[0]
    (folder / "kgat" / "model.safetensors").write_bytes(weights_file(network_of("bprmf", pairs, 0, 2)))
    kgat = {"kind": "recommender", "source": str(folder / "shop"), "dataset": "shop", "model": "bprmf", "seed": 0}
    kgat |= {
        "data_sha256": fingerprint(pairs),
        "hidden": 2,
        "min_rating": None,
        "split": None,
        "epochs": 1,
        "lr": 0.1,
        "l2": 0.0,
    }
    (folder / "kgat" / "config.json").write_text(json.dumps(kgat), encoding="utf-8")
    record = {"setting": "production", "dataset": "cora", "teacher": "hgnn", "seed": 0, "model": "mlp", "accuracy": 9.5}
    (folder / "results.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    return folder


# file -> what reads it, and the keys whose values matter
FILES = {
    "run/config.json": (lambda p: read_settings(p / "run", config_of(p / "run")),
                        ("source", "model", "setting", "seed", "hidden", "dropout", "lr", "kind", "mean", "scale")),
    "run/inputs.json": (lambda p: Inputs.load(p / "run"), ("features", "classes", "degree", "encoder")),
    "run/encoder.json": (lambda p: Encoder.load(p / "run"), ("format", "version", "missing", "columns", "decimal")),
    "distilled/config.json": (lambda p: read_settings(p / "distilled", config_of(p / "distilled")),
                              ("run", "dataset", "teacher", "setting", "student")),
    "kgat/config.json": (lambda p: load_run(p / "kgat", None),
                         ("kind", "source", "model", "seed", "data_sha256", "hidden", "min_rating", "split", "lr")),
    "student/student.json": (lambda p: Predictor(p / "student"),
                             ("format", "version", "features", "classes", "encoder", "programs", "sha256", "notes")),
    "set/card.json": (lambda p: datasets.load(p / "set"),
                      ("format", "version", "card", "target_spec", "redistribute", "sizes", "caveats", "target",
                       "splits", "encoder", "files")),
    "set/meta.json": (lambda p: datasets.load(p / "set"),
                      ("node_names", "class_names", "feature_names", "hyperedge_names", "node_cells")),
    "results.jsonl": (lambda p: read_results(p / "results.jsonl", lighthgnn._Record),
                      ("setting", "teacher", "seed", "accuracy")),
}  # fmt: skip


def places_of(value, at=()):
    """The paths of all keys in a document, and of the first item of each list."""
    yield at
    children = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, child in children:
        yield from places_of(child, (*at, key))


def edited(document, at, value):
    """The JSON text of the document with another value at that place."""
    whole = [copy.deepcopy(document)]
    inner, path = whole, [0, *at]
    for key in path[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = "@" if value is NESTED else value
    return json.dumps(whole[0] if whole else None).replace('"@"', "[" * 50_000 + "]" * 50_000)


def sealed(folder, name):
    """Write the new hash of a file into the card that lists it, as somebody would who knows the format."""
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    card = (folder / name).parent / "card.json"
    content = json.loads(card.read_bytes())
    content["files"][Path(name).name] = digest
    card.write_text(json.dumps(content), encoding="ascii")


@pytest.mark.parametrize("name", FILES)
def test_every_edit_is_one_error_with_file_and_key_or_harmless(name, place, monkeypatch):
    monkeypatch.chdir(place)
    read, keys = FILES[name]
    file, before = place / name, {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    document, refused = json.loads(before[file]), {key: 0 for key in keys}
    try:
        for at in places_of(document):
            for value in WRONG:
                file.write_text(edited(document, at, value) + "\n", encoding="utf-8")
                if name == "set/meta.json":
                    sealed(place, name)
                try:
                    read(place)
                except HgraphError as error:  # anything else fails the test
                    words = str(error)
                    assert len(words.splitlines()) == 1, words
                    assert file.name in words or file.parent.name in words, (at, value, words)
                    for key in {str(key) for key in at} & set(keys):
                        refused[key] += 1
                        assert value is NESTED or key in words or str(at[-1]) in words, (at, value, words)
    finally:
        for path, content in before.items():
            path.write_bytes(content)
    assert set(place.rglob("*")) >= set(before)
    assert all(refused.values()), refused


SHOWN = {
    "a run": ("run/config.json", ("seed",), "9", ["evaluate", "run"], "run/config.json: seed: expected a whole number"),
    "a huge number": ("run/config.json", ("hidden",), 10**400, ["evaluate", "run"], "config.json: hidden: expected"),
    "a name": ("run/config.json", ("model",), "gnn", ["predict", "run", "--all"], "json: model: expected one of"),
    "a student": ("student/student.json", ("classes",), ["x"], ["predict", "student", "rows.csv"], "classes: expected"),
    "another file": ("student/student.json", ("programs", "layers"), "../set/tensors.safetensors",
                     ["predict", "student", "rows.csv"], "programs.layers: expected a file with an entry in sha256"),
    "a card": ("set/card.json", ("card", "sizes", "nodes"), -1, ["datasets", "info", "./set"], "sizes.nodes: expected"),
    "nested": ("set/card.json", ("caveats",), NESTED, ["datasets", "info", "./set"], "card.json: expected JSON"),
    "null epochs": ("run/config.json", ("epochs",), None, ["evaluate", "run"], "epochs: expected a whole number"),
    "no learning rate": ("run/config.json", ("lr",), None, ["evaluate", "run"], "lr: expected a number"),
    "an empty mean": ("run/config.json", ("task", "mean"), [], ["evaluate", "run"], "task.mean, task.scale: expected"),
    "no scale": ("run/config.json", ("task", "scale"), MISSING, ["evaluate", "run"], "task.mean, task.scale: expected"),
    "an infinite mean": ("run/config.json", ("task", "mean"), [1e308], ["evaluate", "run"], "task.mean[0]: expected"),
    "a recommender": ("kgat/config.json", ("split",), "best", ["recommend", "kgat", "--user", "u0"], "split: expected"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHOWN)
def test_commands_print_one_line(kind, place, monkeypatch):
    monkeypatch.chdir(place)
    name, at, value, arguments, said = SHOWN[kind]
    before = (place / name).read_bytes()
    Path("rows.csv").write_text("id,color,size\na,r,1\n", encoding="utf-8")
    try:
        (place / name).write_text(edited(json.loads(before), at, value), encoding="utf-8")
        result = CliRunner().invoke(app, arguments)
    finally:
        (place / name).write_bytes(before)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", '{"op_code": "0"}', '{"op_code": 0, "worker_id": "a"}', '{"op_code": 99, "worker_id": "a"}',
     '{"op_code": 0, "worker_id": "a", "study_name": 3, "directions": "best"}', '{"op_code": 5, "worker_id": "a"}',
     "[" * 50_000],
)  # fmt: skip
def test_a_study_that_cannot_be_read_names_its_file(line, tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "study.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(HgraphError, match=r"study\.jsonl.*Delete the file to start over"):
        tune.tune(lambda settings, report: 1.0, {"lr": tune.Range(0.1, 1)}, trials=1, folder=tmp_path)


def test_checkpoints_with_other_headers_are_refused(tmp_path):
    from safetensors.torch import save

    from hgraph.data.io import digest_of
    from hgraph.train.checkpoint import _FORMAT, Checkpoint

    for header in ("[]", '{"settings": 3}', '{"settings": null}', "{}", "[" * 50_000, '{"settings": {"seed": 1}}'):
        content = {"model/a": torch.zeros(1)}
        metadata = {_FORMAT: header, "sha256": digest_of(content, header)}
        (tmp_path / "c.safetensors").write_bytes(save(content, metadata=metadata))
        with pytest.raises(HgraphError, match=r"c\.safetensors|seed: expected"):
            Checkpoint(tmp_path / "c.safetensors", {"seed": 0})
