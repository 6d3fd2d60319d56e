"""`hgraph distill`."""

from __future__ import annotations

import json
import shlex
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import ClassWeight, Select, Teacher, named, value_of
from hgraph.cli.common import (
    JsonOption,
    OverwriteOption,
    QuietOption,
    RootOption,
    absolute,
    device_of,
    environment_info,
    plain_errors,
    run_folder,
)
from hgraph.cli.lessons import Lesson, is_node_run
from hgraph.cli.node_runs import Prepared, prepared
from hgraph.cli.numbers import SEEDS, real, whole
from hgraph.cli.runs import SEEDS_FILE, check_folder, running
from hgraph.cli.teachers import (
    MLP,
    POSITIONS,
    STUDENTS,
    UNSEEN,
    Setting,
    Student,
    added,
    networks_of,
    positions_of,
    prepare,
    split_of,
)
from hgraph.cli.threads import ThreadsOption, training_threads
from hgraph.cli.towers import STEPS, distill_run, is_run
from hgraph.cli.trained import check_run
from hgraph.errors import ArgumentError, DataError
from hgraph.models.registry import find
from hgraph.report import escaped

if TYPE_CHECKING:
    import torch

    from hgraph.data import Data, Dataset
    from hgraph.distill import Comparison, Term
    from hgraph.train import NodeTask


class Objective(Enum):
    """Objectives of `hgraph.distill.objectives`."""

    LIGHTHGNN = "lighthgnn"
    LIGHTHGNN_PLUS = "lighthgnn+"
    GLNN = "glnn"
    KRD = "krd"
    NOSMOG = "nosmog"


_POSITIONED = (
    "The student also gets positional features, which exist only for nodes of the structure. The test accuracy uses "
    "them. `hgraph predict` and `serve` get rows without positions and set them to 0."
)


class Variant(Enum):
    """Form of the divergence: as in the paper, or as in its released code."""

    PAPER = "paper"
    OFFICIAL = "official"


