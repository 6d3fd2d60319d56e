"""The benchmark suites: nothing wrong is timed, what is written down has one schema, every case can be made."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from hgraph.benchmarks import (
    attention,
    cases,
    compare,
    growth,
    harness,
    launch,
    locality,
    models,
    networks,
    ops,
    peak,
    picture,
    records,
    reference,
    runner,
)
from hgraph.errors import ArgumentError
from hgraph.models import GAT, GCN, HGNN, HGNNP
from hgraph.ops import current_backend
from hgraph.structure import Adjacency, Graph, Hypergraph
from hgraph.testing import random_adjacency

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")  # PyG's matrices, as torch sees them
QUICK = harness.Setting(rounds=2, seconds=0.0)


def case(**methods):
    return harness.Case("two", {"hgraph": lambda: torch.ones(3), **methods})


# ---------------------------------------------------------------------- what is timed


def test_a_method_that_computes_something_else_is_not_timed():
    def fails():
        raise RuntimeError("not for\n  this torch")

    measured = harness.run(
        case(same=lambda: torch.ones(3), off=lambda: torch.ones(3) * 1.01, long=lambda: torch.ones(4), fails=fails),
        QUICK,
    )
    assert set(measured.times) == {"hgraph", "same"}
    assert all(len(times) == 2 and min(times) > 0 for times in measured.times.values())
    assert measured.left_out["off"].startswith("differs by 0.01")
    assert measured.left_out["long"] == "differs by inf"
    assert measured.left_out["fails"] == "RuntimeError: not for this torch"


def test_nan_differs():
    measured = harness.run(case(nan=lambda: torch.tensor([1.0, float("nan"), 1.0])), QUICK)
    assert measured.left_out == {"nan": "differs by nan"}


def test_nothing_is_timed_when_hgraph_is_wrong():
    calls = []
    wrong = harness.Case(
        "two", {"hgraph": lambda: torch.zeros(3), "peer": lambda: calls.append(1) or torch.ones(3)},
        expected=lambda: torch.ones(3),
    )  # fmt: skip
    with pytest.raises(harness.DifferenceError, match="two: hgraph differs"):
        harness.run(wrong, QUICK)
    assert not calls


def test_an_epoch_is_held_against_gradients_and_limits_against_nothing():
    counted = harness.Case(
        "epochs",
        {"hgraph": lambda: torch.rand(1), "peer": lambda: torch.rand(2)},
        limits={"limit: less": lambda: None},
        checks={"hgraph": lambda: torch.ones(2), "peer": lambda: torch.ones(2)},
    )
    assert set(harness.run(counted, QUICK).times) == {"hgraph", "peer", "limit: less"}
    assert set(harness.run(counted, harness.Setting(rounds=2, seconds=0.0, own=True)).times) == {"hgraph"}


def test_methods_take_turns_and_slow_ones_stop_early():
    turns = []
    methods = {name: (lambda n=name: turns.append(n)) for name in ("a", "b")}
    times = harness.interleaved(methods, {"a": 100.0, "b": 20.0}, harness.Setting(rounds=5, seconds=0.3))
    rounds = [sorted(turns[i : i + 2]) for i in range(0, 6, 2)]
    assert rounds == [["a", "b"]] * 3
    assert turns[:6] != ["a", "b"] * 3  # not always one after the other
    assert turns[6:] == ["b", "b"]
    assert {name: len(t) for name, t in times.items()} == {"a": 3, "b": 5}


def test_one_thread_is_charged_its_own_time_alone():
    import time

    asleep = harness.interleaved({"a": lambda: time.sleep(0.05)}, {"a": 50.0}, harness.Setting(rounds=2))
    waiting = harness.interleaved({"a": lambda: time.sleep(0.05)}, {"a": 50.0}, harness.Setting(threads=2, rounds=2))
    assert max(asleep["a"]) < 25
    assert min(waiting["a"]) >= 50


def test_several_outputs_are_all_compared():
    assert harness.difference((torch.ones(2), torch.zeros(2)), (torch.ones(2), torch.ones(2))) == 1.0
    assert harness.difference(torch.empty(0, 3), torch.empty(0, 3)) == 0.0


# ---------------------------------------------------------------------- what the ops suite compares


def adjacency():
    adj = random_adjacency(40, 30, 200, weighted=True, seed=1)
    return adj.with_weight(adj.weight.float())


@pytest.mark.parametrize("width", [16, 64, 128])
def test_the_reference_loops_compute_sums_and_maxima(width):
    if reference.library() is None:
        pytest.skip("no C++ compiler")
    adj = adjacency()
    x = torch.randn(30, width)
    torch.testing.assert_close(reference.reduce_rows(adj, x).double(), ops.summed(adj, x), rtol=1e-5, atol=1e-5)
    largest = torch.zeros(40, width)
    for t in range(40):
        edges = range(int(adj.indptr[t]), int(adj.indptr[t + 1]))
        if len(edges):
            largest[t] = torch.stack([adj.weight[e] * x[adj.indices[e]] for e in edges]).amax(0)
    torch.testing.assert_close(reference.reduce_rows(adj, x, largest=True), largest)
    with pytest.raises(NotImplementedError, match="17 features"):
        reference.reduce_rows(adj, torch.randn(30, 17))


@pytest.mark.parametrize("heads", [1, 8])
def test_the_reference_softmax_sums_to_one(heads):
    if reference.library() is None:
        pytest.skip("no C++ compiler")
    adj = adjacency()
    share = reference.softmax_rows(adj, torch.randn(adj.num_edges, heads) * 5)
    total = torch.zeros(40, heads).index_add(0, adj.target, share)
    torch.testing.assert_close(total[adj.indptr.diff() > 0], torch.ones(int((adj.indptr.diff() > 0).sum()), heads))


def small():
    adj = adjacency()
    return adj, torch.randn(30, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [ops.sums, ops.sums_both_ways, ops.means, ops.maxima])
def test_every_way_to_reduce_agrees(make):
    measured = harness.run(make(small, "small", "cpu"), QUICK)
    assert not measured.left_out
    assert "hgraph" in measured.times
    assert len(measured.times) > 3


def test_every_way_to_attend_agrees(monkeypatch):
    monkeypatch.setattr(cases, "arxiv128", lambda **_: (square(), torch.zeros(50, 1)))
    for name, make in ops.suite("cpu").items():
        if name.startswith(("softmax", "attend")):
            measured = harness.run(make(), QUICK)
            assert not measured.left_out, name
            assert "hgraph" in measured.times


def square() -> Adjacency:
    return random_adjacency(50, 50, 300, seed=2)


def test_cases_have_their_sizes():
    adj, x = cases.grown(1000)
    assert adj.num_targets == 100
    assert abs(adj.num_edges - 1000) < 100
    assert x.shape == (100, 32)
    mesh = cases.mesh(5)
    assert (mesh.num_nodes, mesh.num_edges, mesh.directed) == (25, 200, False)
    groups = cases.communities(1000, 20, 10)
    assert groups.num_nodes == 1000
    assert 8000 < groups.num_edges < 10000


# ---------------------------------------------------------------------- what is written down


def test_rows_have_one_schema_and_say_why_a_method_is_missing(tmp_path, monkeypatch):
    suite = {"two": lambda: case(off=lambda: torch.zeros(3)), "not this one": lambda: pytest.fail("not asked for")}
    monkeypatch.setattr(ops, "suite", lambda device: suite)
    rows, refused = runner.run_suite("ops", QUICK, "two")
    assert refused == 0
    assert [tuple(row) for row in rows] == [records.FIELDS] * 2
    own, off = rows
    assert (own["method"], own["ratio_to_hgraph"], own["rounds"], own["clock"]) == (
        "hgraph",
        "1.000",
        "2",
        "process CPU time",
    )
    assert float(own["min"]) <= float(own["median"])
    assert (off["min"], off["rounds"], off["note"]) == ("", "0", "left out: differs by 1")
    assert records.read_csv(records.save(tmp_path / "a" / "ops.csv", rows)) == rows
    assert not list(tmp_path.glob("a/*.tmp"))
    text = records.table(rows)
    assert "two: ms, 1 thread(s), process CPU time" in text
    assert "left out: differs by 1" in text
    picture.draw(rows, tmp_path / "ops.png")
    assert (tmp_path / "ops.png").read_bytes().startswith(b"\x89PNG")


def test_a_refused_case_gives_no_row_and_exit_code_1(tmp_path, monkeypatch, capsys):
    wrong = harness.Case("two", {"hgraph": lambda: torch.zeros(1)}, expected=lambda: torch.ones(1))
    lacking = lambda: (_ for _ in ()).throw(harness.NotHereError("no such pattern"))  # noqa: E731
    monkeypatch.setattr(ops, "suite", lambda device: {"two": lambda: wrong, "three": lacking})
    assert runner.main(["ops", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAILED two: hgraph differs" in printed
    assert "three: not run: no such pattern" in printed
    assert not list(tmp_path.iterdir())


def test_what_was_measured_before_a_stop_is_kept(tmp_path, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(ops, "suite", lambda device: {"two": case, "three": stop})
    with pytest.raises(KeyboardInterrupt):
        runner.main(["ops", "--out", str(tmp_path)])
    assert [row["case"] for row in records.read_csv(tmp_path / "ops.csv")] == ["two"]


def test_cases_that_are_not_run_again_stay(tmp_path, monkeypatch):
    suite = {"one": case, "two": lambda: case(peer=lambda: torch.ones(3)), "three": case}
    monkeypatch.setattr(ops, "suite", lambda device: suite)
    path = tmp_path / "ops.csv"
    assert runner.main(["ops", "--out", str(tmp_path), "--rounds", "2"]) == 0
    first = records.read_csv(path)
    records.save(path, [{k: v for k, v in row.items() if k != "commit"} for row in first])  # of an older version
    suite["two"], suite["four"] = case, suite.pop("one")  # a method less; a case under a new name
    assert runner.main(["ops", "--out", str(tmp_path), "--rounds", "3", "--only", "two"]) == 0
    kept = records.read_csv(path)
    assert [(row["case"], row["rounds"]) for row in kept] == [("two", "3"), ("three", "2")]
    assert kept[1] == first[3] | {"commit": ""}


def test_a_slow_first_call_is_its_first_round():
    times = harness.interleaved({"a": lambda: None}, {"a": 400.0}, harness.Setting(rounds=5, seconds=0.3))
    assert len(times["a"]) == 2
    assert times["a"][0] == 400.0


def test_every_setting_of_the_allocator_starts_from_nothing(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    default = launch.environment(2, "default")
    assert not {"THP_MEM_ALLOC_ENABLE", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(default)
    assert default["OMP_NUM_THREADS"] == default["NUMBA_NUM_THREADS"] == "2"
    assert launch.environment(1, "huge-pages")["THP_MEM_ALLOC_ENABLE"] == "1"
    assert records.allocator() == "huge pages"


# ---------------------------------------------------------------------- two commits


def test_a_commit_that_is_not_there_is_refused():
    with pytest.raises(ArgumentError, match="no-such-commit"):
        compare.commit_of("no-such-commit")


def test_these_suites_measure_an_hgraph_from_another_folder(tmp_path):
    """The start of --compare: the library is imported from the given folder, the suites from this checkout."""
    script = launch._START.replace("sys.exit(main(sys.argv[2:]))", "print(hgraph.__file__, main.__code__.co_filename)")
    other = tmp_path / "other" / "hgraph"
    other.parent.mkdir()
    os.symlink(records.RESULTS.parents[1] / "hgraph", other)
    done = subprocess.run(
        [sys.executable, "-c", script, str(records.RESULTS.parent)], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": launch._path(other.parent)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    library, suites = done.stdout.split()
    assert library.startswith(str(other.parent))
    assert suites == str(records.RESULTS.parent / "runner.py")


def test_then_and_now_side_by_side(tmp_path, monkeypatch):
    asked, trees = [], set()

    def measured(tree, suites, arguments, **_):
        assert suites == (compare.root() / "benchmarks").resolve()
        out = tmp_path.__class__(arguments[arguments.index("--out") + 1])
        asked.append("now" if tree == compare.root() else "then")
        trees.add(tree)
        value = "1.0" if asked[-1] == "now" else str(3.0 - 0.5 * len(asked))
        facts = dict.fromkeys(
            ("unit", "threads", "clock", "device", "date", "cpu", "load", "allocator", "python", "torch"), "-"
        )
        row = {"suite": "ops", "case": "two", "method": "hgraph", "min": value, "commit": asked[-1], **facts}
        row["backend"] = "native" if asked[-1] == "now" else "torch"
        records.save(out / "ops.csv", [row])
        return 0

    monkeypatch.setattr(launch, "start_on", measured)
    (row,) = compare.compare("HEAD", ["ops"], [], threads=1, allocator="default")
    assert asked == ["then", "now"] * 3
    assert (row["then_min"], row["now_min"], row["then_over_now"]) == ("0.5000", "1.0000", "0.500")
    assert (row["commit_then"], row["commit_now"], row["processes"]) == ("then", "now", "3")
    assert "0.500" in compare.table([row])
    assert "then: torch backend, now: native" in compare.table([row])
    (then,) = trees - {compare.root()}
    command = ["git", "-C", compare.root(), "worktree", "list"]
    assert str(then) not in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert not then.exists()


@pytest.mark.skipif(not (records.RESULTS.parents[1] / ".git").exists(), reason="no checkout")
def test_the_commit_is_known():
    assert len(records.commit().rstrip("+")) == 9


# ---------------------------------------------------------------------- what the other suites measure


def test_renumbered_graphs_answer_as_the_given_one(monkeypatch):
    monkeypatch.setattr(locality, "_mesh", lambda: (cases.mesh(8), torch.randn(64, 16)))
    measured = harness.run(locality.renumbered(locality._mesh, "mesh"), QUICK)
    assert not measured.left_out
    assert {f"reordered by {m}" for m in locality.METHODS} <= set(measured.times)


@pytest.mark.parametrize("name", growth.CALLS)
def test_what_grows_can_be_called_at_any_size(name):
    assert growth.CALLS[name](600)() is not None


def test_windows_in_blocks_are_windows():
    q, k, v = (x[:600] for x in attention.inputs(600))
    torch.testing.assert_close(attention.in_blocks(q, k, v, 100), attention.dense(q, k, v), rtol=1e-4, atol=1e-5)


def test_memory_of_a_call_is_measured_above_its_inputs():
    assert 60 < peak.peak_mib(make_large) < 120  # 64 MiB


def make_large():
    kept = torch.zeros(2**22)
    return lambda: kept.repeat(4)


def test_networks_of_the_peers_agree():
    pytest.importorskip("torch_geometric")
    x, y = torch.randn(12, 5), torch.arange(12) % 3
    graph = Graph.from_edge_index([[0, 1, 2, 5, 5], [1, 2, 3, 6, 7]], num_nodes=12, directed=False)
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3], [5, 7, 8]], num_nodes=12)
    gcn, gat = GCN(5, 4, 3, dropout=0.0), GAT(5, 4, 3, num_heads=2, dropout=0.0)
    cells = {
        "gcn": (networks.Bound(gcn, graph), [networks.GCNOnPyG(gcn, graph, csr=csr) for csr in (False, True)]),
        "gat": (networks.Bound(gat, graph), [networks.GATOnPyG(gat, graph)]),
    }
    for kind, symmetric in ((HGNN, True), (HGNNP, False)):
        model = kind(5, 4, 3, dropout=0.0)
        peer = networks.HypergraphOnPyG(model, hypergraph, symmetric=symmetric)
        cells[kind.__name__] = networks.Bound(model, hypergraph), [peer]
    for own, others in cells.values():
        found = {"hgraph": own, **{f"peer {i}": other for i, other in enumerate(others)}}
        for make in (models.inference, models.epochs):
            measured = harness.run(make(lambda f=found: (f, networks.Dense(5, 4, 3), x, y), "small"), QUICK)
            assert not measured.left_out
            assert len(measured.times) == len(found) + 1


def test_gradients_beside_hgraph_go_back_by_the_same_backend_as_they_went_forward(native_present):
    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            seen.append(current_backend())
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            seen.append(current_backend())
            return grad

    x, seen = torch.ones(2, requires_grad=True), []
    methods = harness.own(lambda: Watched.apply(x))
    for method in methods.values():
        harness.gradient(method, [x], torch.ones(2))()
    assert list(methods) == ["hgraph", "hgraph (torch)"]
    assert seen == ["native", "native", "torch", "torch"]
