"""Comparing, measuring, and the run folder."""

from __future__ import annotations

import io
import json
import math
import time
from itertools import groupby, pairwise

import pytest
import torch
from PIL import Image
from torch import nn

from hgraph.data import Data, Split
from hgraph.distill import compare, fit_temperature, latencies, report, write_report
from hgraph.distill.compare import Comparison, Measured
from hgraph.distill.serving.latency import Timing, timings
from hgraph.errors import ArgumentError
from hgraph.models import HGNN, MLP
from hgraph.train import FitResult, accuracy, expected_calibration_error, seeded
from hgraph.train.plots import spread

FILES = (
    "config.json", "metrics.jsonl", "learning_curve.png", "accuracy_latency.png", "confusion_matrix.png",
    "reliability.png", "structure.png", "mlp.safetensors", "teacher.safetensors", "student.safetensors", "report.md",
)  # fmt: skip
NAMES = {"mlp": "MLP", "teacher": "HGNN (teacher)", "student": "student"}


def networks():
    with seeded(0):
        return HGNN(24, 16, 3), MLP(24, 16, 3), MLP(24, 16, 3)


@pytest.fixture(scope="module")
def run(data):
    models = networks()
    return compare(*models, data, epochs=25, progress=False), models


@pytest.fixture(scope="module")
def write(data):
    def written(folder, run, **options):
        comparison, models = run
        options = {"title": "toy", "config": {"seed": 0, "command": "hgraph distill toy"}} | options
        networks = dict(zip(("teacher", "mlp", "student"), models, strict=True))
        return write_report(folder, comparison, networks, data, names=NAMES, **options)

    return written


def test_measurements_match_the_trained_models(run, data):
    comparison, (teacher, mlp, student) = run
    test, y = data.split().test, data.y
    for measured, model, inputs in [
        (comparison.mlp, mlp, (data.x,)),
        (comparison.teacher, teacher, (data.x, data.structure)),
        (comparison.student, student, (data.x,)),
    ]:
        logits = model(*inputs)[test]
        assert measured.test_accuracy == accuracy(logits, y[test])
        assert measured.ece == expected_calibration_error(logits, y[test])
        assert measured.parameters == sum(p.numel() for p in model.parameters())
        assert measured.unseen_accuracy is None
        assert torch.equal(measured.logits, logits)
        val = model(*inputs)[data.split().val]
        assert measured.temperature == fit_temperature(val, y[data.split().val])
        assert measured.calibrated_ece == expected_calibration_error(logits / measured.temperature, y[test])
        assert len(measured.fit.history) == 25
    assert comparison.teacher.latency_one_s == comparison.teacher.latency_all_s
    assert 0 < comparison.student.latency_one_s < comparison.teacher.latency_one_s
    assert list(comparison.student.figures()) == [
        "test_accuracy", "ece", "parameters", "latency_one_s", "latency_all_s",
    ]  # fmt: skip


def test_in_production_the_teacher_predicts_on_the_whole_structure(data):
    teacher, mlp, student = networks()
    comparison = compare(teacher, mlp, student, data, split="production", epochs=3, progress=False)
    split = data.split("production")
    logits = teacher(data.x, data.structure)
    assert comparison.teacher.test_accuracy == accuracy(logits[split.test], data.y[split.test])
    assert comparison.teacher.unseen_accuracy == accuracy(logits[split.unseen], data.y[split.unseen])
    assert report.table_rows(comparison, NAMES)[0][2] == "unseen nodes"


def test_an_empty_part_is_refused_and_an_empty_validation_is_not(data):
    split, none = data.split(), torch.empty(0, dtype=torch.long)
    for part in ("train", "test"):
        parts = {"train": split.train, "val": split.val, "test": split.test, part: none}
        with pytest.raises(ArgumentError, match=f"at least one {part} node"):
            compare(*networks(), Data(data.structure, data.x, data.y, {"default": Split(data.structure, **parts)}))
    blind = Data(data.structure, data.x, data.y, {"default": Split(data.structure, split.train, none, split.test)})
    assert compare(*networks(), blind, epochs=2, progress=False).student.fit.best_epoch == 2


def test_the_folder_has_the_files_of_the_report(write, run, tmp_path):
    path = write(tmp_path / "a" / "b", run, notes=["License: none."])
    folder = path.parent
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    text = path.read_text()
    pictures = [name for name in FILES if name.endswith(".png")]
    assert len(pictures) == 5
    assert all(f"({name})" in text for name in pictures)
    assert "hgraph distill toy" in text
    assert "License: none." in text
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["model"] for line in lines] == ["mlp"] * 25 + ["teacher"] * 25 + ["student"] * 25
    assert set(lines[0]) == {"model", "epoch", "loss", "validation"}
    assert json.loads((folder / "config.json").read_text())["seed"] == 0
    for name in pictures:
        with Image.open(folder / name) as image:
            image.load()
            assert min(image.size) > 500
            assert len(image.convert("RGB").getcolors(2**24)) > 50  # something is drawn


def test_the_saved_networks_predict_the_same(write, run, data, tmp_path):
    from safetensors.torch import load_file

    write(tmp_path, run)
    teacher, mlp, student = networks()
    for name, again, inputs in (
        ("teacher", teacher, (data.x, data.structure)),
        ("mlp", mlp, (data.x,)),
        ("student", student, (data.x,)),
    ):
        again.load_state_dict(load_file(tmp_path / f"{name}.safetensors"))
        logits = again.eval()(*inputs)
        assert torch.equal(logits[data.split().test], getattr(run[0], name).logits)


