"""`hgraph distill` for a recommender: trains a two-tower MLP to rank as the trained model does, and exports ONNX."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hgraph.cli.choices import TOWERS
from hgraph.cli.common import device_of, environment_info
from hgraph.cli.recommenders import CUT, READING, figures_of, load_run, network_of
from hgraph.cli.runs import REPORT, check_folder, running, write_json
from hgraph.errors import ArgumentError, DataError
from hgraph.report import Report, aligned, escaped
from hgraph.schema import parse

if TYPE_CHECKING:
    from torch import Tensor

    from hgraph.data import Interactions
    from hgraph.models.recommend.base import Recommender

__all__ = ["STEPS", "distill_run", "is_run"]

STEPS, LR, BATCH, NEAR = 3000, 5e-3, 512, 50
MANY = 1000  # users per batch in the second latency measurement
ONNX = "student.onnx"


def is_run(place: str) -> bool:
    """Whether a folder is the run of a recommender."""
    try:
        config = parse((Path(place) / "config.json").read_bytes(), "config.json")
        return bool(config["kind"] == "recommender")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def distill_run(
    run: Path,
    *,
    steps: int,
    out: Path | None,
    overwrite: bool,
    device: str,
    root: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a student and a baseline without teacher, evaluate both, and write the run folder of the student.

    The folder is a run of the recommender ``twotower`` with an additional ONNX file; `hgraph recommend` can use it.
    """
    from hgraph.distill import export_towers
    from hgraph.distill.serving.onnx import needs_onnx

    folder = out or run / "student"
    check_folder(folder, overwrite=overwrite)
    where = device_of(device)
    needs_onnx()
    teacher, data, config = load_run(run, root)
    if config["model"] == TOWERS:
        raise ArgumentError(
            "dataset",
            f"a run of a recommender other than {TOWERS}",
            str(run),
            "Use the two-tower model without a student",
        )
    options = {"steps": steps, "lr": LR, "batch": BATCH, "near": min(NEAR, data.num_items), "seed": config["seed"]}
    settings = {"teacher_run": str(run.resolve()), "data_sha256": config["data_sha256"], **options}
    command = shlex.join(
        ["hgraph", "distill", str(run), "--steps", str(steps), "--device", device, "--out", str(folder)]
    )
    try:
        with running(folder, settings, overwrite=overwrite) as place:
            student, baseline, losses = _train_towers(teacher.to(where), data, config, options, place, quiet)
            export_towers(student.to("cpu"), data, folder / ONNX)
            figures = measured(teacher.to("cpu"), baseline.to("cpu"), student, data, folder / ONNX)
            saved = {name: config[name] for name in ("dataset", "source", "hidden", "kind")}
            saved |= {name: config[name] for name in READING if name in config}
            saved |= {
                "model": TOWERS,
                "teacher": config["model"],
                **settings,
                **environment_info(),
                "device": str(where),
            }
            _write(folder, student, losses, figures, saved | {"command": command}, data)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        head = {"dataset": config["dataset"], "model": config["model"], "seed": config["seed"]}
        typer.echo(json.dumps(head | figures, allow_nan=False))
        return
    typer.echo(f"{aligned(_rows(figures, config['model'], data))}\n\n{folder / ONNX}\nreport: {folder / REPORT}")


def _train_towers(
    teacher: Recommender,
    data: Interactions,
    config: dict[str, Any],
    options: dict[str, Any],
    place: Path,
    quiet: bool,
) -> tuple[Recommender, Recommender, list[float]]:
    """The student, a baseline of the same towers trained without teacher, and the losses of the student."""
    from hgraph.distill import distill_recommender
    from hgraph.train import fit_recommender

    seed, where = config["seed"], next(teacher.parameters()).device
    student, baseline = (network_of(TOWERS, data, seed, config["hidden"]).to(where) for _ in range(2))
    shared: dict[str, Any] = {"seed": seed, "progress": False if quiet else None}
    fit: dict[str, Any] = {name: config.get(name) for name in ("epochs", "lr", "patience", "l2", "validate_users")}
    result = distill_recommender(teacher, data, student, checkpoint=place / "student.safetensors", **options | shared)
    fit_recommender(
        baseline, data, label="towers without teacher", checkpoint=place / "alone.safetensors", **fit, **shared
    )
    return student, baseline, [epoch["loss"] for epoch in result.history]


