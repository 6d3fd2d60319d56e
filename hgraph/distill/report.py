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
from hgraph.train.checkpoint import weights_file
from hgraph.train.plots import COLORS, confusion_matrix, learning_curve, reliability_diagram, structure_picture

__all__ = ["FILES", "aligned", "markdown", "table", "table_rows", "write_report"]

# report.md is written last and removed first, so a folder with it is complete
FILES = (
    "config.json",
    "metrics.jsonl",
    "learning_curve.png",
    "accuracy_latency.png",
    "reliability.png",
    "confusion_matrix.png",
    "structure.png",
    "mlp.safetensors",
    "teacher.safetensors",
    "student.safetensors",
    "report.md",
)
_HEADER = ["model", "test accuracy", "parameters", "one node", "all nodes", "speed-up one", "speed-up all"]


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
        notes: sentences about the data, one per bullet point.

    Returns:
        The path of ``report.md``.
    """
    folder, names = Path(folder), dict(names)
    lines = ({"model": key} | record for key, model in comparison.items() for record in model.fit.history)
    test = data.y[data.split(split).test].cpu()
    classes = [str(name) for name in data.meta.get("class_names") or range(data.num_classes)]
    logits, heading = comparison.student.logits, f"{title}: test nodes"
    content: dict[str, str | bytes] = {
        "config.json": _json(config, indent=2) + "\n",
        "metrics.jsonl": "".join(_json(line) + "\n" for line in lines),
        "learning_curve.png": learning_curve({key: m.fit for key, m in comparison.items()}, names, title),
        "accuracy_latency.png": plots.accuracy_latency(comparison, names, title),
        "reliability.png": reliability_diagram(logits, test, heading, color=COLORS["student"]),
        "confusion_matrix.png": confusion_matrix(logits, test, classes, heading),
        "structure.png": structure_picture(data),
        "report.md": _markdown(comparison, names, title, config, notes),
    }
    for key, network in networks.items():
        content[f"{key}.safetensors"] = weights_file(network)
    (folder / "report.md").unlink(missing_ok=True)
    for name in FILES:
        text = content[name]
        write_atomically(folder / name, text.encode() if isinstance(text, str) else text)
    return folder / "report.md"


def table_rows(comparison: Comparison, names: Mapping[str, str]) -> list[list[str]]:
    """The rows of the table as strings, header first: accuracies, latencies with quartiles, and `Measured.speed_up`."""
    unseen = comparison.student.unseen_accuracy is not None
    rows = [[*_HEADER[:2], "unseen nodes", *_HEADER[2:]] if unseen else list(_HEADER)]
    for key, model in comparison.items():
        row = [names[key], f"{100 * model.test_accuracy:.1f} %"]
        if model.unseen_accuracy is not None:
            row.append(f"{100 * model.unseen_accuracy:.1f} %")
        row += [f"{model.parameters:,}", _latency(model.latency_one_s, model.timing_one)]
        row += [_latency(model.latency_all_s, model.timing_all)]
        row += [_times(model.speed_up(comparison.teacher, which)) for which in ("one", "all")]
        rows.append(row)
    return rows


def table(comparison: Comparison, names: Mapping[str, str]) -> str:
    """The table as plain text."""
    return aligned(table_rows(comparison, names))


def aligned(rows: list[list[str]]) -> str:
    """Format rows, header first, as plain text: the first column left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        return "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])

    return "\n".join([line(rows[0]), "  ".join("-" * w for w in widths), *(line(row) for row in rows[1:])])


def markdown(rows: list[list[str]]) -> list[str]:
    """Format rows, header first, as lines of a Markdown table: first column left-aligned, others right-aligned."""
    header, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return [header, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *rest]


