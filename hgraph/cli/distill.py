"""`hgraph distill`."""

from __future__ import annotations

import json
import shlex
import shutil
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import Teacher
from hgraph.cli.common import (
    LOG,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RootOption,
    device_of,
    load,
    made_with,
    plain_errors,
    run_folder,
)
from hgraph.cli.numbers import SEEDS, real, whole
from hgraph.cli.runs import check_folder, running
from hgraph.cli.teachers import MLP, STUDENTS, UNSEEN, Setting, Student, added, networks_of, prepare, split_of
from hgraph.cli.towers import STEPS, distill_run, is_run
from hgraph.errors import ArgumentError, DataError
from hgraph.models.registry import ModelEntry, find

if TYPE_CHECKING:
    import torch

    from hgraph.data import Data, Dataset
    from hgraph.distill import Comparison, Term


class Objective(Enum):
    """What a student learns from: the names of `hgraph.distill.objectives`."""

    LIGHTHGNN = "lighthgnn"
    LIGHTHGNN_PLUS = "lighthgnn+"
    GLNN = "glnn"
    KRD = "krd"
    NOSMOG = "nosmog"


# what is called by a paper's name without all of the paper
_WITHOUT = {"nosmog": "nosmog without its position features and similarity term"}


class Variant(Enum):
    """Whose form of the divergence: the paper's, or that of its released code."""

    PAPER = "paper"
    OFFICIAL = "official"


