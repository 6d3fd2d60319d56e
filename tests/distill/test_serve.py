"""A student behind HTTP, and the commands that use a run's student."""

from __future__ import annotations

import http.client
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

import pytest
import torch
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.cli.students import _request
from hgraph.datasets import load
from hgraph.distill import Predictor, export
from hgraph.errors import DataError
from hgraph.models import MLP
from hgraph.train import seeded

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def student(tmp_path):
    with seeded(0):
        mlp = MLP(3, 8, 2).eval()
    export(mlp, tmp_path / "s", X, class_names=["no", "yes"], feature_names=["a", "b", "c"])
    return tmp_path / "s"


@pytest.fixture
def url(student):
    """The address of a real server on loopback."""
    with served(student) as address:
        yield address


@contextmanager
def served(student, **limits):
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from hgraph.distill.serving.limits import Limits
    from hgraph.distill.serving.serve import application, listening, server_of

    bounds = Limits(**limits)
    server = server_of(application(Predictor(student), bounds), bounds)
    place = listening("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{place.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def post(url, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + "/predict", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_rows_are_predicted_over_http(url, student):
    rows = [dict(zip("abc", row, strict=True)) for row in X.tolist()]
    status, body = post(url, {"rows": rows})
    assert status == 200
    expected = Predictor(student).answers(X)
    assert [a["label"] for a in body["answers"]] == [a.label for a in expected]
    assert body["answers"][3]["probability"] == pytest.approx(expected[3].probability, abs=1e-6)
    (single,) = post(url, {"row": rows[0]})[1]["answers"]
    assert single["probability"] == pytest.approx(body["answers"][0]["probability"], abs=1e-6)
    assert post(url, {"rows": []}) == (200, {"answers": []})
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert json.load(answer) == {
            "columns": ["a", "b", "c"], "classes": ["no", "yes"], "program": "layers", "task": "classification"
        }  # fmt: skip


def test_the_server_describes_itself_without_other_hosts(url):
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        paths = json.load(answer)["paths"]
    assert {"/", "/health", "/predict"} <= set(paths)
    schema = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert list(schema["properties"]["row"]["properties"]) == ["a", "b", "c"]
    with urllib.request.urlopen(f"{url}/docs", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/html")
        page = answer.read().decode()
    assert "POST /predict" in page
    assert "://" not in page
    assert "<script" not in page


def test_all_probabilities_on_request(url, student):
    rows = [dict(zip("abc", row, strict=True)) for row in X.tolist()]
    status, body = post(url, {"rows": rows, "proba": True})
    assert status == 200
    expected = Predictor(student).probabilities(X)
    for answer, row in zip(body["answers"], expected.tolist(), strict=True):
        assert answer["probabilities"] == pytest.approx({"no": row[0], "yes": row[1]}, abs=1e-6)
        assert answer["probability"] == max(answer["probabilities"].values())
    assert "probabilities" not in post(url, {"row": rows[0], "proba": False})[1]["answers"][0]
    assert post(url, {"row": rows[0], "proba": "yes"})[0] == 422
    assert post(url, {"proba": True})[0] == 422


@pytest.mark.parametrize(
    ("kind", "got"), [("application/x-www-form-urlencoded",) * 2, ("text/plain; x=y", "text/plain")]
)
def test_a_body_without_the_json_content_type_is_refused(url, kind, got):
    request = urllib.request.Request(url + "/predict", b'{"row": {"a": 1, "b": 2, "c": 3}}', {"Content-Type": kind})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 415
    assert json.load(caught.value)["detail"] == f"expected the header Content-Type: application/json, got {got}"


def test_the_example_request_works(url, student):
    words = shlex.split(_request(Predictor(student), url))
    assert words[:4] == ["curl", "-X", "POST", f"{url}/predict"]
    status, body = post(url, json.loads(words[-1]))
    assert (status, len(body["answers"])) == (200, 1)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ({"rows": [{"a": 1, "b": 2}]}, "'c' is missing"),
        ({"rows": [{"a": 1, "b": 2, "c": "x"}]}, "expected numbers"),
        ({"rows": [{"a": 1, "b": 2, "c": [3]}]}, "one value"),
        ({"rows": [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": "nan", "c": 3}]}, "row 1: column 'b': expected a finite"),
        ({"row": {"a": 1, "b": 2, "c": 1e39}}, "finite number"),
        ({"row": {"a": 1, "b": None, "c": 1}}, "expected numbers"),
        (b'{"row": {"a": 1e999, "b": 2, "c": 3}}', "finite number"),
        (b'{"row": {"a": NaN, "b": 2, "c": 3}}', "finite number"),
        (b'{"row": ' + b"[" * 200_000, "parsing the body"),
        (b'{"row": "\xff"}', "parsing the body"),  # not UTF-8
        (b"\xff\xfe", "JSON"),  # a UTF-16 mark without text
        ({"rows": [[1, 2, 3]]}, "row 0"),
        (b'{"row": {"a": 1' + b"0" * 400 + b', "b": 2, "c": 3}}', "expected numbers"),  # too large for a float
        ({"rows": {"a": 1}}, "list"),
        ({"rows": [{}] * 10_001}, "10000"),
        ({"lines": []}, "body"),
        ([], "body"),
        (b"{", "JSON"),
    ],
)
def test_bad_requests_get_an_error_message(url, body, match):
    status, answer = post(url, body)
    assert 400 <= status < 500
    assert match in json.dumps(answer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped(student, number):
    """It prints its address, finishes the running request, prints no traceback, and exits with code 0."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "hgraph.cli", "serve", str(student), "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        rows = [dict(zip("abc", row, strict=True)) for row in X.tolist()] * 400
        assert post(url, {"rows": rows[:20]})[0] == 200
        late = []
        thread = threading.Thread(target=lambda: late.append(post(url, {"rows": rows})))
        thread.start()
        time.sleep(0.03)
        process.send_signal(number)
        thread.join(20)
        process.wait(20)
        assert late[0][0] == 200
        assert len(late[0][1]["answers"]) == 8000
        assert (process.returncode, process.stderr.read()) == (0, "")
    taken = socket.create_server(("127.0.0.1", 0))
    result = call("serve", student, "--port", taken.getsockname()[1])
    taken.close()
    assert result.exit_code == 2
    assert "0 chooses a free port" in result.stderr


def test_predictions_as_json_lines(student, tmp_path):
    (tmp_path / "rows.csv").write_text("a,b,c\n1,2,3\n-1,0,1\n")
    result = call("predict", student, tmp_path / "rows.csv", "--json")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    expected = Predictor(student).answers(torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]]))
    assert [a["label"] for a in answers] == [a.label for a in expected]
    assert answers[1]["probability"] == pytest.approx(expected[1].probability, abs=1e-5)
    assert result.stderr == "2 rows predicted\n"
    assert call("predict", student, tmp_path / "rows.csv", "--quiet").stderr == ""


def test_a_run_predicts_and_exports(tmp_path):
    run = tmp_path / "run"
    made = call("distill", "karate", "--teacher", "gcn", "--epochs", "3", "--out", run, "--quiet")
    assert made.exit_code == 0, made.output
    data, rows = load("karate")[0], tmp_path / "rows.csv"
    predictor = Predictor(run / "student")
    lines = [",".join(predictor.columns)] + [",".join(map(str, row)) for row in data.x.tolist()]
    rows.write_text("\n".join(lines) + "\n")
    result = call("predict", run, rows)
    assert result.exit_code == 0, result.output
    printed = result.stdout.splitlines()
    assert printed[0] == "label,probability"
    assert [line.split(",")[0] for line in printed[1:]] == [a.label for a in predictor.answers(data.x)]
    assert call("predict", run, rows, "--out", tmp_path / "a.csv").exit_code == 0
    assert (tmp_path / "a.csv").read_text() == result.stdout
    again = call("export", run, "--format", "torch", "--json")
    assert json.loads(again.stdout)["largest_deviation"]["torch"] < 1e-5
    assert Predictor(run / "export").columns == predictor.columns
    assert call("export", run, "--format", "torch").exit_code == 2  # the folder is there


def test_bad_rows_and_runs_give_one_line_and_no_file(tmp_path, student):
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b,c\n1,2,3\n1,2\n")
    result = call("predict", student, rows, "--out", tmp_path / "a.csv")
    assert result.exit_code == 2
    assert "rows.csv:3" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.csv", "s"]
    nothing = call("predict", tmp_path, rows)
    assert nothing.exit_code == 2
    assert "hgraph distill" in nothing.stderr


# ---------------------------------------------------------------------- limits

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ROW = b'{"row": {"a": 1, "b": 2, "c": 3}}'


def connected(url):
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)


def raw(url, request):
    """The response of the server to raw bytes."""
    with connected(url) as client:
        client.sendall(request)
        return client.recv(65_536)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:9"}, 200),
        ({"Host": "LOCALHOST."}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "evil.example:80@localhost"}, 421),
        ({"Host": "localhost/evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_requests_of_other_sites_are_refused(url, headers, status):
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=10)
    connection.request("GET", "/", headers=headers)
    answer = connection.getresponse()
    assert answer.status == status
    assert ("detail" if status > 400 else "columns") in json.load(answer)
    connection.close()


def test_a_response_does_not_wait_for_an_acknowledgement():
    from hgraph.distill.serving.serve import listening

    with listening("127.0.0.1", 0) as place, socket.create_connection(place.getsockname()):
        accepted, _ = place.accept()
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        accepted.close()


def test_a_long_body_is_refused_before_it_is_read(student):
    with served(student, max_body=1000) as url:
        assert b" 413 " in raw(url, HEAD + b"Content-Length: 300000000\r\n\r\n")
        chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
        assert b" 413 " in raw(url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 2 * chunk)
        assert post(url, ROW)[0] == 200


def test_incomplete_and_silent_clients_are_disconnected(student):
    """More silent clients than connections: later clients are served after the timeout."""
    with served(student, request_timeout=0.3, max_connections=20) as url:
        assert b" 408 " in raw(url, HEAD + b"Content-Length: 50\r\n\r\n{")
        kinds = (b"", b"POST /pre", HEAD, HEAD + b"Content-Length: 50\r\n\r\n")
        clients = []
        for i in range(60):
            clients.append(connected(url))
            with suppress(OSError):
                clients[-1].sendall(kinds[i % 4])
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                assert post(url, ROW)[0] == 200
                break
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        else:
            pytest.fail("the silent clients were not disconnected")
        for client in clients:
            client.close()


def test_an_incomplete_request_does_not_delay_the_shutdown(student):
    begin = time.monotonic()
    with served(student, request_timeout=60, stop_timeout=1) as url:
        client = connected(url)
        client.sendall(HEAD + b"Content-Length: 50\r\n\r\n{")
        time.sleep(0.1)
    client.close()
    assert time.monotonic() - begin < 10


def test_many_clients_get_the_same_predictions(student):
    """Bounded load: 8 clients with 25 requests each, on persistent connections."""
    rows = [dict(zip("abc", row, strict=True)) for row in X.tolist()]
    expected = [a.label for a in Predictor(student).answers(X)]
    wrong = []
    with served(student) as url:

        def client(seed):
            connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=20)
            for i in range(25):
                at = (seed + i) % len(rows)
                connection.request(
                    "POST", "/predict", json.dumps({"row": rows[at]}), {"Content-Type": "application/json"}
                )
                (answer,) = json.load(connection.getresponse())["answers"]
                if answer["label"] != expected[at]:
                    wrong.append(at)
            connection.close()

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_a_parent_that_reads_one_line_does_not_block_the_server(student):
    """More requests than log lines that fit into a pipe: 1,200."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "hgraph.cli", "serve", str(student), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = json.loads(process.stdout.readline())["url"]
        connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=20)
        for _ in range(1200):
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b'{"status":"ok"}'
        connection.close()
        process.terminate()
        assert process.wait(20) == 0


def test_features_that_overflow_are_refused_by_row(tmp_path):
    linear = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(linear.weight, 10.0)
    export(linear, tmp_path / "s", X, feature_names=["a", "b", "c"])
    predictor = Predictor(tmp_path / "s")
    with pytest.raises(DataError, match=r"row 1: expected features with finite logits, got features up to 3e\+38"):
        predictor.answers(torch.tensor([[1.0, 2.0, 3.0], [3e38, 3e38, 3e38]]))