@plain_errors
def distill(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A name from `hgraph datasets list`, a folder you built, or a run of `hgraph train` or `hgraph tune`."
        ),
    ],
    teacher: Annotated[Teacher, named(Teacher, "Teacher network.")] = Teacher("hgnn"),
    seed: Annotated[int, whole(low=0, high=SEEDS, help="Seed of the split, the weights and dropout.")] = 0,
    objective: Annotated[
        Objective, typer.Option(help="Loss of the student; with nosmog, the student also gets positional features.")
    ] = Objective.LIGHTHGNN,
    variant: Annotated[Variant, typer.Option(help="Variant of the lighthgnn(+) loss.")] = Variant.PAPER,
    lam: Annotated[float, real(low=0, high=1, help="Weight of the true-label term in the loss.")] = 0.0,
    student: Annotated[
        Student, typer.Option(help="Kind of MLP; words is better on new nodes if features are word counts.")
    ] = Student.PUBLISHED,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Export calibrated probabilities (see ECE in the report).")
    ] = False,
    setting: Annotated[
        Setting, typer.Option(help="transductive: training uses all nodes; production: some test nodes are left out.")
    ] = Setting.TRANSDUCTIVE,
    epochs: Annotated[int, whole(help="Epochs of each of the three trainings.")] = 200,
    select: Annotated[
        Select | None,
        typer.Option(
            help="Validation score that selects the epoch; default: accuracy for classes, mae for regression, "
            "f1 for multi-label."
        ),
    ] = None,
    class_weight: Annotated[
        ClassWeight | None, typer.Option(help="balanced: rare classes weigh as much as frequent ones in the loss.")
    ] = None,
    steps: Annotated[int | None, whole(help=f"Training steps of a recommender's student; default {STEPS}.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/<dataset>-<teacher>-student-<seed>, or RUN/student.")
    ] = None,
    overwrite: OverwriteOption = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    threads: ThreadsOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Distill a (hyper)graph network into an MLP, and compare both with an MLP baseline.

    Trains a teacher on the structure, a student MLP on the teacher's soft labels, and the same MLP on labels only.
    Prints test accuracy, size and latency, and the student's accuracy on rows that were not in training (this takes a
    second training of teacher and student). Writes report.md with plots, the weights of all three networks, and the
    student for `hgraph predict`. The same command resumes a stopped run.

    If DATASET is a run of `hgraph train` or `hgraph tune`, its network is the teacher and its data is used.

    For a run of `hgraph train --model kgat`, or of another recommender, the student is a two-tower MLP that learns to
    reproduce the item ranking of the run's model. It is written as ONNX; its recall and latency are printed.
    """
    from hgraph.datasets import Inputs
    from hgraph.distill import compare, write_report
    from hgraph.distill.report import table
    from hgraph.distill.teach import check_objective
    from hgraph.train import training_view

    if is_run(dataset):
        common = {"dataset", "steps", "out", "overwrite", "device", "root", "as_json", "quiet"}
        _reject_given(context, common, "this option does not apply to the student of a recommender")
        distill_run(
            Path(dataset), steps=steps or STEPS, out=out, overwrite=overwrite, device=device, root=root,
            as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    if steps is not None:
        raise ArgumentError(
            "steps", "no value, because only the student of a recommender has steps", steps, "Use --epochs"
        )
    term = _objective(objective, variant, lam)
    where = device_of(device)
    task = {"select": value_of(select), "class_weight": value_of(class_weight)}
    if (Path(dataset) / SEEDS_FILE).is_file():
        check_run(Path(dataset))
    if is_node_run(dataset):
        allowed = set(context.params) - {"teacher", "seed", "setting", *task}
        _reject_given(context, allowed, "it comes from the run folder")
        folder = out or Path(dataset) / "student"
        check_folder(folder, overwrite=overwrite)
        learned = Lesson.of_run(Path(dataset), where, root)
    else:
        folder = run_folder(out, dataset, f"{teacher.value}-student", seed)
        check_folder(folder, overwrite=overwrite)
        on = prepared(dataset, find(teacher.value), setting, seed, root=root, device=where, **task)
        learned = Lesson(dataset, on, seed)
    on, seed = learned.on, learned.seed
    teacher_entry, loaded, data, split = on.model, on.dataset, on.data, on.split
    if calibrate and on.task.kind != "classification":
        raise ArgumentError("calibrate", f"no value, because this is {on.task.title}", "a value")
    check_objective(term, training_view(data, split, task=on.task))

    run: dict[str, Any] = {"dataset": learned.source, "teacher": teacher_entry.name, "objective": objective.value}
    run |= {"variant": variant.value, "lam": lam, "student": student.value, "setting": on.setting.value}
    run |= {"seed": seed, "epochs": epochs} | learned.shape | {k: v for k, v in task.items() if v is not None}
    run |= {} if learned.run is None else {"teacher_run": str(learned.run.resolve())}
    size = POSITIONS if objective is Objective.NOSMOG else 0
    run |= {"positions": size} if size else {}
    networks = learned.networks(student, size)
    options: dict[str, Any] = {"objective": term, "split": split, "task": on.task, "seed": seed, "epochs": epochs}
    options["positions"] = positions_of(data, split, size)
    with (
        running(folder, run | {"data": repr(data), "data_sha256": on.data_sha256}, overwrite=overwrite) as place,
        training_threads(threads, place, learned.step(networks)) as count,
    ):
        options["progress"] = False if quiet else None
        networks_in_turn = networks["teacher"], networks["mlp"], networks["student"]
        comparison = compare(*networks_in_turn, data, teacher_fit=learned.fit, **options, checkpoints=place)
        unseen = options | {"checkpoints": place / "unseen"}
        rows = _metric_on_new_rows(comparison, learned, student, where, networks["student"], **unseen)
        names = {"mlp": "MLP", "teacher": f"{teacher_entry.title} (teacher)", "student": "student"}
        config = _config(learned, student, run, where)
        config |= {
            "command": _command(run, dataset, calibrate, device, count, folder),
            "run": run | {"source": absolute(learned.source)},
        }
        temperature = (comparison.student.temperature if calibrate else None) or 1.0
        title = f"{loaded.name}: {teacher_entry.title} distilled into an MLP (seed {seed}, {on.setting.value})"
        headings: dict[str, Any] = {"names": names, "title": title, "config": config}
        more = [*([rows] if rows else []), *added(loaded, teacher_entry)]
        more += [_POSITIONED] if objective is Objective.NOSMOG else []
        own = [n if n == rows else escaped(f"{teacher_entry.title}: {n}") for n in more]  # rows is Markdown
        headings["notes"] = [*map(escaped, _about(loaded)), *own]
        try:
            _export(networks["student"], folder / "student", data, temperature, on.task, more)
            Inputs.of(data).save(folder / "student")
            report = write_report(folder, comparison, networks, data, split=split, **headings)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        figures = {key: model.figures() for key, model in comparison.items()}
        head = {"dataset": loaded.name, "setting": on.setting.value, "seed": seed}
        typer.echo(json.dumps(head | figures, allow_nan=False))
    else:
        typer.echo(f"{table(comparison, names)}\n")
        typer.echo(f"{rows}\n\nreport: {report}" if rows else f"report: {report}")


def _metric_on_new_rows(
    comparison: Comparison,
    learned: Lesson,
    student: Student,
    where: torch.device,
    network: torch.nn.Module,
    **options: Any,
) -> str:
    """A sentence on the student's main metric on rows that were not in training; "" if it is unknown.

    For a transductive run, a second teacher and student are trained without some of the test nodes.
    """
    from hgraph.distill import unseen_accuracies

    task, on = comparison.student.task, learned.on
    name, seen, teacher = task.name_of(task.main), comparison.student.main, ""
    if on.setting is Setting.PRODUCTION:
        found = comparison.student.unseen
        if options["positions"] is not None:
            found = _without_positions(network, on, task)
        how = "the test nodes that were left out of training"
    elif on.model.of_one_graph:
        return ""
    else:
        data = prepare(on.dataset, on.model, Setting.PRODUCTION, options["seed"]).to(where)
        split, size = split_of(Setting.PRODUCTION), 0 if options["positions"] is None else POSITIONS
        made = networks_of(data, on.model, student, options["seed"], positions=size, **learned.shape)
        options |= {"split": split, "teacher_options": learned.options, "positions": positions_of(data, split, size)}
        pair = unseen_accuracies(made["teacher"], made["student"], data, **options)
        found = None if pair is None else pair[1]
        teacher = "" if pair is None else f", teacher {task.format(task.main, pair[0])}"
        how = f"{UNSEEN:.0%} of the test nodes, after training both again without these nodes"
    if found is None:
        return ""
    what = (
        "whose features were in training" if on.setting is Setting.TRANSDUCTIVE else "in and outside training together"
    )
    value = task.format(task.main, found)
    new = f"{name[:1].upper() + name[1:]} on unseen rows, as in `hgraph predict` and `serve`: student {value}{teacher}"
    return f"{new}. Measured on {how}. The test {name} of {task.format(task.main, seen)} is for nodes {what}."


def _without_positions(student: torch.nn.Module, on: Prepared, task: NodeTask) -> float | None:
    """The metric of a student with positions on rows that come without: the unseen test nodes."""
    import torch

    from hgraph.data.labels import labeled

    unseen = on.data.split(on.split).unseen
    unseen = unseen[labeled(on.data.y[unseen])]
    with torch.inference_mode():
        return task.metric(task.main, student(on.data.x[unseen]), on.data.y[unseen]) if len(unseen) else None


def _reject_given(context: typer.Context, allowed: set[str], why: str) -> None:
    """Reject options of the command line that are not allowed for a run folder."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in allowed and source is not None and source.name == "COMMANDLINE":
            hint = "The model, the data and the seed come from the run folder"
            raise ArgumentError(name, f"no value, because {why}", "a value", hint)


