"""`hgraph train` of a recommender: the run folder, and the way back from it."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hgraph.cli.common import begin, check_folder, device_of, finish, made_with, run_folder
from hgraph.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from hgraph.models.recommender import Recommender
    from hgraph.structure import Dataset, Interactions

__all__ = ["RECOMMENDERS", "load_interactions", "made", "opened_run", "train_recommender"]

RECOMMENDERS = ("kgat", "bprmf", "lightgcn", "fm", "cke", "cfkg")
FILES = ("config.json", "metrics.jsonl", "learning_curve.png", "model.safetensors", "report.md")
CUT = 20


def load_interactions(name: str, root: Path | None, seed: int) -> Dataset[Interactions]:
    """The interactions of that name, or of a folder of your own with ``interactions.csv``."""
    from hgraph import datasets
    from hgraph.datasets.own_interactions import from_interactions, is_own

    if is_own(name):
        return from_interactions(name, seed=seed)
    card = datasets.info(name)
    if card.task != "recommendation":
        hint = "A folder with interactions.csv (user,item) and triples.csv (head,relation,tail) serves, too"
        raise ArgumentError("dataset", "one for recommendation", f"{name!r}, which is for {card.task}", hint)
    return datasets.load(name, root=root, seed=seed)


def made(model: str, data: Interactions, seed: int, width: int | None = None) -> Recommender:
    """The model of that name for the data, initialised under the seed."""
    from hgraph import models
    from hgraph.train import seeded

    d = 64 if width is None else width
    users, items, entities, relations = data.num_users, data.num_items, data.kg.num_nodes, data.kg.num_relations
    both = 2 * (relations + 1)
    with seeded(seed):
        if model == "kgat":
            layers = (d, max(d // 2, 1), max(d // 4, 1))
            return models.KGAT(users, items, entities, both, embed_dim=d, kge_dim=d, layers=layers)
        if model == "cke":
            return models.CKE(users, items, entities, relations, embed_dim=d, kge_dim=d)
        if model == "cfkg":
            return models.CFKG(users, items, entities, both, embed_dim=d)
        if model == "fm":
            return models.FM(users, items, entities, embed_dim=d)
        return {"bprmf": models.BPRMF, "lightgcn": models.LightGCN}[model](users, items, embed_dim=d)


def train_recommender(
    dataset: str,
    model: str,
    *,
    seed: int,
    epochs: int,
    hidden: int | None,
    lr: float,
    patience: int | None,
    out: Path | None,
    overwrite: bool,
    device: str,
    root: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train, rank all items for the test users, and write the run folder; a run that was stopped goes on."""
    from hgraph import train
    from hgraph.structure.io import write_atomically
    from hgraph.train.checkpoint import weights_file
    from hgraph.train.plots import learning_curve

    folder = run_folder(out, dataset, model, seed)
    check_folder(folder, overwrite=overwrite)
    where = device_of(device)
    loaded = load_interactions(dataset, root, seed)
    data: Interactions = loaded[0]
    options: dict[str, Any] = {"epochs": epochs, "lr": lr, "patience": 10 if patience is None else patience}
    try:
        facts = {"dataset": dataset, "model": model, "seed": seed, "hidden": hidden, **options}
        place = begin(folder, facts | {"data": repr(data)}, overwrite=overwrite)
        network = made(model, data, seed, hidden).to(where)
        files: dict[str, Any] = {"checkpoint": place / "model.safetensors", "log": folder / "metrics.jsonl"}
        shown = False if quiet else None
        fit = train.fit_recommender(network, data, seed=seed, label=model, progress=shown, **files, **options)
        figures: dict[str, Any] = {}
        if data.test.num_edges:
            score = train.scorer(network, train.structure_of(network, data))
            known, cut = [p.to(where) for p in (data.train, data.val)], min(CUT, data.num_items)
            figures = train.full_ranking(score, data.test.to(where), known, ks=[cut])
        figures |= {"parameters": sum(p.numel() for p in network.parameters())}
        figures |= {"best_epoch": fit.best_epoch, "seconds": round(fit.seconds, 3)}
        source = str(Path(dataset).resolve()) if os.path.isdir(dataset) else dataset
        again = _command(facts, device, folder)
        config = facts | {"source": source, "command": again, "device": str(where), "kind": "recommender"}
        config |= made_with()
        title = f"{loaded.name}: {model} (seed {seed})"
        write_atomically(folder / "config.json", (json.dumps(config, ensure_ascii=False, indent=2) + "\n").encode())
        write_atomically(folder / "learning_curve.png", learning_curve({"teacher": fit}, {"teacher": model}, title))
        write_atomically(folder / "model.safetensors", weights_file(network))
        write_atomically(folder / "report.md", _report(loaded, title, figures, config).encode())
        finish(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        typer.echo(json.dumps({"dataset": loaded.name, "model": model, "seed": seed} | figures, allow_nan=False))
        return
    for name, value in figures.items():
        typer.echo(f"{name.replace('_', ' '):15s} {value:.4f}" if isinstance(value, float) else f"{name:15s} {value:,}")
    typer.echo(f"report: {folder / 'report.md'}")


def _command(facts: dict[str, Any], device: str, folder: Path) -> str:
    words = ["hgraph", "train", facts["dataset"]]
    for name in ("model", "seed", "epochs", "lr", "patience", "hidden"):
        words += [] if facts[name] is None else [f"--{name}", str(facts[name])]
    return shlex.join([*words, "--device", device, "--out", str(folder)])


def opened_run(run: Path, root: Path | None) -> tuple[Recommender, Interactions]:
    """The trained model of a run folder and the data that it was trained on."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        source, model, seed, hidden = (config[key] for key in ("source", "model", "seed", "hidden"))
        if config.get("kind") != "recommender" or model not in RECOMMENDERS:
            raise DataError(f"{run}: a run of {model!r}, which recommends nothing. Train with --model kgat")
        data = load_interactions(source, root, seed)[0]
        network = made(model, data, seed, hidden)
        network.load_state_dict(load_file(run / "model.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, (DataError, ArgumentError)):
            raise
        raise DataError(f"{run}: no finished run of a recommender, or its data have changed ({error})") from error
    return network.eval(), data


def _report(dataset: Dataset[Interactions], title: str, figures: dict[str, Any], config: dict[str, Any]) -> str:
    lines = [f"# {title}", "", f"{dataset[0]}", "", "| figure | value |", "|---|---:|"]
    lines += [f"| {k.replace('_', ' ')} | {v:.4f} |" if isinstance(v, float) else f"| {k} | {v:,} |"
              for k, v in figures.items()]  # fmt: skip
    lines += ["", "All items that a user did not take in training or validation are ranked.", ""]
    lines += ["![Validation recall over epochs](learning_curve.png)", "", f"- Licence: {dataset.licence}."]
    lines += [f"- Citation: {dataset.citation}", *(f"- {note}" for note in dataset.quirks)]
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in config.items() if key != "command"]
    return "\n".join([*lines, "", "## Again", "", "```", config["command"], "```", ""])
