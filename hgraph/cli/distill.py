"""`hgraph distill`."""

from __future__ import annotations

import json
import shlex
import shutil
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph import __version__
from hgraph.cli.common import (
    JsonOption,
    OverwriteOption,
    RootOption,
    begin,
    check_folder,
    device_of,
    finish,
    load,
    notes,
    plain_errors,
)
from hgraph.cli.teachers import STUDENT_HIDDEN, TEACHER_HIDDEN, TEACHERS, Setting, Teacher, prepare
from hgraph.errors import DataError

if TYPE_CHECKING:
    import torch

    from hgraph.distill import Comparison, Term
    from hgraph.structure import Data, Dataset


class Objective(Enum):
    """What a student learns from: the names of `hgraph.distill.objectives`."""

    LIGHTHGNN = "lighthgnn"
    LIGHTHGNN_PLUS = "lighthgnn+"
    GLNN = "glnn"
    KRD = "krd"
    NOSMOG = "nosmog"


@plain_errors
def distill(
    dataset: Annotated[str, typer.Argument(help="A name of `hgraph datasets list`, or a folder you built.")],
    teacher: Annotated[Teacher, typer.Option(help="The network that teaches.")] = Teacher.HGNN,
    seed: Annotated[int, typer.Option(help="Draws the split, the weights, the dropout.")] = 0,
    objective: Annotated[Objective, typer.Option(help="What the student learns from.")] = Objective.LIGHTHGNN,
    setting: Annotated[Setting, typer.Option(help="What training may see.")] = Setting.TRANSDUCTIVE,
    epochs: Annotated[int, typer.Option(min=1, help="Steps of each of the three trainings.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<dataset>-<teacher>-<seed>.")] = None,
    overwrite: OverwriteOption = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Distill a (hyper)graph network into an MLP, and compare both with the MLP alone.

    Trains a teacher on the structure, a student MLP on the teacher's soft labels, and the same MLP on labels alone;
    prints test accuracy, size and latency, and writes report.md with plots.
    """
    folder = out or Path("runs") / f"{Path(dataset).resolve().name}-{teacher.value}-{seed}"
    check_folder(folder, overwrite=overwrite)
    where = device_of(device)
    loaded = load(dataset, root=root, seed=seed)

    from hgraph.distill import write_report
    from hgraph.distill.objectives import OBJECTIVES
    from hgraph.distill.report import table

    names = {"mlp": "MLP", "teacher": f"{TEACHERS[teacher][1]} (teacher)", "student": "student"}
    data = prepare(loaded, teacher, setting, seed).to(where)
    with notes(quiet):
        term = OBJECTIVES[objective.value]()
        facts: dict[str, Any] = {
            "dataset": dataset,
            "teacher": teacher.value,
            "objective": objective.value,
            "setting": setting.value,
        }
        facts |= {"seed": seed, "epochs": epochs, "data": repr(data)}
        options: dict[str, Any] = {"checkpoints": begin(folder, facts, overwrite=overwrite)}
        options |= {"epochs": epochs, "progress": False if quiet else None}
        comparison, student = _compare(data, teacher, term, setting, seed, **options)
    command = ["hgraph", "distill", dataset, "--teacher", teacher.value, "--seed", str(seed)]
    command += ["--objective", objective.value]
    config = _config(loaded, data, teacher, objective, setting, seed, epochs, where)
    command += ["--setting", setting.value, "--epochs", str(epochs), "--device", device, "--out", str(folder)]
    try:
        _export(student, folder / "student", data)
        report = write_report(
            folder,
            comparison,
            student,
            names=names,
            title=f"{loaded.name}: {TEACHERS[teacher][1]} distilled into an MLP (seed {seed}, {setting.value})",
            config=config | {"command": shlex.join(command)},
            notes=_about(loaded),
        )
        finish(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        figures = {key: model.figures() for key, model in comparison.items()}
        head = {"dataset": loaded.name, "setting": setting.value, "seed": seed}
        typer.echo(json.dumps(head | figures, allow_nan=False))
    else:
        typer.echo(f"{table(comparison, names)}\n\nreport: {report}")


def _compare(
    data: Data,
    teacher: Teacher,
    objective: Term,
    setting: Setting,
    seed: int,
    **options: Any,
) -> tuple[Comparison, torch.nn.Module]:
    """Make the three networks under the seed, train and measure them."""
    from hgraph import models
    from hgraph.distill import compare
    from hgraph.train import seeded

    def made(name: str, hidden: int, **options: Any) -> torch.nn.Module:
        with seeded(seed):
            network = getattr(models, name)(data.num_features, hidden, data.num_classes, **options)
        return network.to(data.x.device)

    name = TEACHERS[teacher][0]
    # a GAT's width is a head's: 8 heads of 4
    tutor = made(name, 4, heads=8, dropout=0.5) if teacher is Teacher.GAT else made(name, TEACHER_HIDDEN)
    mlp, student = made("MLP", STUDENT_HIDDEN), made("MLP", STUDENT_HIDDEN)
    split = "default" if setting is Setting.TRANSDUCTIVE else setting.value
    result = compare(tutor, mlp, student, data, objective=objective, split=split, seed=seed, **options)
    return result, student


def _export(student: torch.nn.Module, folder: Path, data: Data) -> None:
    """The student as `hgraph predict` reads it, in the place of an earlier one."""
    from hgraph.distill import export
    from hgraph.distill.export import CARD

    if (folder / CARD).is_file():
        shutil.rmtree(folder)
    named: dict[str, Any] = {key: data.meta.get(key) for key in ("class_names", "feature_names", "encoder")}
    export(student, folder, data.x[:64].cpu(), **named)


def _config(
    dataset: Dataset,
    data: Data,
    teacher: Teacher,
    objective: Objective,
    setting: Setting,
    seed: int,
    epochs: int,
    device: torch.device,
) -> dict[str, Any]:
    import platform

    import torch

    parts = data.split("default" if setting is Setting.TRANSDUCTIVE else setting.value)
    return {
        "dataset": dataset.name,
        "structure": repr(data.structure),
        "features": data.num_features,
        "classes": data.num_classes,
        "train / validation / test": f"{len(parts.train)} / {len(parts.val)} / {len(parts.test)}",
        "setting": setting.value + (f", {len(parts.unseen)} test vertices unseen" if len(parts.unseen) else ""),
        "teacher": f"{TEACHERS[teacher][1]}, width {TEACHER_HIDDEN}, dropout 0.5",
        "student": f"MLP, width {STUDENT_HIDDEN}, dropout 0.5",
        "objective": f"{objective.value}, lam 0 (no training labels)",
        "training": f"Adam, lr 0.01, weight decay 0.0005, {epochs} epochs, best validation accuracy (first) kept",
        "seed": seed,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": f"hgraph {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _about(dataset: Dataset) -> list[str]:
    notes = [f"Licence: {dataset.licence}.", f"Citation: {dataset.citation}", *dataset.quirks]
    if not dataset.redistribute:
        notes.append(
            "The terms of this data set do not allow passing it on, nor what is made from it: keep this folder "
            "(plots, student weights) to yourself."
        )
    return notes