def measured(
    teacher: Recommender, baseline: Recommender, student: Recommender, data: Interactions, onnx: Path
) -> dict[str, dict[str, Any]]:
    """Ranking metrics of each model, overlap with the teacher's recommendations, and latencies."""
    import torch

    from hgraph.distill import latencies
    from hgraph.train import scorer, structure_of

    models = {"mlp": baseline, "teacher": teacher, "student": student}
    structures = {name: structure_of(model, data) for name, model in models.items()}
    scores = {name: scorer(model, structures[name]) for name, model in models.items()}
    figures = {name: figures_of(model, data, scores[name]) for name, model in models.items()}
    best = f"recall@{min(CUT, data.num_items)}"
    for name, found in figures.items():
        if figures["teacher"].get(best):
            found["recall_kept"] = found[best] / figures["teacher"][best]
        found["same_items"] = _overlap(scores[name], scores["teacher"], data)
    session = _session(onnx)

    def full_pass(users: Tensor) -> Tensor:
        return teacher.score(teacher(structures["teacher"]), users)

    for what, count in (("one", 1), ("many", min(MANY, data.num_users))):
        users = torch.arange(count)
        calls: dict[str, Callable[[], object]] = {
            "teacher": partial(full_pass, users),
            "cached": partial(scores["teacher"], users),
            "student": partial(session.run, None, {"users": users.numpy()}),
        }
        times = latencies(calls)
        for name in ("teacher", "student"):
            figures[name][f"latency_{what}_s"] = times[name]
        figures["teacher"][f"latency_{what}_rows_kept_s"] = times["cached"]
    return figures


def _session(onnx: Path) -> Any:
    """An ONNX Runtime session with as many threads as torch uses."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])


def _overlap(score: Any, other: Any, data: Interactions) -> float:
    """Fraction of items recommended by both, without training items; mean over users."""
    import torch

    from hgraph.train.full_ranking import best_items

    total, k = 0.0, min(CUT, data.num_items)
    for users in torch.arange(data.num_users).split(1024):
        one, two = (best_items(s(users), users, [data.train], k)[0] for s in (score, other))
        total += float((one.unsqueeze(2) == two.unsqueeze(1)).any(2).double().mean(1).sum())
    return total / data.num_users


def _rows(figures: dict[str, dict[str, Any]], teacher: str, data: Interactions) -> list[list[str]]:
    """The cells of the table; the first row is the header."""
    cut, many = min(CUT, data.num_items), min(MANY, data.num_users)
    header = ["model", f"recall@{cut}", f"ndcg@{cut}", "recall / teacher", "same items", "parameters"]
    rows = [[*header, "one user", f"{many:,} users"]]
    names = {"mlp": "towers without teacher", "teacher": f"{teacher} (teacher)", "student": "student"}

    def line(name: str, found: dict[str, Any], latency: str) -> list[str]:
        scores = [found.get(key) for key in (f"recall@{cut}", f"ndcg@{cut}")]
        cells = ["-" if v is None else f"{v:.4f}" for v in scores]
        cells += ["-" if found.get(k) is None else f"{100 * found[k]:.1f} %" for k in ("recall_kept", "same_items")]
        times = [found.get(f"latency_{what}_{latency}") for what in ("one", "many")]
        cells.append(f"{found['parameters']:,}")
        return [name, *cells, *("-" if t is None else f"{1e3 * t:.3g} ms" for t in times)]

    for key, name in names.items():
        rows.append(line(name, figures[key], "s"))
        if key == "teacher":
            rows.append(line("teacher, cached embeddings", figures[key], "rows_kept_s"))
    return rows


def _write(
    folder: Path,
    student: Recommender,
    losses: list[float],
    figures: dict[str, dict[str, Any]],
    settings: dict[str, Any],
    data: Interactions,
) -> None:
    """Write all files of the run; the report is last because it marks the run as finished."""
    from hgraph.files import write_atomically
    from hgraph.train.checkpoint import weights_file

    curve = "".join(json.dumps({"step": i, "loss": loss}) + "\n" for i, loss in enumerate(losses, 1))
    write_json(folder / "config.json", settings)
    write_atomically(folder / "metrics.jsonl", curve.encode())
    write_atomically(folder / "model.safetensors", weights_file(student))
    write_atomically(folder / REPORT, _report(figures, settings, data).encode())


def _report(figures: dict[str, dict[str, Any]], settings: dict[str, Any], data: Interactions) -> str:
    title = f"{settings['teacher']} on {settings['dataset']} distilled into a two-tower MLP (seed {settings['seed']})"
    report = Report(title).text(escaped(f"{data}")).table(_rows(figures, settings["teacher"], data))
    report.bullets((
        "**Towers without teacher** and **student** are the same network: one tower embeds the id of a user, the other "
        "the id and the attributes of an item. The first was trained on the training pairs, the second on the "
        "teacher's preferences between pairs of items.",
        "**Recall / teacher** is the recall divided by that of the teacher. **Same items** is the fraction of the "
        "recommended items that the teacher also recommends; training items are left out.",
        "**Latency** is the median wall-clock time to score all items, after warm-up, on the CPU with "
        f"{settings['threads']} thread(s): for the student in ONNX Runtime, for the teacher with a full pass over the "
        "graph. While the graph does not change, the teacher's embeddings can be cached: its second row is the time "
        "with cached embeddings.",
        f"The inputs of `{ONNX}` are `users` [B] int64, its outputs `scores` [B, items]; names, if there are any, are "
        "JSON in its metadata. It contains item embeddings of the current triples: distill again when they change.",
    ), markdown=True)  # fmt: skip
    return str(report.settings(settings).command(settings["command"]))
