"""`hgraph train`: trains and tests a network, and writes its run folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hgraph.cli.choices import (
    CLASSIFIERS,
    RECOMMENDERS,
    STARTERS,
    TRIPLES,
    ClassWeight,
    Network,
    PairSplit,
    Pretrained,
    Select,
    listed,
    named,
    value_of,
)
from hgraph.cli.common import (
    JsonOption,
    OverwriteOption,
    QuietOption,
    RootOption,
    device_of,
    plain_errors,
    print_results,
    run_folder,
    short_name,
)
from hgraph.cli.graphs import Reduce, is_of_graphs, train_graphs
from hgraph.cli.node_runs import METRICS, config_of_run, figures_of, fit_network, network_of, prepared, write_run
from hgraph.cli.numbers import SEEDS, real, setting, whole
from hgraph.cli.reading import TableOptions
from hgraph.cli.recommenders import train_recommender
from hgraph.cli.runs import check_folder, running
from hgraph.cli.seeds import Trained, train_seeds
from hgraph.cli.teachers import Setting
from hgraph.cli.threads import ThreadsOption, node_step, training_threads
from hgraph.cli.triples import train_triples
from hgraph.errors import ArgumentError, DataError
from hgraph.models.registry import ModelEntry, find


class Schedule(Enum):
    """Learning-rate schedules."""

    CONSTANT = "constant"
    COSINE = "cosine"


class Precision(Enum):
    """Number format of the computation; weights are always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


# "width of models; ..." for the help text
_WIDTHS = "; ".join(
    f"{width} for {listed(tuple(n for n in (*CLASSIFIERS, *RECOMMENDERS) if find(n).width == width))}"
    for width in dict.fromkeys(find(n).width for n in (*CLASSIFIERS, *RECOMMENDERS))
)


