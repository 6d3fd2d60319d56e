"""Ratings, times and triples of interactions: used on request, logged otherwise."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.datasets import from_interactions
from hgraph.datasets.pairs import last_of_users
from hgraph.errors import ArgumentError, DataError

# user, item, rating, timestamp; (a, x) is rated again, lower, later
ROWS = [("a", "x", 5, 1), ("a", "y", 4, 2), ("a", "z", 2, 3), ("b", "x", 5, 4), ("b", "y", 1, 5), ("c", "z", 4, 6),
        ("a", "x", 3, 7), ("b", "z", 5, 8)]  # fmt: skip


def shop(folder, rows=ROWS, header=("user", "item", "rating", "timestamp"), triples=None):
    files = {"interactions.csv": (header, rows)}
    if triples is not None:
        files["triples.csv"] = (("head", "relation", "tail"), triples)
    for name, (head, lines) in files.items():
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *lines])
    return folder


def named(data, part):
    users, items = list(data.user_names), list(data.kg.node_names)
    pairs = getattr(data, part)
    return sorted((users[u], items[i]) for u, i in zip(pairs.target.tolist(), pairs.indices.tolist(), strict=True))


@pytest.mark.reported(
    "RUCAIBox/RecBole #1862, #1007",
    "There is a rating column, but every pair counts as liked; a threshold is missing or has no effect.",
    "`--min-rating` drops lower pairs; without it, a note says that ratings are not used.",
)
@pytest.mark.checked(
    "shops", "A rating threshold drops pairs with a lower rating; if a pair has several ratings, the last one counts."
)
def test_rating_threshold(tmp_path):
    dataset = from_interactions(shop(tmp_path), min_rating=4, val=0, test=0)
    assert named(dataset[0], "train") == [("a", "y"), ("b", "x"), ("b", "z"), ("c", "z")]
    assert "Ratings of at least 4: 4 of 8 pairs, 3 of 3 users, 3 of 3 items." in dataset.caveats
    with pytest.raises(DataError, match="expected ratings of at least 6, the highest is 5"):
        from_interactions(tmp_path, min_rating=6)


@pytest.mark.checked("shops", "A note says when a rating or timestamp column is not used.")
def test_unused_columns_are_logged(tmp_path, caplog):
    dataset = from_interactions(shop(tmp_path), val=0, test=0)
    assert "Column 'rating' is not used: pairs count whatever their rating" in caplog.text
    assert "Column 'timestamp' is not used: training pairs may be later than held-out pairs" in caplog.text
    assert sum("is not used" in note for note in dataset.caveats) == 2
    caplog.clear()
    from_interactions(tmp_path, min_rating=1, split="time", val=0, test=0.2)
    assert "is not used" not in caplog.text


@pytest.mark.checked("shops", "Splits by time and by the last pair of each user hold out the latest pairs.")
def test_splits_by_time(tmp_path):
    shop(tmp_path)
    data = from_interactions(tmp_path, split="time", val=0, test=0.3)[0]
    assert named(data, "test") == [("a", "x"), ("b", "z")]
    last = from_interactions(tmp_path, split="last")[0]
    assert named(last, "test") == [("a", "x"), ("b", "z")]
    assert named(last, "val") == [("a", "z"), ("b", "y")]
    assert named(last, "train") == [("a", "y"), ("b", "x"), ("c", "z")]


def test_last_pairs_of_users_match_a_loop():
    draw = torch.Generator().manual_seed(0)
    user, times = torch.randint(6, (40,), generator=draw), torch.randint(9, (40,), generator=draw).double()
    parts = last_of_users(user, times)
    expected = [[], [], []]
    for u in range(6):
        rows = sorted((i for i in range(40) if user[i] == u), key=lambda i: (times[i], i))
        test = rows[-1:] if len(rows) >= 2 else []
        val = rows[-2:-1] if len(rows) >= 3 else []
        for part, ids in zip(expected, (rows[: len(rows) - len(test) - len(val)], val, test), strict=True):
            part += ids
    assert [part.tolist() for part in parts] == [sorted(ids) for ids in expected]
    pairs = last_of_users(torch.tensor([0, 1, 1]), torch.tensor([1.0, 2, 3]))
    assert [part.tolist() for part in pairs] == [[0, 1], [], [2]]


REFUSED = {
    "no rating": (
        {"min_rating": 3},
        ("user", "item", "x", "timestamp"),
        "expected one column 'rating'.*--column rating=NAME",
    ),
    "two times": ({"split": "time"}, ("user", "item", "time", "date"), "got 'time' and 'date'"),
    "no number": ({"min_rating": 3}, ("user", "item", "timestamp", "stars"), None),
}


@pytest.mark.parametrize(("options", "header", "said"), REFUSED.values(), ids=REFUSED)
def test_missing_or_ambiguous_columns_are_refused(options, header, said, tmp_path):
    rows = ROWS if said else [(*row[:3], "good") for row in ROWS]
    with pytest.raises(DataError, match=said or "row 2: column 'stars': expected a number or an ISO date, got 'good'"):
        from_interactions(shop(tmp_path, rows, header), **options)
    with pytest.raises(ArgumentError, match="'random', 'time' or 'last'"):
        from_interactions(tmp_path, split="latest")


@pytest.mark.checked("shops", "Triples without any item are an error; a note says how many items have a triple.")
def test_triples_without_items_are_refused(tmp_path):
    with pytest.raises(
        DataError, match="expected triples with items such as 'x', got 1 triples without items, such as one of 'X'"
    ):
        from_interactions(shop(tmp_path, triples=[("X", "by", "someone")]))
    dataset = from_interactions(shop(tmp_path, triples=[("x", "by", "someone"), ("Y", "by", "someone")]), val=0, test=0)
    assert "1 of 3 items occur in a triple." in dataset.caveats


@pytest.mark.reported(
    "RUCAIBox/RecBole #1079",
    "Items without any training pair are ranked and counted in the results, and nothing says so.",
    "Users and items that training never saw are counted and reported next to the results.",
)
@pytest.mark.checked("shops", "Test users and items that training never saw are counted and reported.")
def test_users_without_training_pairs_are_logged(tmp_path, caplog):
    dataset = from_interactions(shop(tmp_path), split="time", val=0, test=0.5)
    assert named(dataset[0], "train") == [("a", "y"), ("a", "z"), ("b", "x")]
    assert "1 of 3 users with test pairs have no training pair" in caplog.text
    assert any("1 of 3 users with test pairs" in note for note in dataset.caveats)


def test_the_command_saves_and_reuses_the_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    rows = [(f"u{u}", f"i{(u + 3 * t) % 7}", 5 - (t == 0), t) for u in range(8) for t in range(5)]
    shop(tmp_path / "shop", rows)
    given = [
        "train",
        "shop",
        "--model",
        "bprmf",
        "--epochs",
        "1",
        "--hidden",
        "2",
        "--split",
        "last",
        "--min-rating",
        "5",
    ]
    done = CliRunner().invoke(app, [*given, "--out", "run", "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["split"], config["min_rating"]) == ("last", 5)
    assert "--split last" in config["command"]
    again = CliRunner().invoke(app, ["evaluate", "run", "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["recall@7"] == json.loads(done.stdout)["recall@7"]
    refused = CliRunner().invoke(app, ["train", "karate", "--split", "last"])
    assert "split: expected no value" in refused.stderr
