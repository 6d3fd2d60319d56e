"""The folder of a distillation run: settings, histories, plots, weights and the report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hgraph.data import Data
from hgraph.distill import plots
from hgraph.distill.compare import Comparison, Measured
from hgraph.distill.serving.latency import Timing
from hgraph.files import write_atomically
from hgraph.report import Report, aligned
from hgraph.train.checkpoint import weights_file
from hgraph.train.plots import CAPTIONS, COLORS, learning_curve, structure_picture, task_plots

__all__ = ["table", "table_rows", "write_report"]

_HEADER = ["parameters", "one node", "all nodes", "speed-up one", "speed-up all"]


def write_report(
    folder: str | os.PathLike[str],
    comparison: Comparison,
    networks: Mapping[str, nn.Module],
    data: Data,
    *,
    split: str = "default",
    names: Mapping[str, str],
    title: str,
    config: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Path:
    """Write the run folder; other files in it are not changed.

    Each file is written atomically, and ``report.md`` last, so that a killed run never leaves a folder that looks
    finished.

    Args:
        folder: the folder; created if missing.
        comparison: the measurements.
        networks: the trained ``mlp``, ``teacher`` and ``student``, whose weights are saved.
        data: the data of the measurements, for labels, class names and the plot of the structure.
        split: name of the split.
        names: display names of ``mlp``, ``teacher`` and ``student``.
        title: the title of the report.
        config: every setting and version, as JSON values; ``command`` is the command to reproduce the run.
        notes: sentences about the data in Markdown, one per bullet point; see `hgraph.report.escaped`.

    Returns:
        The path of ``report.md``.
    """
    folder, names = Path(folder), dict(names)
    lines = ({"model": key} | record for key, model in comparison.items() for record in model.fit.history)
    test, task = data.y[data.split(split).test].cpu(), comparison.student.task
    classes = [str(name) for name in data.meta.get("class_names") or range(data.num_outputs)]
    pictures = task_plots(
        task, comparison.student.logits, test, classes, f"{title}: test nodes", color=COLORS["student"]
    )
    content: dict[str, str | bytes] = {
        "config.json": _json(config, indent=2) + "\n",
        "metrics.jsonl": "".join(_json(line) + "\n" for line in lines),
        "learning_curve.png": learning_curve({key: m.fit for key, m in comparison.items()}, names, title, task=task),
        "accuracy_latency.png": plots.accuracy_latency(comparison, names, title),
        **pictures,
        "structure.png": structure_picture(data),
        **{f"{key}.safetensors": weights_file(network) for key, network in networks.items()},
    }
    files = ", ".join(f"`{name}`" for name in content)
    # the report is written last and removed first, so a folder with it is complete
    content["report.md"] = _markdown(comparison, names, title, config, notes, list(pictures), files)
    (folder / "report.md").unlink(missing_ok=True)
    for name, text in content.items():
        write_atomically(folder / name, text.encode() if isinstance(text, str) else text)
    return folder / "report.md"


def table_rows(comparison: Comparison, names: Mapping[str, str]) -> list[list[str]]:
    """The rows of the table as strings, header first: main metrics, latencies with quartiles, `Measured.speed_up`."""
    task = comparison.student.task
    header = ["model", f"test {task.name_of(task.main)}", *_HEADER]
    if comparison.student.unseen is not None:
        header.insert(2, "unseen nodes")
    rows = [header]
    for key, model in _student_first(comparison):
        row = [names[key], task.format(task.main, model.main)]
        if model.unseen is not None:
            row.append(task.format(task.main, model.unseen))
        row += [f"{model.parameters:,}", _latency(model.latency_one_s, model.timing_one)]
        row += [_latency(model.latency_all_s, model.timing_all)]
        row += [_times(model.speed_up(comparison.teacher, which)) for which in ("one", "all")]
        rows.append(row)
    return rows


def _student_first(comparison: Comparison) -> list[tuple[str, Measured]]:
    """The models in the order of the tables: first the student, which is what a distillation delivers."""
    return list(comparison.items())[::-1]


def table(comparison: Comparison, names: Mapping[str, str]) -> str:
    """The table as plain text."""
    return aligned(table_rows(comparison, names))


def _markdown(
    comparison: Comparison,
    names: dict[str, str],
    title: str,
    config: Mapping[str, Any],
    notes: Sequence[str],
    pictures: Sequence[str],
    files: str,
) -> str:
    task, rows = comparison.student.task, table_rows(comparison, names)
    if comparison.student.ece is not None:
        calibration = [
            ["ECE", "ECE calibrated"],
            *([f"{m.ece:.3f}", _calibrated(m)] for _, m in _student_first(comparison)),
        ]
        rows = [row + more for row, more in zip(rows, calibration, strict=True)]
    else:
        others = [name for name in comparison.student.metrics if name != task.main]
        rows[0] += [task.name_of(name) for name in others]
        for row, (_, model) in zip(rows[1:], _student_first(comparison), strict=True):
            row += [task.format(name, model.metrics[name]) for name in others]
    report = Report(title).table(rows).text(_sentence(comparison))
    report.picture(f"Validation {task.select} over epochs", "learning_curve.png")
    report.picture(f"Test {task.name_of(task.main)} vs. latency", "accuracy_latency.png")
    if pictures:
        report.section("Predictions of the student").text("On the test nodes, before calibration.")
        for name in pictures:
            report.picture(CAPTIONS[name], name)
    report.section("What the numbers mean").bullets(_explanations(comparison, names, config), markdown=True)
    report.section("The data").picture("The structure", "structure.png").bullets(notes, markdown=True)
    report.settings(config, omit=("command", "run"))
    if "command" in config:
        report.command(str(config["command"]))
    return str(report.text(f"Files: {files}."))


def _sentence(comparison: Comparison) -> str:
    mlp, teacher, student = comparison.mlp, comparison.teacher, comparison.student
    one, every = student.speed_up(teacher, "one"), student.speed_up(teacher, "all")
    return (
        f"The student's test {student.task.name_of(student.task.main)} is {_versus(student, mlp)} that of an "
        f"MLP trained on labels only and {_versus(student, teacher)} that of its teacher. By quartiles, the "
        f"student is at least {_times(one)} as fast as the teacher for one node and {_times(every)} for all nodes."
    )


def _kinds(comparison: Comparison) -> str:
    """How the student differs from the MLP."""
    if comparison.student.parameters == comparison.mlp.parameters:
        return "the same network, which does not use the structure for predictions"
    return "the same network, but that the student also reads positions of nodes, computed from the structure"


def _explanations(comparison: Comparison, names: dict[str, str], config: Mapping[str, Any]) -> list[str]:
    epochs = ", ".join(f"{names[key]} {model.fit.best_epoch}" for key, model in comparison.items())
    device = config.get("device", "cpu")
    task = comparison.student.task
    main = task.name_of(task.main)
    texts = [
        f"**Test {main}** is measured once, on the test nodes, with the weights of the best epoch on the validation "
        f"nodes (best epochs: {epochs}). Results of different seeds differ a little.",
        f"**MLP** and **student** are {_kinds(comparison)}. The MLP is trained on the training labels, the student on "
        f"the teacher's {'probabilities' if task.has_classes else 'predictions'} for every node used in training.",
        *([_ECE] if comparison.student.ece is not None else []),
        "**Latency** is the median wall-clock time of a forward pass after warm-up, shown with quartiles; models are "
        f"timed alternately on one thread, device `{device}`. Features, structure and its degree norms are in memory. "
        "**Speed-up** is the teacher's lower quartile divided by the model's upper quartile.",
        "**One node**: the student reads one row. The teacher needs a full forward pass, since its output depends on "
        "nodes up to two hops away and on their degrees, and no hidden state is cached between calls. Extracting "
        "this neighborhood for each request can be faster on large structures; it is not measured.",
        "**All nodes**: the student's wide layer may take longer than the teacher's sparse sums, so the speed-up can "
        "be below 1. (The speed-up of 100x in the LightHGNN paper is relative to a teacher that multiplies with a "
        "dense node-by-node matrix; this one uses sparse sums.)",
    ]
    timed = {names[key]: (model.timing_one, model.timing_all) for key, model in comparison.items()}
    busy = [name for name, pair in timed.items() if any(t is not None and not t.is_steady for t in pair)]
    if busy:
        texts.append(
            f"**!** The quartiles of {', '.join(busy)} are far apart: the machine was busy during the timing. Measure "
            "again on an idle machine before you report a speed-up."
        )
    if comparison.student.unseen is not None:
        texts.append(
            f"**Unseen nodes** is the {main} on the test nodes that were removed from the structure before training. "
            "The teacher predicts them with the whole structure, the others with features only."
        )
    return texts


_ECE = (
    "**ECE**, the expected calibration error (15 bins, 0 is best), is the mean difference between confidence and "
    "accuracy. **ECE calibrated** is the error after dividing logits by the temperature T, which is fitted on the "
    "validation nodes and does not change accuracy. `--calibrate` exports the student with its temperature."
)


def _calibrated(model: Measured) -> str:
    return "-" if model.calibrated_ece is None else f"{model.calibrated_ece:.3f} (T {model.temperature:.2f})"


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, **options)


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.{max(0, min(3, 2 - _magnitude(value)))}f} ms"


def _latency(median: float, timing: Timing | None) -> str:
    """The median and, if known, the quartiles; marked with ! if they are far apart."""
    if timing is None:
        return _milliseconds(median)
    mark = "" if timing.is_steady else " !"
    return f"{_milliseconds(median)} ({_digits(timing.low)} .. {_digits(timing.high)}){mark}"


def _digits(seconds: float) -> str:
    return _milliseconds(seconds).removesuffix(" ms")


def _times(ratio: float) -> str:
    return f"{ratio:.{max(0, min(2, 1 - _magnitude(ratio)))}f}x"


def _magnitude(value: float) -> int:
    return int(f"{value:e}".split("e")[1])


def _versus(student: Measured, other: Measured) -> str:
    task, difference = student.task, (student.main or 0.0) - (other.main or 0.0)
    where = "above" if difference > 0 else "below"
    if "%" not in task.format(task.main, 0.5):
        return "equal to" if not difference else f"{abs(difference):.3g} {where}"
    points = f"{100 * abs(difference):.1f}"
    return "equal to" if points == "0.0" else f"{points} points {where}"