def _markdown(
    comparison: Comparison, names: dict[str, str], title: str, config: Mapping[str, Any], notes: Sequence[str]
) -> str:
    calibration = [["ECE", "ECE calibrated"], *([f"{m.ece:.3f}", _calibrated(m)] for _, m in comparison.items())]
    rows = [row + more for row, more in zip(table_rows(comparison, names), calibration, strict=True)]
    lines = [f"# {title}", "", *markdown(rows), ""]
    lines += [_sentence(comparison), "", "![Validation accuracy over epochs](learning_curve.png)", ""]
    lines += ["![Test accuracy over latency](accuracy_latency.png)", "", "## Predictions of the student", ""]
    lines += ["On the test nodes, before calibration.", "", "![Accuracy over confidence](reliability.png)", ""]
    lines += ["![Confusion matrix](confusion_matrix.png)", ""]
    lines += ["## What the numbers mean", ""]
    lines += [f"- {text}" for text in _explanations(comparison, names, config)]
    lines += ["", "## The data", "", "![The structure](structure.png)", "", *(f"- {note}" for note in notes)]
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in config.items() if key not in ("command", "run")]
    if "command" in config:
        lines += ["", "## Reproduce", "", "```", str(config["command"]), "```"]
    lines += ["", "Files: " + ", ".join(f"`{name}`" for name in FILES if name != "report.md") + ".", ""]
    return "\n".join(lines)


def _sentence(comparison: Comparison) -> str:
    mlp, teacher, student = comparison.mlp, comparison.teacher, comparison.student
    one, every = student.speed_up(teacher, "one"), student.speed_up(teacher, "all")
    return (
        f"The student's test accuracy is {_versus(student.test_accuracy - mlp.test_accuracy)} that of the same network "
        f"trained on labels only and {_versus(student.test_accuracy - teacher.test_accuracy)} that of its "
        f"teacher. The student is at least {_times(one)} as fast for one node and at least "
        f"{_times(every)} as fast for all nodes, in three of four calls of each."
    )


def _explanations(comparison: Comparison, names: dict[str, str], config: Mapping[str, Any]) -> list[str]:
    epochs = ", ".join(f"{names[key]} {model.fit.best_epoch}" for key, model in comparison.items())
    device = config.get("device", "cpu")
    texts = [
        "**Test accuracy** is measured once, on the test nodes, with the weights of the best epoch on the validation "
        f"nodes ({epochs}). Results of different seeds can differ by a few points.",
        "**MLP** and **student** are the same network. The MLP is trained on the training labels, the student on the "
        "teacher's class probabilities of every observed node. Neither uses the structure for predictions.",
        "**ECE**, the expected calibration error (15 bins, 0 is best), is the mean difference between confidence and "
        "accuracy. **ECE calibrated** is the error after dividing logits by the temperature T, which is fitted on the "
        "validation nodes and does not change accuracy. `--calibrate` exports the student with its temperature.",
        "**Latency** is the median wall-clock time of a forward pass after warm-up, with the quartiles, the models in "
        f"turn, one thread, device `{device}`. Features, structure and its degree norms are in memory. "
        "**Speed-up** is the teacher's lower quartile divided by the model's upper quartile.",
        "**One node**: the student reads one row. The teacher needs a full forward pass, since its output depends on "
        "nodes up to two hops away and on their degrees, and no hidden state is cached between calls. Extracting "
        "this neighborhood for each request can be faster on large structures; it is not measured.",
        "**All nodes**: the student's wide layer may take longer than the teacher's sparse sums, so the speed-up can "
        "be below 1. (The speed-up of 100x in the LightHGNN paper is relative to a teacher that multiplies with a "
        "dense node-by-node matrix; this one passes messages through the hyperedges.)",
    ]
    timed = {names[key]: (model.timing_one, model.timing_all) for key, model in comparison.items()}
    busy = [name for name, pair in timed.items() if any(t is not None and not t.is_steady for t in pair)]
    if busy:
        texts.append(
            f"**!** The quartiles of {', '.join(busy)} are far apart: the machine was busy during the timing. Measure "
            "again on an idle machine before you report a speed-up."
        )
    if comparison.student.unseen_accuracy is not None:
        texts.append(
            "**Unseen nodes** is the accuracy on the test nodes that were removed from the structure before training. "
            "The teacher predicts them with the whole structure, the others with features only."
        )
    return texts


def _calibrated(model: Measured) -> str:
    return "-" if model.calibrated_ece is None else f"{model.calibrated_ece:.3f} (T {model.temperature:.2f})"


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, **options)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")


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


def _versus(difference: float) -> str:
    points = f"{100 * abs(difference):.1f}"
    return "equal to" if points == "0.0" else f"{points} points {'above' if difference > 0 else 'below'}"