@plain_errors
def distill(
    context: typer.Context,
    dataset: Annotated[
        str, typer.Argument(help="A name of `hgraph datasets list`, a folder you built, or the run of a recommender.")
    ],
    teacher: Annotated[Teacher, typer.Option(help="The network that teaches.")] = Teacher("hgnn"),
    seed: Annotated[int, whole(low=0, high=SEEDS, help="Draws the split, the weights, the dropout.")] = 0,
    objective: Annotated[
        Objective, typer.Option(help="What the student learns from; nosmog: soft labels and noisy features alone.")
    ] = Objective.LIGHTHGNN,
    variant: Annotated[Variant, typer.Option(help="Form of the loss, of lighthgnn and lighthgnn+.")] = Variant.PAPER,
    lam: Annotated[float, real(low=0, high=1, help="Weight of the true labels.")] = 0.0,
    student: Annotated[
        Student, typer.Option(help="The MLP; words is better on later nodes where features are word counts.")
    ] = Student.PUBLISHED,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Export honest probabilities: see ECE in the report.")
    ] = False,
    setting: Annotated[Setting, typer.Option(help="What training may see.")] = Setting.TRANSDUCTIVE,
    epochs: Annotated[int, whole(help="Steps of each of the three trainings.")] = 200,
    steps: Annotated[int | None, whole(help=f"Of the student of a recommender; default {STEPS}.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/<dataset>-<teacher>-student-<seed>, or RUN/student.")
    ] = None,
    overwrite: OverwriteOption = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Distill a (hyper)graph network into an MLP, and compare both with the MLP alone.

    Trains a teacher on the structure, a student MLP on the teacher's soft labels, and the same MLP on labels alone;
    prints test accuracy, size and latency, and how good the student is on rows that training never saw (which takes a
    second training of teacher and student), and writes report.md with plots, the weights of all three, and the student
    as `hgraph predict` reads it. The same command again goes on with a run that was stopped.

    Of a run of `hgraph train --model kgat`, or of another recommender, the student is a two-tower MLP that learns to
    rank items as the model of the run does, written as ONNX; recall kept and the time of an answer are printed.
    """
    if is_run(dataset):
        _refuse_others(context)
        distill_run(
            Path(dataset), steps=steps or STEPS, out=out, overwrite=overwrite, device=device, root=root,
            as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    if steps is not None:
        raise ArgumentError("steps", "nothing, as steps are those of a recommender's student", steps, "Give --epochs")
    tutor = find(teacher.value)
    folder = run_folder(out, dataset, f"{tutor.name}-student", seed)
    check_folder(folder, overwrite=overwrite)
    term = _objective(objective, variant, lam)
    if objective.value in _WITHOUT:
        LOG.warning("objective: %s; hgraph.distill has them as position_features and MatchSimilarity",
                    _WITHOUT[objective.value])  # fmt: skip
    where = device_of(device)
    loaded = load(dataset, root=root, seed=seed)

    from hgraph.datasets import Inputs
    from hgraph.distill import compare, write_report
    from hgraph.distill.report import table

    data, split = prepare(loaded, tutor, setting, seed).to(where), split_of(setting)
    run: dict[str, Any] = {"dataset": dataset, "teacher": tutor.name, "objective": objective.value}
    run |= {"variant": variant.value, "lam": lam, "student": student.value, "setting": setting.value}
    run |= {"seed": seed, "epochs": epochs}
    networks = networks_of(data, tutor, student, seed)
    options: dict[str, Any] = {"objective": term, "split": split, "seed": seed, "epochs": epochs}
    with running(folder, run | {"data": repr(data)}, overwrite=overwrite) as place:
        options["progress"] = False if quiet else None
        networks_in_turn = networks["teacher"], networks["mlp"], networks["student"]
        comparison = compare(*networks_in_turn, data, **options, checkpoints=place)
        unseen = options | {"checkpoints": place / "unseen"}
        rows = _of_new_rows(comparison, loaded, tutor, student, setting, where, **unseen)
        names = {"mlp": "MLP", "teacher": f"{tutor.title} (teacher)", "student": "student"}
        config = _config(loaded, data, split, tutor, student, run, where)
        config |= {"command": _command(run, calibrate, device, folder), "run": run}
        temperature = (comparison.student.temperature if calibrate else None) or 1.0
        title = f"{loaded.name}: {tutor.title} distilled into an MLP (seed {seed}, {setting.value})"
        headings: dict[str, Any] = {"names": names, "title": title, "config": config}
        more = [*([rows] if rows else []), *added(loaded, tutor)]
        headings["notes"] = [*_about(loaded), *(f"{tutor.title}: {note}" for note in more)]
        try:
            _export(networks["student"], folder / "student", data, temperature, more)
            Inputs.of(data).save(folder / "student")
            report = write_report(folder, comparison, networks, data, split=split, **headings)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        figures = {key: model.figures() for key, model in comparison.items()}
        head = {"dataset": loaded.name, "setting": setting.value, "seed": seed}
        typer.echo(json.dumps(head | figures, allow_nan=False))
    else:
        typer.echo(f"{table(comparison, names)}\n")
        typer.echo(f"{rows}\n\nreport: {report}" if rows else f"report: {report}")


def _of_new_rows(
    comparison: Comparison,
    loaded: Dataset,
    tutor: ModelEntry,
    student: Student,
    setting: Setting,
    where: torch.device,
    **options: Any,
) -> str:
    """How good the student is on rows that training never saw, as `predict` and `serve` answer them; "" if unknown.

    Of a transductive run this takes training a teacher and a student again, without some of the test nodes.
    """
    from hgraph.distill import unseen_accuracies

    seen = comparison.student.test_accuracy
    if setting is Setting.PRODUCTION:
        found = comparison.student.unseen_accuracy
        how = "the test nodes that were taken out before training"
    else:
        seed, production = options["seed"], Setting.PRODUCTION
        data = prepare(loaded, tutor, production, seed).to(where)
        made = networks_of(data, tutor, student, seed)
        pair = unseen_accuracies(made["teacher"], made["student"], data, **{**options, "split": split_of(production)})
        found = None if pair is None else pair[1]
        teacher = "" if pair is None else f"; its teacher: {100 * pair[0]:.1f} %"
        how = f"{UNSEEN:.0%} of the test nodes, taken out for a second training{teacher}"
    if found is None:
        return ""
    what = "of which training saw the features" if setting is Setting.TRANSDUCTIVE else "seen and unseen together"
    answered = f"New rows, as `hgraph predict` and `serve` answer them: {100 * found:.1f} % right ({how})"
    return f"{answered}. The test accuracy of {100 * seen:.1f} % is of nodes {what}."


def _refuse_others(context: typer.Context) -> None:
    """Options that shape other students, given with the run of a recommender."""
    common = {"dataset", "steps", "out", "overwrite", "device", "root", "as_json", "quiet"}
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in common and source is not None and source.name == "COMMANDLINE":
            hint = "The run says the model, the data and the seed"
            raise ArgumentError(name, "nothing, as the student of a recommender has no such setting", "a value", hint)


def _objective(objective: Objective, variant: Variant, lam: float) -> Term:
    from hgraph.distill.objectives import OBJECTIVES

    if objective in (Objective.LIGHTHGNN, Objective.LIGHTHGNN_PLUS):
        return OBJECTIVES[objective.value](lam, variant=variant.value)
    if variant is Variant.OFFICIAL:
        raise ArgumentError("variant", "paper, for other objectives than lighthgnn and lighthgnn+", variant.value)
    return OBJECTIVES[objective.value](lam)


def _command(run: dict[str, Any], calibrate: bool, device: str, folder: Path) -> str:
    words = ["hgraph", "distill", run["dataset"], "--teacher", run["teacher"], "--seed", str(run["seed"])]
    for name in ("objective", "variant", "lam", "student", "setting", "epochs"):
        words += [f"--{name}", str(run[name])]
    return shlex.join([*words, *["--calibrate"] * calibrate, "--device", device, "--out", str(folder)])


def _export(student: torch.nn.Module, folder: Path, data: Data, temperature: float, notes: list[str]) -> None:
    """The student as `hgraph predict` reads it, in the place of an earlier one."""
    from hgraph.distill import export
    from hgraph.distill.serving.export import CARD

    if (folder / CARD).is_file():
        shutil.rmtree(folder)
    from hgraph.nn.rows import UnitSums

    named: dict[str, Any] = {key: data.meta.get(key) for key in ("class_names", "feature_names", "encoder")}
    if data.meta.get("row_sums"):  # what loading did to the counts, the student does to rows of counts
        named["preprocess"] = UnitSums()
    export(student, folder, data.x[:64].cpu(), temperature=temperature, notes=notes, **named)


def _config(
    dataset: Dataset,
    data: Data,
    split: str,
    teacher: ModelEntry,
    student: Student,
    run: dict[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    parts = data.split(split)
    unseen = f", {len(parts.unseen)} test nodes unseen" if len(parts.unseen) else ""
    objective = _WITHOUT.get(run["objective"], run["objective"])
    return {
        "dataset": dataset.name,
        "structure": repr(data.structure),
        "features": data.num_features,
        "classes": data.num_classes,
        "train / validation / test": f"{len(parts.train)} / {len(parts.val)} / {len(parts.test)}",
        "setting": run["setting"] + unseen,
        "teacher": f"{teacher.title}, width {teacher.width}, dropout 0.5",
        "student": f"MLP ({student.value}), width {MLP.width}, {STUDENTS[student][1]}",
        "objective": f"{objective} ({run['variant']}), weight of the true labels {run['lam']:g}",
        "training": f"Adam, lr 0.01, weight decay 0.0005, {run['epochs']} epochs, first best validation accuracy kept",
        "seed": run["seed"],
        "device": str(device),
        **made_with(),
    }


def _about(dataset: Dataset) -> list[str]:
    notes = [f"License: {dataset.license}.", f"Citation: {dataset.citation}", *dataset.caveats]
    if not dataset.redistribute:
        notes.append(
            "The terms of this data set do not allow passing it on, nor what is made from it: keep this folder "
            "(plots, student weights) to yourself."
        )
    return notes
