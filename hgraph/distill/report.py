"""The folder of a distillation run: settings, histories, plots, the student, and a report to read."""

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

# report.md is written last and removed first: a folder that has one is whole
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
    """Write the run folder; other files in it stay as they are.

    Each file appears whole or not at all, and ``report.md`` last, so that a run killed at any moment leaves
    no folder that looks finished and is not.

    Args:
        folder: made if missing.
        comparison: what was measured.
        networks: the trained ``mlp``, ``teacher`` and ``student``, whose weights are kept.
        data: what they were measured on: labels, class names and the structure to draw.
        split: the split they were trained under.
        names: what to call ``mlp``, ``teacher`` and ``student``.
        title: the headline.
        config: every setting and version, as JSON can hold it; ``command`` repeats the run.
        notes: sentences about the data, one a bullet.

    Returns:
        The path of ``report.md``.
    """
    folder, names = Path(folder), dict(names)
    lines = ({"model": key} | record for key, model in comparison.items() for record in model.fit.history)
    test = data.y[data.split(split).test].cpu()
    classes = [str(name) for name in data.meta.get("class_names") or range(data.num_classes)]
    answers, heading = comparison.student.logits, f"{title}: test nodes"
    content: dict[str, str | bytes] = {
        "config.json": _json(config, indent=2) + "\n",
        "metrics.jsonl": "".join(_json(line) + "\n" for line in lines),
        "learning_curve.png": learning_curve({key: m.fit for key, m in comparison.items()}, names, title),
        "accuracy_latency.png": plots.accuracy_latency(comparison, names, title),
        "reliability.png": reliability_diagram(answers, test, heading, color=COLORS["student"]),
        "confusion_matrix.png": confusion_matrix(answers, test, classes, heading),
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
    """The table as texts, its header first: latencies with their quartiles, and `Measured.speed_up`."""
    unseen = comparison.student.unseen_accuracy is not None
    rows = [[*_HEADER[:2], "of unseen", *_HEADER[2:]] if unseen else list(_HEADER)]
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
    """The table in plain text."""
    return aligned(table_rows(comparison, names))


def aligned(rows: list[list[str]]) -> str:
    """A table in plain text, its header first: the first column flush left, numbers flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        return "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])

    return "\n".join([line(rows[0]), "  ".join("-" * w for w in widths), *(line(row) for row in rows[1:])])


def markdown(rows: list[list[str]]) -> list[str]:
    """The lines of a table in Markdown, its header first: the first column flush left, numbers flush right."""
    header, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return [header, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *rest]


def _markdown(
    comparison: Comparison, names: dict[str, str], title: str, config: Mapping[str, Any], notes: Sequence[str]
) -> str:
    honesty = [["ECE", "ECE calibrated"], *([f"{m.ece:.3f}", _calibrated(m)] for _, m in comparison.items())]
    rows = [row + more for row, more in zip(table_rows(comparison, names), honesty, strict=True)]
    lines = [f"# {title}", "", *markdown(rows), ""]
    lines += [_sentence(comparison), "", "![Validation accuracy over epochs](learning_curve.png)", ""]
    lines += ["![Test accuracy over latency](accuracy_latency.png)", "", "## The student's answers", ""]
    lines += ["On the test nodes, before any calibration.", "", "![Accuracy over confidence](reliability.png)", ""]
    lines += ["![How often each class was answered as each](confusion_matrix.png)", ""]
    lines += ["## What the numbers mean", ""]
    lines += [f"- {text}" for text in _meaning(comparison, names, config)]
    lines += ["", "## The data", "", "![The structure](structure.png)", "", *(f"- {note}" for note in notes)]
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in config.items() if key not in ("command", "run")]
    if "command" in config:
        lines += ["", "## Again", "", "```", str(config["command"]), "```"]
    lines += ["", "Files: " + ", ".join(f"`{name}`" for name in FILES if name != "report.md") + ".", ""]
    return "\n".join(lines)


def _sentence(comparison: Comparison) -> str:
    mlp, teacher, student = comparison.mlp, comparison.teacher, comparison.student
    one, every = student.speed_up(teacher, "one"), student.speed_up(teacher, "all")
    return (
        f"The student's test accuracy is {_versus(student.test_accuracy - mlp.test_accuracy)} that of the same network "
        f"trained on labels alone and {_versus(student.test_accuracy - teacher.test_accuracy)} that of its "
        f"teacher. The student answers at least {_times(one)} as fast for one node and at least "
        f"{_times(every)} as fast for all of them, in three of four calls of each."
    )


def _meaning(comparison: Comparison, names: dict[str, str], config: Mapping[str, Any]) -> list[str]:
    epochs = ", ".join(f"{names[key]} {model.fit.best_epoch}" for key, model in comparison.items())
    device = config.get("device", "cpu")
    texts = [
        "**Test accuracy** is measured once, on the test nodes, with the state that was best on the validation "
        f"nodes (epoch kept: {epochs}). One seed is one draw: expect a few points of difference between seeds.",
        "**MLP** and **student** are the same network. The MLP learns from the training labels alone, the student "
        "from the teacher's class probabilities on every observed node. Neither looks at the structure when it "
        "predicts.",
        "**ECE**, the expected calibration error (15 bins, 0 is best), says how far stated confidence is from "
        "accuracy. **Calibrated** is what is left of it when logits are divided by the temperature T, fitted on the "
        "validation nodes; accuracy stays. `--calibrate` puts the student's into what is exported.",
        "**Latency** is the median wall-clock time of a forward pass after warm-up, with the quartiles, the models in "
        f"turn, one thread, device `{device}`. Features and structure are in memory, the structure's norms are ready. "
        "**Speed-up** is the teacher's lower quartile over the model's upper one: what three of four calls keep.",
        "**One node** costs the student one row. It costs the teacher a full pass: its answer depends on the "
        "nodes two steps away and on their degrees, and no hidden state is kept between calls. Cutting "
        "exactly that neighbourhood out for each request can be cheaper on large structures; that is not measured.",
        "**All nodes**: the student's wide layer may cost more than the teacher's sparse sums, so a speed-up "
        "below 1 is possible and is shown as it is. (The 100x of the LightHGNN paper is against a teacher that "
        "multiplies with a materialised node-by-node matrix; this one goes through the hyperedges.)",
    ]
    timed = {names[key]: (model.timing_one, model.timing_all) for key, model in comparison.items()}
    busy = [name for name, pair in timed.items() if any(t is not None and not t.is_steady for t in pair)]
    if busy:
        texts.append(
            f"**!** The quartiles of {', '.join(busy)} are far apart: the machine was busy while they were timed. Time "
            "them again on a quiet one before you state a speed-up."
        )
    if comparison.student.unseen_accuracy is not None:
        texts.append(
            "**Of unseen** is the accuracy on the test nodes that were taken out of the structure before training. "
            "The teacher answers for them with the whole structure, the others with features alone."
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
    """The median and, where they are known, the quartiles; marked where they are far apart."""
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