@plain_errors
def train(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A name from `hgraph datasets list`, a folder you built, one that holds interactions.csv, or a file "
            "or folder of triples."
        ),
    ],
    network_name: Annotated[
        Network,
        named(
            Network,
            f"Triple completion: {listed(TRIPLES)}. Recommendation: {listed(RECOMMENDERS)}. All others predict node "
            "labels.",
            "--model",
        ),
    ] = Network("hgnn+"),
    seed: Annotated[int, whole(low=0, high=SEEDS, help="Seed of the weights, dropout and random splits.")] = 0,
    seeds: Annotated[
        int,
        whole(
            high=1000,
            help="Number of consecutive seeds, from --seed; more than one adds a summary with mean and standard "
            "deviation.",
        ),
    ] = 1,
    setting: Annotated[
        Setting, typer.Option(help="transductive: training uses all nodes; production: some test nodes are left out.")
    ] = Setting.TRANSDUCTIVE,
    epochs: Annotated[int, whole(help="Maximum number of epochs.")] = 200,
    hidden: Annotated[int | None, setting("hidden", help=f"Hidden width; default: {_WIDTHS}.")] = None,
    dropout: Annotated[float, setting("dropout", help="Dropout probability.")] = 0.5,
    lr: Annotated[float, setting("lr", help="Adam's learning rate.")] = 0.01,
    weight_decay: Annotated[float, setting("weight_decay", help="Adam's L2 penalty.")] = 5e-4,
    patience: Annotated[
        int | None, whole(help="Stop after this many epochs without a better validation score.")
    ] = None,
    l2: Annotated[
        float | None,
        setting(
            "l2", help="L2 penalty on a recommender's embeddings; default 0.00001 as in KGAT; 0.01 is often better."
        ),
    ] = None,
    pretrain: Annotated[
        Pretrained | None, typer.Option(help=f"Model whose trained embeddings {listed(STARTERS)} starts from.")
    ] = None,
    validate_users: Annotated[
        int | None, whole(help="Number of randomly sampled users to validate a recommender on; default: all.")
    ] = None,
    min_rating: Annotated[
        float | None, real(low=-1e12, high=1e12, help="Leave out pairs of interactions.csv with lower ratings.")
    ] = None,
    split: Annotated[
        PairSplit | None, typer.Option(help="How pairs of interactions.csv are split; default random.")
    ] = None,
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
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=COLUMN, if a column of interactions.csv or triples.csv has another name than its role; "
            "repeatable."
        ),
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Delimiter of interactions.csv and triples.csv.")] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal separator of ratings, . or , (default .).")] = None,
    clip: Annotated[
        float | None, real(low=1e-12, high=1e12, help="Clip the norm of all gradients to this value.")
    ] = None,
    readout: Annotated[
        Reduce | None,
        typer.Option(help="For data sets of graphs: how the outputs of the nodes of a graph are reduced."),
    ] = None,
    batch: Annotated[int | None, whole(help="For data sets of graphs: number of graphs per step; default 32.")] = None,
    schedule: Annotated[Schedule, typer.Option(help="Learning-rate schedule.")] = Schedule.CONSTANT,
    precision: Annotated[Precision, typer.Option(help="Number format of the computation.")] = Precision.FLOAT32,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<dataset>-<model>-<seed>.")] = None,
    overwrite: OverwriteOption = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    threads: ThreadsOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a network on a data set and test it.

    Trains on the default split, restores the state with the best validation score (--select), prints metrics on the
    test nodes, and writes a run folder with the weights, the metrics of every epoch, plots and report.md. The same
    command resumes a stopped run. Labels of nodes may be classes, numbers (regression) or sets of labels (multi-label).

    A recommender needs interactions: a data set for recommendation, or a folder with interactions.csv (user,item) and,
    optionally, triples.csv (head,relation,tail).

    On a data set of many graphs, such as mutag, any network over graphs or hypergraphs is trained in batches (--batch),
    followed by a readout (--readout).

    rgcn, hgt and han use the relations of triples, and hgt also node types. They need a data set built from triples:
    `hgraph datasets build --edges triples.csv --node-type COLUMN`. For han, each relation followed by its inverse is a
    meta-path.

    Embeddings of a knowledge graph need triples: a data set for triple prediction, a file of triples (head, relation,
    tail), or a folder with train.txt, valid.txt and test.txt.

    With --seeds 5, five seeds are trained, each in its own folder, and the mean and standard deviation of each metric
    are printed.
    """
    pairs_only: dict[str, Any] = {
        "pretrain": pretrain,
        "validate_users": validate_users,
        "min_rating": min_rating,
        "split": split,
    }
    pairs_only |= {"column": column, "delimiter": delimiter, "decimal": decimal}
    graphs_only: dict[str, Any] = {"readout": readout, "batch": batch}
    if is_of_graphs(dataset) and network_name.value in CLASSIFIERS:
        _reject_values(network_name, l2=l2, clip=clip, class_weight=class_weight, **pairs_only)
        whole_graphs = {"setting": setting is Setting.TRANSDUCTIVE, "precision": precision is Precision.FLOAT32}
        _reject_unless(f"{dataset}, a data set of graphs", whole_graphs)

        def one_set_of_graphs(seed: int, out: Path | None) -> Trained:
            return train_graphs(
                dataset, find(network_name.value), readout=(readout or Reduce.SUM).value, batch=batch or 32, seed=seed,
                epochs=epochs, hidden=hidden, dropout=dropout, lr=lr, weight_decay=weight_decay, patience=patience,
                schedule=schedule.value, select=value_of(select), out=out, overwrite=overwrite, device=device,
                threads=threads, root=root, quiet=quiet,
            )  # fmt: skip

        _run(one_set_of_graphs, context, seed, seeds, out, dataset, network_name.value, overwrite, as_json)
        return
    _reject_values(network_name, why=f"{dataset} is not a data set of graphs", **graphs_only)
    if network_name.value in RECOMMENDERS:
        _reject_other_options(
            network_name, setting, dropout, clip, weight_decay, schedule, precision, select, class_weight
        )

        def one_recommender(seed: int, out: Path | None) -> Trained:
            return train_recommender(
                dataset, network_name.value, seed=seed, epochs=epochs, hidden=hidden, lr=lr, patience=patience, l2=l2,
                pretrain=None if pretrain is None else pretrain.value, validate_users=validate_users, out=out,
                tables=TableOptions.of(column, delimiter, decimal),
                min_rating=min_rating, split=None if split is None else split.value,
                overwrite=overwrite, device=device, threads=threads, root=root, quiet=quiet,
            )  # fmt: skip

        _run(one_recommender, context, seed, seeds, out, dataset, network_name.value, overwrite, as_json)
        return
    if network_name.value in TRIPLES:
        _reject_other_options(
            network_name, setting, dropout, clip, weight_decay, schedule, precision, select, class_weight
        )
        _reject_values(network_name, **pairs_only)

        def one_set_of_triples(seed: int, out: Path | None) -> Trained:
            return train_triples(
                dataset, network_name.value, seed=seed, epochs=epochs, hidden=hidden, lr=lr, patience=patience, l2=l2,
                out=out, overwrite=overwrite, device=device, threads=threads, root=root, quiet=quiet,
            )  # fmt: skip

        _run(one_set_of_triples, context, seed, seeds, out, dataset, network_name.value, overwrite, as_json)
        return
    _reject_values(network_name, l2=l2, **pairs_only)
    task: dict[str, Any] = {"select": value_of(select), "class_weight": value_of(class_weight)}
    options: dict[str, Any] = {"epochs": epochs, "lr": lr, "weight_decay": weight_decay, "patience": patience}
    options |= {"clip": clip, "schedule": schedule.value, "precision": precision.value}
    shape: dict[str, Any] = {"hidden": hidden, "dropout": dropout}

    def one(seed: int, out: Path | None) -> Trained:
        return _train_network(
            dataset, find(network_name.value), seed, setting, task, options, shape,
            out=out, overwrite=overwrite, device=device, threads=threads, root=root, quiet=quiet,
        )  # fmt: skip

    _run(one, context, seed, seeds, out, dataset, network_name.value, overwrite, as_json)


def _run(
    one: Callable[[int, Path | None], Trained],
    context: typer.Context,
    seed: int,
    seeds: int,
    out: Path | None,
    dataset: str,
    model: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train with one seed and print its figures, or train with several and print their mean and deviation."""
    if seeds == 1:
        head, figures, report = one(seed, out)
        print_results(figures, head, as_json)
        if not as_json:
            typer.echo(f"report: {report}")
        return
    own = {"seed", "seeds", "out", "overwrite", "as_json", "quiet"}
    settings = {name: _plain(value) for name, value in context.params.items() if name not in own}
    folder = out or Path("runs") / f"{short_name(dataset)}-{model}-seeds"
    train_seeds(one, folder, seed, seeds, settings, overwrite=overwrite, as_json=as_json)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value


