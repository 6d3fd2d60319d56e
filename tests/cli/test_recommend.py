"""From a folder of two CSV files to recommendations with explanations, on the command line, and errors."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hgraph import Interactions, KnowledgeGraph, datasets, train
from hgraph.cli.app import app
from hgraph.errors import ArgumentError, DataError

GENRES = ("crime", "poetry", "space")


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """24 readers of one genre each, 21 books with genre and author."""
    monkeypatch.chdir(tmp_path)
    draw, folder = random.Random(0), tmp_path / "shop"
    folder.mkdir()
    books = {f"book {i}": GENRES[i % 3] for i in range(21)}
    triples = [(b, "is a", g) for b, g in books.items()] + [(b, "by", f"author {i % 5}") for i, b in enumerate(books)]
    write(folder / "triples.csv", ["tail", "head", "relation", "source"], [(t, h, r, "x") for h, r, t in triples])
    pairs = [
        (f"reader {u}", b) for u in range(24) for b in draw.sample([b for b in books if books[b] == GENRES[u % 3]], 4)
    ]
    write(folder / "interactions.csv", ["user", "item"], [*pairs, pairs[0]])
    return folder


TRAIN = ("train", "shop", "--model", "kgat", "--epochs", 10, "--hidden", 8, "--out", "run", "--quiet")


def test_from_two_files_to_explanations(shop, monkeypatch):
    done = call(*TRAIN)
    assert done.exit_code == 0, done.output
    assert "recall@20" in done.output
    for name in ("config.json", "metrics.jsonl", "learning_curve.png", "model.safetensors", "report.md"):
        assert (shop.parent / "run" / name).stat().st_size > 0
    again = json.loads(call("evaluate", "run", "--json").output)
    assert {"dataset", "model", "seed", "recall@20", "ndcg@20", "parameters"} <= set(again)
    assert 0 < again["recall@20_by_popularity"] <= 1  # the floor, whatever the model
    assert f"{again['recall@20']:.4f}" in done.output
    assert f"{again['recall@20']:.4f}" in call("evaluate", "run").output
    assert "only for the users of its run" in call("evaluate", "run", "--dataset", "shop").output
    done = call("recommend", "run", "--user", "reader 3", "-k", 3, "--explain", "--draw", "why/why.png")
    assert done.exit_code == 0, done.output
    assert "  1. book" in done.output
    assert "reader 3 -interacts with-> book" in done.output
    assert (shop.parent / "why/why.png").stat().st_size > 1000
    found = json.loads(call("recommend", "run", "--user", "reader 3", "-k", 3, "--json").output)
    drawn = []
    monkeypatch.setattr(train.Explanation, "draw", lambda why, title: drawn.append(title) or why.kg.view(0).draw())
    call("recommend", "run", "--user", "reader 3", "--draw", "why/why.png")
    assert drawn == [f"why reader 3 is recommended {found['items'][0]['name']}"]
    data = datasets.from_interactions("shop")[0]
    assert found["user"] == data.user_names.find("reader 3")
    reader, parts = torch.tensor([found["user"]]), (data.train, data.val, data.test)
    taken = {item for part in parts for item in part.select(reader).indices.tolist()}
    assert len(found["items"]) == 3
    assert not taken & {entry["item"] for entry in found["items"]}
    assert found["name"] == "reader 3"
    assert "for reader 3:" in call("recommend", "run", "--user", "reader 3").output
    by_number = call("recommend", "run", "--user", found["user"])
    assert by_number.exit_code == 2  # the number of one might be the name of another
    for wrong in ("why.xyz", "why"):
        done = call("recommend", "run", "--user", "reader 3", "--draw", wrong)
        assert done.exit_code == 2
        assert "draw: expected a file" in done.output


@pytest.mark.parametrize(
    "model", ["bprmf", "lightgcn", "fm", "nfm", "cke", "cfkg", "gcmc", "kgcn", "ripplenet", "twotower"]
)
def test_every_recommender_trains_and_recommends(shop, model):
    done = call("train", "shop", "--model", model, "--epochs", 2, "--hidden", 4, "--out", model, "--quiet", "--json")
    assert done.exit_code == 0, done.output
    assert 0 <= json.loads(done.output)["recall@20"] <= 1
    done = call("recommend", model, "--user", "reader 0", "-k", 2)
    assert done.exit_code == 0, done.output
    assert "  2. book" in done.output


def test_paths_have_a_weight_if_there_is_attention(shop):
    for model, numbered in (("kgat", True), ("kgcn", False)):
        call("train", "shop", "--model", model, "--epochs", 1, "--hidden", 4, "--out", model, "--quiet")
        found = json.loads(call("recommend", model, "--user", "reader 3", "-k", 9, "--explain", "--json").output)
        weights = [reason["weight"] for entry in found["items"] for reason in entry["because"]]
        assert weights
        assert all((weight is not None) == numbered for weight in weights)
        output = call("recommend", model, "--user", "reader 3", "-k", 9, "--explain").output
        assert ("       reader 3 -interacts with->" in output) == (not numbered)


def test_items_of_all_users_go_to_a_file(shop, monkeypatch):
    call("train", "shop", "--model", "kgat", "--epochs", 1, "--hidden", 4, "--out", "run", "--quiet")
    monkeypatch.setattr("hgraph.cli.recommend._SCORES", 100)  # a few users at a time
    done = call("recommend", "run", "-k", 500, "--out", "all.csv")
    assert done.exit_code == 0, done.output
    with open("all.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    data = datasets.from_interactions("shop")[0]
    assert list(dict.fromkeys(row["user"] for row in rows)) == list(data.user_names)
    one = json.loads(call("recommend", "run", "--user", "reader 3", "-k", 500, "--json").output)["items"]
    own = [row for row in rows if row["user"] == "reader 3"]
    assert [row["item"] for row in own] == [entry["name"] for entry in one]
    assert [int(row["rank"]) for row in own] == list(range(1, len(one) + 1))
    assert [float(row["score"]) for row in own] == pytest.approx([entry["score"] for entry in one], rel=1e-5)
    for words in ((), ("--user", "reader 3", "--out", "x.csv"), ("--out", "x.csv", "--explain")):
        assert call("recommend", "run", *words).exit_code == 2
        assert not Path("x.csv").exists()
    assert call("recommend", "run", "--out", "nowhere/x.csv").exit_code == 2


@pytest.mark.parametrize("change", ["another order", "one more"])
def test_a_run_rejects_changed_data(shop, change):
    """Ids depend on the order of rows: with other rows, ids and splits differ."""
    done = call("train", "shop", "--model", "bprmf", "--epochs", 2, "--hidden", 4, "--out", "run", "--quiet")
    assert done.exit_code == 0, done.output
    head, *rows = (shop / "interactions.csv").read_text(encoding="utf-8").splitlines()
    rows = [*rows, "reader 1,book 0"] if change == "one more" else rows[::-1]
    (shop / "interactions.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    for words in (("recommend", "run", "--user", "reader 0"), ("evaluate", "run")):
        done = call(*words)
        assert done.exit_code == 2
        assert "has changed since this run was trained" in " ".join(done.output.split())


def test_known_items_are_not_recommended(shop):
    call("train", "shop", "--model", "bprmf", "--epochs", 1, "--hidden", 4, "--out", "run", "--quiet")
    found = json.loads(call("recommend", "run", "--user", "reader 0", "-k", 500, "--json").output)["items"]
    data = datasets.from_interactions("shop")[0]
    reader, parts = torch.tensor([data.user_names.find("reader 0")]), (data.train, data.val, data.test)
    taken = {item for part in parts for item in part.select(reader).indices.tolist()}
    assert sorted(entry["item"] for entry in found) == sorted(set(range(data.num_items)) - taken)


def test_a_user_with_all_items_is_an_error(shop):
    rows = "\n".join(["user,item", *(f"reader 0,book {i}" for i in range(21)), *(f"b,book {i}" for i in range(15))])
    (shop / "interactions.csv").write_text(rows + "\n", encoding="utf-8")
    call("train", "shop", "--model", "bprmf", "--epochs", 1, "--hidden", 4, "--out", "run", "--quiet")
    assert "a user with items left to recommend" in call("recommend", "run", "--user", "reader 0").output


@pytest.mark.parametrize("model", ["bprmf", "lightgcn", "twotower"])
def test_models_without_triples_have_no_explanations(shop, model):
    call("train", "shop", "--model", model, "--epochs", 1, "--hidden", 4, "--out", "run", "--quiet")
    for words in (("--explain",), ("--draw", "why.png")):
        done = call("recommend", "run", "--user", "reader 0", *words)
        assert done.exit_code == 2
        assert "this model does not use triples" in done.output


def test_kgat_starts_from_embeddings_of_bprmf(shop):
    """With almost no training of its own, it ranks nearly as BPR-MF does; the settings are saved."""
    from hgraph.cli.recommenders import load_run

    few = ("--epochs", 1, "--hidden", 8, "--lr", 1e-9, "--quiet", "--json")
    for name, options in (("bprmf", ("--validate-users", 5)), ("kgat", ("--pretrain", "bprmf", "--l2", 0.5))):
        done = call("train", "shop", "--model", name, "--out", name, *few, *options)
        assert done.exit_code == 0, done.output
    first, second = (load_run(shop.parent / name, None)[0] for name in ("bprmf", "kgat"))
    torch.testing.assert_close(second.embedding[: len(first.embedding)], first.embedding, rtol=0, atol=1e-6)
    commands = [json.loads((shop.parent / n / "config.json").read_text())["command"] for n in ("kgat", "bprmf")]
    assert "--l2 0.5 --pretrain bprmf" in commands[0]
    assert "--validate-users 5" in commands[1]
    assert "None" not in (shop.parent / "kgat" / "report.md").read_text()


def test_a_run_is_distilled_into_two_towers(shop):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert call(*TRAIN).exit_code == 0
    words = ("distill", "run", "--steps", 150, "--quiet")
    done = call(*words)
    assert done.exit_code == 0, done.output
    for column in ("recall@20", "recall / teacher", "same items", "one user", "24 users"):
        assert column in done.output.split("\n")[0]
    assert [line.split("  ")[0] for line in done.output.split("\n")[2:6]] == [
        "towers without teacher", "kgat (teacher)", "teacher, cached embeddings", "student",
    ]  # fmt: skip
    place = shop.parent / "run" / "student"
    assert "## What" not in (place / "report.md").read_text()
    assert "recall / teacher" in (place / "report.md").read_text().lower()
    assert not (place / "under_way").exists()
    assert len((place / "metrics.jsonl").read_text().splitlines()) == 150
    # the file accepts names as the student's run does
    session = onnxruntime.InferenceSession(str(place / "student.onnx"), providers=["CPUExecutionProvider"])
    named = session.get_modelmeta().custom_metadata_map
    users, items = json.loads(named["users"]), json.loads(named["items"])
    scores = session.run(None, {"users": torch.tensor([users.index("reader 3")]).numpy()})[0][0]
    found = json.loads(call("recommend", "run/student", "--user", "reader 3", "-k", 2, "--json").output)["items"]
    for entry in found:
        assert scores[items.index(entry["name"])] == pytest.approx(entry["score"], rel=1e-4, abs=1e-5)
    teacher = json.loads(call("evaluate", "run", "--json").output)
    again = json.loads(call(*words, "--overwrite", "--json").output)
    assert again["teacher"]["recall@20"] == teacher["recall@20"]
    assert again["student"]["recall_kept"] == pytest.approx(again["student"]["recall@20"] / teacher["recall@20"])
    assert {"latency_one_s", "latency_many_s"} <= set(again["student"])
    assert again["teacher"]["same_items"] == 1
    assert json.loads(call("evaluate", "run/student", "--json").output)["recall@20"] == again["student"]["recall@20"]


def test_same_items_is_the_overlap_without_known_items(shop, monkeypatch):
    from hgraph.cli import towers
    from hgraph.data import Interactions

    none, kg = torch.empty(2, 0, dtype=torch.long), datasets.from_interactions("shop")[0].kg
    data = Interactions.from_pairs([[0, 1], [0, 3]], none, none, kg, num_users=2, num_items=4)
    monkeypatch.setattr(towers, "CUT", 2)
    one = torch.tensor([[9.0, 3, 2, 1], [4, 3, 2, 9]])  # without 0 and 3: {1, 2}, {0, 1}
    two = torch.tensor([[9.0, 1, 2, 3], [4, 3, 2, 9]])  # without 0 and 3: {3, 2}, {0, 1}
    assert towers._overlap(lambda users: one[users], lambda users: two[users], data) == 0.75


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--teacher", "gcn"),
            "teacher: expected no value, because this option does not apply to the student of a recommender",
        ),
        (("--seed", 0), "The model, the data and the seed come from the run"),
        ((), "which holds a finished run. Pass --overwrite or another --out"),
    ],
)
def test_wrong_options_of_a_recommender_s_student(shop, words, message):
    call("train", "shop", "--model", "bprmf", "--epochs", 1, "--hidden", 4, "--out", "run", "--quiet")
    (shop.parent / "run" / "student").mkdir()
    (shop.parent / "run" / "student" / "report.md").write_text("of another time")
    done = call("distill", "run", *words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    done = call("predict", "run", "rows.csv")
    assert "a run of a recommender" in done.output
    assert "steps: expected no value" in call("distill", "digits", "--steps", 3).output


def test_the_student_of_a_recommender_resumes(shop, monkeypatch):
    """Stopped after the student was trained: the next call trains it no further, and the metrics are the same."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import hgraph.distill.towers as towers

    call("train", "shop", "--model", "bprmf", "--epochs", 1, "--hidden", 4, "--out", "run", "--quiet")
    words = ("distill", "run", "--steps", 20, "--quiet", "--json")
    whole = json.loads(call(*words).output)
    fit = train.fit_recommender

    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit_recommender", stop)
    assert call(*words, "--overwrite").exit_code != 0
    assert "stopped" in " ".join(call("recommend", "run/student", "--user", "reader 3").output.split())
    monkeypatch.setattr(train, "fit_recommender", fit)
    monkeypatch.setattr(towers, "_order_loss", stop)
    again = json.loads(call(*words).output)
    for name in ("mlp", "teacher", "student"):
        assert {k: v for k, v in again[name].items() if "latency" not in k} == {
            k: v for k, v in whole[name].items() if "latency" not in k
        }


