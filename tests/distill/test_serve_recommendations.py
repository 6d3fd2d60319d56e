"""A recommender over HTTP: the items of `hgraph recommend`, and what is refused."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request

import pytest

from hgraph import KnowledgeGraph, train
from hgraph.cli.recommend import ranking
from hgraph.data import Interactions


@pytest.fixture(scope="module")
def shop():
    kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert"), ("Ubik", "by", "Dick"), ("Solaris", "by", "Lem")])
    order = {name: i for i, name in enumerate(kg.node_names)}
    items = [order[n] for n in ("Dune", "Ubik")]
    pairs = [[0, 1, 1], [items[0], items[0], items[1]]]
    none = [[], []]
    data = Interactions.from_pairs(
        pairs, none, none, kg, num_users=2, num_items=kg.num_nodes, user_names=["ann", "ben"]
    )
    return train.build_model("bprmf", data, seed=0).eval(), data


def test_ranking_is_that_of_recommend(shop):
    model, data = shop
    rank, name = ranking(model, data)
    assert name(1) == "ben"
    expected = train.recommend(model, data, [1], 3)
    assert [item for item, _ in rank("ben", 3)] == [data.kg.node_names[i] for i in expected.items[0].tolist()]
    assert [score for _, score in rank("ben", 3)] == pytest.approx(expected.scores[0].tolist())
    left = {name for name, _ in rank("ann", 100)}
    assert left == set(data.kg.node_names) - {"Dune"}  # what she has is left out


@pytest.fixture(scope="module")
def url(shop):
    pytest.importorskip("fastapi", reason="needs FastAPI: pip install hgraph[serve]")
    from hgraph.distill.serving.recommend import recommendations
    from hgraph.distill.serving.serve import listening, server_of

    server = server_of(recommendations(ranking(*shop)[0], {"model": "bprmf"}))
    place = listening("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{place.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def post(url, body):
    request = urllib.request.Request(
        f"{url}/recommend", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_items_over_http(url, shop):
    status, body = post(url, {"user": "ben", "k": 2})
    assert status == 200
    assert [(i["item"], i["score"]) for i in body["items"]] == [
        (name, pytest.approx(score)) for name, score in ranking(*shop)[0]("ben", 2)
    ]
    assert len(post(url, {"user": "ben"})[1]["items"]) == shop[1].num_items - 2
    for path, expected in (("/health", {"status": "ok"}), ("/", {"model": "bprmf"})):
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            assert json.load(answer) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"user": "nobody"}, "user: unknown user 'nobody'"),
        ({}, "body: expected"),
        ([], "body: expected"),
        ({"user": ["ann"]}, "body: expected"),
        ({"user": True}, "body: expected"),
        ({"user": "ann", "n": 3}, "body: expected"),
        ({"user": "ann", "k": 0}, "k: expected"),
        ({"user": "ann", "k": 10**9}, "k: expected"),
        ({"user": "ann", "k": True}, "k: expected"),
    ],
)
def test_wrong_requests(url, body, message):
    status, answer = post(url, body)
    assert status == 422
    assert answer["detail"].startswith(message)
    assert "ben" not in answer["detail"]  # no names of other users