def _objective(objective: Objective, variant: Variant, lam: float) -> Term:
    from hgraph.distill.objectives import OBJECTIVES

    if objective in (Objective.LIGHTHGNN, Objective.LIGHTHGNN_PLUS):
        return OBJECTIVES[objective.value](lam, variant=variant.value)
    if variant is Variant.OFFICIAL:
        raise ArgumentError("variant", "paper (official is only for lighthgnn and lighthgnn+)", variant.value)
    return OBJECTIVES[objective.value](lam)


def _command(run: dict[str, Any], source: str, calibrate: bool, device: str, threads: int, folder: Path) -> str:
    words = ["hgraph", "distill", source]
    words += [] if "teacher_run" in run else ["--teacher", run["teacher"], "--seed", str(run["seed"])]
    names = ("objective", "variant", "lam", "student", "epochs")
    for name in names if "teacher_run" in run else (*names, "setting", "select", "class_weight"):
        words += [f"--{name.replace('_', '-')}", str(run[name])] if name in run else []
    words += [*["--calibrate"] * calibrate, "--device", device, "--threads", str(threads)]
    return shlex.join([*words, "--out", str(folder)])


def _export(
    student: torch.nn.Module, folder: Path, data: Data, temperature: float, task: NodeTask, notes: list[str]
) -> None:
    """Write the student for `hgraph predict`, replacing an earlier one."""
    from hgraph.distill import export
    from hgraph.distill.serving.export import CARD
    from hgraph.files import remove_folder

    if (folder / CARD).is_file():
        remove_folder(folder)
    from hgraph.nn.rows import UnitSums

    named: dict[str, Any] = {key: data.meta.get(key) for key in ("class_names", "feature_names", "encoder")}
    if data.meta.get("row_sums"):  # the student normalizes rows of counts as the loader did
        named["preprocess"] = UnitSums()
    export(student, folder, data.x[:64].cpu(), temperature=temperature, task=task, notes=notes, **named)