def test_tuning_a_recommender(shop):
    pytest.importorskip("optuna")
    space = "lr=log:0.01:0.1,hidden=choice:4:8"
    words = ("tune", "shop", "--model", "bprmf", "--space", space, "--trials", 3, "--epochs", 4, "--out", "tuned")
    found = json.loads(call(*words, "--json", "--quiet").output)
    assert {"validation_recall", "test_recall", "lr", "hidden"} <= set(found)
    assert found["trials"] == 3
    assert json.loads(call(*words, "--json", "--quiet").output) == found
    report = (shop.parent / "tuned" / "report.md").read_text()
    command = next(line for line in report.split("\n") if line.startswith("hgraph train"))
    assert "--setting" not in command
    done = call(*command.split()[1:], "--out", "best", "--quiet", "--json")
    assert json.loads(done.output)["recall@20"] == pytest.approx(found["test_recall"])
    for wrong, message in (
        (("--setting", "production"), "this option does not apply to bprmf"),
        (("--space", "dropout=range:0:1"), "lr, l2"),
    ):
        done = call("tune", "shop", "--model", "bprmf", "--out", "other", *wrong)
        assert done.exit_code == 2
        assert message in " ".join(done.output.split())


def test_the_same_command_resumes(shop, monkeypatch):
    from hgraph.train import recommender

    whole = call(*TRAIN, "--json").output
    ranking, calls = recommender.full_ranking, []

    def stop(*args, **options):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(recommender, "full_ranking", stop)
    assert call(*TRAIN, "--overwrite").exit_code != 0
    monkeypatch.setattr(recommender, "full_ranking", ranking)
    assert "run was stopped" in " ".join(call("recommend", "run", "--user", "reader 3").output.split())
    again = json.loads(call(*TRAIN, "--json").output)
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in json.loads(whole).items() if k != "seconds"
    }
    other = call("train", "shop", "--model", "kgat", "--epochs", 3, "--out", "run", "--quiet")
    assert other.exit_code == 2
    assert "which holds a finished run" in " ".join(other.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("train", "shop", "--model", "kgat", "--clip", 1),
            "clip: expected no value, because this option does not apply to kgat",
        ),
        (
            ("train", "karate", "--model", "gcn", "--l2", 1),
            "l2: expected no value, because this option does not apply to gcn",
        ),
        (
            ("train", "karate", "--validate-users", 9),
            "validate_users: expected no value, because this option does not apply to hgnn+",
        ),
        (
            ("train", "shop", "--model", "fm", "--pretrain", "bprmf"),
            "no value, because fm cannot start from",
        ),
        (("train", "karate", "--model", "kgat"), "a data set for recommendation, got 'karate'"),
        (("recommend", "nowhere", "--user", 0), "nowhere: no finished run"),
        (("recommend", "shop", "--user", 0), "shop: no finished run"),
    ],
)
def test_wrong_arguments_are_named(shop, arguments, message):
    done = call(*arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_unknown_users_are_named(shop):
    call("train", "shop", "--model", "bprmf", "--epochs", 1, "--hidden", 4, "--out", "run", "--quiet")
    done = call("recommend", "run", "--user", "reder 3")
    assert done.exit_code == 2
    assert "user: expected" in done.output
    assert "Did you mean 'reader 3'" in done.output.replace("\n", " ")
    assert "Known names include 'reader 0'" in call("recommend", "run", "--user", "zed").output.replace("\n", " ")


def test_generated_user_names_are_accepted():
    from hgraph.cli.recommend import _user

    data = Interactions.from_pairs(
        [[0, 1], [0, 1]], [[], []], [[], []], KnowledgeGraph.from_names([("a", "r", "b")]), num_users=2, num_items=2
    )
    assert _user("user 1", data) == _user("1", data) == 1
    for wrong in ("user 2", "user", "user x", "users 1"):
        with pytest.raises(ArgumentError, match=r"a number in 0 .. 1"):
            _user(wrong, data)


def test_a_folder_of_interactions_is_not_a_data_set_of_nodes(shop):
    for words in (("distill", "shop"), ("datasets", "info", "shop"), ("train", "shop", "--model", "gcn")):
        done = call(*words)
        assert done.exit_code == 2
        assert "'shop', a folder of interactions" in " ".join(done.output.split())


def test_duplicates_are_counted_in_the_log(shop):
    assert "1 of 97 pairs repeat others and are merged." in datasets.from_interactions(shop).caveats
    call("train", "shop", "--model", "bprmf", "--epochs", 1, "--hidden", 4, "--out", "run", "--quiet")
    assert "1 of 97 pairs repeat" in (shop.parent / "run" / "report.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------------- the files


def test_own_interactions(shop):
    data = datasets.from_interactions(shop, val=0.1, test=0.1)[0]
    assert (data.num_users, data.num_items) == (24, len({n for n in data.kg.node_names if n.startswith("book")}))
    assert data.train.num_edges + data.val.num_edges + data.test.num_edges == 96  # the repeated pair counts once
    assert data.kg.find_triples("book 3", "is a")[0].tail == "crime"
    without = datasets.from_interactions(shop / "interactions.csv")
    assert without[0].kg.num_edges == 0
    assert without[0].kg.num_nodes == data.num_items
    assert not without.redistribute


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("interactions.csv", "user;item\nann;Dune\n;Emma\n", "row 3: expected a value in column 'user'"),
        ("interactions.csv", "user,thing\nann,Dune\n", ":1: expected a column 'item', got user, thing"),
        ("interactions.csv", "user,item\n", "no interactions"),
        ("interactions.csv", "", ":1: expected the column names"),
        ("triples.csv", "head,relation,tail\na,b\n", "triples.csv"),
        ("triples.csv", "head,relation,tail\na,,c\n", "row 2: expected a value in column 'relation'"),
    ],
)
def test_bad_files_are_refused_with_their_place(shop, name, content, message):
    (shop / name).write_text(content)
    with pytest.raises(DataError, match=message):
        datasets.from_interactions(shop)