@pytest.mark.parametrize("fatal", FILES)
def test_a_killed_run_leaves_nothing_that_looks_complete(write, run, tmp_path, monkeypatch, fatal):
    """Killed while any file is written: no report.md, not even that of the last run, and no partial file."""
    write(tmp_path, run)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    real = report.write_atomically

    def killed(path, content):
        if path.name == fatal:
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(report, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, run, title="other")
    assert not (tmp_path / "report.md").exists()
    assert (tmp_path / fatal).exists() == (fatal != "report.md")
    assert fatal == "report.md" or (tmp_path / fatal).read_bytes() == before[fatal]


def test_other_files_of_the_folder_are_not_changed(write, run, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    write(tmp_path, run)
    assert (tmp_path / "report.md").exists()
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_config_that_json_cannot_hold_is_refused_before_anything_is_written(write, run, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "new", run, config={"lr": math.nan})
    assert not (tmp_path / "new").exists()


def test_plots_do_not_change_the_state_of_matplotlib(write, run, tmp_path):
    import matplotlib
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams), pyplot.get_fignums()
    write(tmp_path, run)
    assert (dict(matplotlib.rcParams), pyplot.get_fignums()) == before


def test_the_table_is_aligned_and_has_speed_ups(run):
    comparison, _ = run
    lines = report.table(comparison, NAMES).splitlines()
    assert len({len(line) for line in lines}) == 1
    rows = report.table_rows(comparison, NAMES)
    assert rows[2][-2:] == ["1.0x", "1.0x"]
    assert rows[1][0] == "student"
    stated = float(rows[1][-2].rstrip("x"))
    teacher, student = comparison.teacher, comparison.student
    assert stated == pytest.approx(teacher.timing_one.low / student.timing_one.high, rel=0.06)
    assert stated <= 1.06 * teacher.latency_one_s / student.latency_one_s


@pytest.mark.checked("speed", "The reported speed-up is computed from quartiles; it is never the luckiest ratio.")
def test_speed_ups_are_limited_by_the_quartiles():
    def measured(one, every):
        rest = (None, FitResult([], 0, 0.0), torch.zeros(1, 2), None, None)
        return Measured(0.9, 0.1, 10, one.median, every.median, *rest, one, every)

    teacher = measured(*2 * [Timing(0.100, 0.080, 0.500)])
    student = measured(Timing(0.001, 0.0005, 0.004), Timing(0.010, 0.009, 0.011))
    found = Comparison(mlp=student, teacher=teacher, student=student)
    rows = report.table_rows(found, NAMES)
    assert rows[3][-2:] == ["20x", "7.3x"]  # not 100x and 10x, nor 1000x
    assert rows[3][3] == "1.00 ms (0.500 .. 4.00) !"
    assert rows[3][4] == "10.0 ms (9.00 .. 11.0)"
    assert "at least 20x as fast as the teacher for one node and 7.3x" in report._sentence(found)
    assert any("the machine was busy during the timing" in text for text in report._explanations(found, NAMES, {}))


@pytest.mark.checked(
    "speed", "Latency is timed with one thread, alternating between models; the thread count is restored."
)
def test_latency_is_timed_with_one_thread_and_in_turn():
    before, seen, order = torch.get_num_threads(), [], []
    torch.set_num_threads(2)
    try:
        forwards = {n: (lambda n=n: (seen.append(torch.get_num_threads()), order.append(n))) for n in ("a", "b")}
        found = timings(forwards, rounds=3, warmup=0)
        assert torch.get_num_threads() == 2
        assert set(seen) == {1}
        assert [name for name, _ in groupby(order[6:])] == ["a", "b"] * 3
        assert found["a"].low <= found["a"].median <= found["a"].high
        with pytest.raises(ArgumentError, match="threads"):
            timings(forwards, threads=0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.1234e-5, "0.041 ms"), (1.06e-3, "1.06 ms"), (0.0476, "47.6 ms"), (0.123456, "123 ms"), (2.0, "2000 ms")],
)
def test_format_of_durations(seconds, text):
    assert report._milliseconds(seconds) == text


def test_latency_is_the_median_of_calls_without_gradients():
    grads = []

    def slow():
        grads.append(torch.is_grad_enabled())
        time.sleep(0.002)

    measured = latencies({"slow": slow, "fast": lambda: None}, rounds=2, warmup=0)
    assert measured["slow"] >= 0.002
    assert measured["fast"] < 0.002
    assert len(grads) == 3 + 2 * 10
    assert not any(grads)
    with pytest.raises(ArgumentError, match="rounds"):
        latencies({"fast": lambda: None}, rounds=0)


def test_labels_are_moved_apart_and_keep_their_order():
    moved = spread({"a": 1.0, "b": 1.01, "c": 5.0, "d": 1.02}, gap=0.5)
    heights = sorted(moved.values())
    assert sorted(moved, key=moved.get) == ["a", "b", "d", "c"]
    assert all(b - a >= 0.5 - 1e-6 for a, b in pairwise(heights))
    assert moved["c"] == 5.0


def test_figures_are_plain_pngs(run):
    from hgraph.distill import plots
    from hgraph.train.plots import learning_curve

    fits = {key: model.fit for key, model in run[0].items()}
    pictures = [learning_curve(fits, NAMES, "toy"), plots.accuracy_latency(run[0], NAMES, "toy")]
    for picture in [*pictures, learning_curve({"teacher": fits["teacher"]}, NAMES, "toy")]:
        with Image.open(io.BytesIO(picture)) as image:
            assert image.format == "PNG"


def test_the_student_takes_no_structure(run, data):
    student: nn.Module = run[1][2]
    with pytest.raises(TypeError):
        student(data.x, data.structure)