def _config(learned: Lesson, student: Student, run: dict[str, Any], device: torch.device) -> dict[str, Any]:
    on, teacher, data = learned.on, learned.on.model, learned.on.data
    parts = data.split(on.split)
    unseen = f", {len(parts.unseen)} test nodes unseen" if len(parts.unseen) else ""
    width, dropout = learned.shape.get("hidden") or teacher.width, learned.shape.get("dropout", 0.5)
    trained = "" if learned.run is None else f", trained in {learned.run}"
    return {
        "dataset": on.dataset.name,
        "structure": repr(data.structure),
        "features": data.num_features,
        **({"classes": data.num_classes} if on.task.has_classes else {}),
        "train / validation / test": f"{len(parts.train)} / {len(parts.val)} / {len(parts.test)}",
        "setting": run["setting"] + unseen,
        "teacher": f"{teacher.title}, width {width}, dropout {dropout:g}{trained}",
        "student": f"MLP ({student.value}), width {MLP.width}, {STUDENTS[student][1]}",
        "objective": f"{run['objective']} ({run['variant']}), weight of the true labels {run['lam']:g}",
        "training": "Adam, lr 0.01, weight decay 0.0005, "
        f"{run['epochs']} epochs, state of best validation {on.task.select}",
        "seed": run["seed"],
        "device": str(device),
        "task": on.task.settings(),
        "data_sha256": on.data_sha256,
        **environment_info(),
    }


def _about(dataset: Dataset) -> list[str]:
    notes = [f"License: {dataset.license}.", f"Citation: {dataset.citation}", *dataset.caveats]
    if not dataset.redistribute and dataset.license != "not stated":
        notes.append(
            "The terms of this data set do not allow redistribution of the data or of works derived from it: do not "
            "share this folder (plots, student weights)."
        )
    return notes