def test_a_shop_of_six_items_and_one_without_training_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    write(
        tmp_path / "small" / "interactions.csv",
        ["user", "item"],
        [(u, i) for u in range(5) for i in range(6) if u != i],
    )
    done = call("train", "small", "--model", "bprmf", "--epochs", 2, "--out", "run", "--quiet")
    assert done.exit_code == 0, done.output
    assert "recall@6" in done.output
    (tmp_path / "one").mkdir()
    write(tmp_path / "one" / "interactions.csv", ["user", "item"], [("ann", "Dune")])
    with pytest.raises(DataError, match="every user has either all items or none"):
        datasets.own_interactions.from_interactions(tmp_path / "one")


def test_a_run_without_a_checkpoint_starts_over(shop, caplog):
    from hgraph.cli.runs import begin

    place = begin(shop.parent / "run", {"seed": 0}, overwrite=False)
    with caplog.at_level("INFO", logger="hgraph"):
        begin(shop.parent / "run", {"seed": 0}, overwrite=False)
        (place / "model.safetensors").write_bytes(b"x")
        begin(shop.parent / "run", {"seed": 0}, overwrite=False)
    first, second = (record.getMessage() for record in caplog.records)
    assert "so it starts over" in first
    assert "holds a stopped run: resuming" in second


def test_a_name_of_a_user_and_of_an_entity_is_reported(tmp_path, caplog):
    write(tmp_path / "interactions.csv", ["user", "item"], [("ann", "Dune"), ("ann", "Ubik"), ("bob", "Dune")])
    write(tmp_path / "triples.csv", ["head", "relation", "tail"], [("ann", "likes", "space"), ("Dune", "is", "space")])
    found = datasets.from_interactions(tmp_path, val=0, test=0)
    assert "1 names, such as 'ann', belong to a user and to an entity" in found.caveats[-1]
    assert found.caveats[-1] in caplog.text
    write(tmp_path / "triples.csv", ["head", "relation", "tail"], [("Dune", "interacts with", "space")])
    data = datasets.from_interactions(tmp_path, val=0, test=0)[0]
    with pytest.raises(ArgumentError, match="relation_names: expected no relation named 'interacts with'"):
        data.collaborative()


def test_a_folder_of_neither_kind_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    done = call("train", "empty", "--model", "kgat")
    assert done.exit_code == 2
    assert "neither card.json (a built data set) nor interactions.csv" in " ".join(done.output.split())