def _train_network(
    dataset: str,
    model: ModelEntry,
    seed: int,
    setting: Setting,
    task: dict[str, Any],
    options: dict[str, Any],
    shape: dict[str, Any],
    *,
    out: Path | None,
    overwrite: bool,
    device: str,
    threads: str | None,
    root: Path | None,
    quiet: bool,
) -> Trained:
    """Train and test a network of labeled nodes, and write its run folder; resumes a stopped run."""
    folder = run_folder(out, dataset, model.name, seed)
    check_folder(folder, overwrite=overwrite)
    where = device_of(device)
    on = prepared(dataset, model, setting, seed, root=root, device=where, **task)
    settings = {"dataset": dataset, "model": model.name, "setting": setting.value, "seed": seed}
    settings |= shape | options | task | {"data": repr(on.data), "data_sha256": on.data_sha256}
    try:
        with running(folder, settings, overwrite=overwrite) as place:
            network = network_of(model, on.data, seed, **shape)
            files: dict[str, Any] = {"checkpoint": place / "model.safetensors", "log": folder / METRICS}
            files |= {"progress": False if quiet else None, "label": model.name}
            with training_threads(threads, place, node_step(network, on)) as count:
                fit = fit_network(network, on, seed=seed, **files, **options)
                figures, outputs = figures_of(network, on.data, model, on.split, on.task)
                figures |= {"best_epoch": fit.best_epoch, "seconds": round(fit.seconds, 3)}
                chosen = shape | options | {"seed": seed, "device": str(where)}
                written = shape | options | task | {"threads": count}
                command = _command(dataset, model, seed, setting, written, device, folder)
                config = config_of_run(on, chosen, command, dataset)
                report = write_run(folder, on, network, fit, figures, config, outputs)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    head = {"dataset": on.dataset.name, "model": model.name, "setting": setting.value, "seed": seed}
    return head, figures, report


def _reject_other_options(
    network: Network,
    setting: Setting,
    dropout: float,
    clip: float | None,
    weight_decay: float,
    schedule: Schedule,
    precision: Precision,
    select: Select | None,
    class_weight: ClassWeight | None,
) -> None:
    """Reject options that do not apply to recommenders."""
    is_default = {"setting": setting is Setting.TRANSDUCTIVE, "dropout": dropout == 0.5, "clip": clip is None}
    is_default |= {"weight_decay": weight_decay == 5e-4, "schedule": schedule is Schedule.CONSTANT}
    is_default |= {"precision": precision is Precision.FLOAT32}
    is_default |= {"select": select is None, "class_weight": class_weight is None}
    _reject_unless(network.value, is_default)


def _reject_unless(what: str, is_default: dict[str, bool]) -> None:
    for name in (name for name, default in is_default.items() if not default):
        raise ArgumentError(name, f"no value, because this option does not apply to {what}", "a value")


def _reject_values(network: Network, why: str = "", **given: Any) -> None:
    for name in (name for name, value in given.items() if value is not None):
        reason = why or f"this option does not apply to {network.value}"
        raise ArgumentError(name, f"no value, because {reason}", "a value")


def _command(
    dataset: str, model: ModelEntry, seed: int, setting: Setting, settings: dict[str, Any], device: str, folder: Path
) -> str:
    words = ["hgraph", "train", dataset, "--model", model.name, "--seed", str(seed), "--setting", setting.value]
    for name, value in settings.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", f"{value}"]
    return shlex.join([*words, "--device", device, "--out", str(folder)])
