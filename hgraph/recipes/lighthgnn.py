"""LightHGNN and LightHGNN+ (Feng et al., ICLR 2024): teachers, students, both forms of the loss, both settings."""

from __future__ import annotations

import dataclasses
import json
import statistics
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hgraph import datasets, models
from hgraph.data import Data, Split
from hgraph.distill import Labels, Term, activations, distill, lighthgnn, lighthgnn_plus, topology_score
from hgraph.errors import ArgumentError, did_you_mean
from hgraph.files import write_atomically
from hgraph.models import registry
from hgraph.recipes.recipe import read_results
from hgraph.report import Report
from hgraph.structure import Graph, Hypergraph
from hgraph.train import (
    accuracy,
    classification_loss,
    eval_mode,
    expected_calibration_error,
    fit,
    seeded,
    training_view,
)

__all__ = ["prepare", "results_of", "run"]

TEACHERS = {name: registry.find(name).load() for name in ("hgnn", "hgnn+")}  # the teachers of the paper
OBJECTIVES: dict[str, Callable[[], Term]] = {
    "lighthgnn-official": lambda: lighthgnn(variant="official"),
    "lighthgnn": lighthgnn,
    "lighthgnn+-official": lambda: lighthgnn_plus(variant="official"),
    "lighthgnn+": lighthgnn_plus,
}
ALONE = ("mlp", "plain")  # networks without a teacher: run once, with the first teacher
_EPOCHS = 200
_PROTOCOL = 2  # 1: training in the production setting used hyperedges and word counts of unseen nodes
MODELS = [*ALONE, "teacher", *OBJECTIVES, "plain-lighthgnn"]


def run(
    recipe: dict[str, Any],
    folder: Path,
    *,
    only: Sequence[str] = (),
    seeds: int | None = None,
    epochs: int | None = None,
    device: torch.device | str = "cpu",
    root: Path | None = None,
    progress: Callable[[str], None] = print,
) -> Path:
    """Run the missing parts of the recipe; returns the path of ``report.md``.

    Args:
        recipe: the content of the TOML file.
        folder: appends one line per trained network to ``results.jsonl``; writes ``report.md`` at the end.
        only: names of data sets; None runs all.
        seeds: seeds 0 .. seeds-1; None takes the recipe's number.
        epochs: number of epochs of every training; None is 200.
        device: device for training.
        root: folder of data files.
        progress: called with a message before each seed of a row.
    """
    known = {row["dataset"] for row in recipe["rows"]}
    for name in only:
        if name not in known:
            hint = did_you_mean(name, sorted(known))
            raise ArgumentError("only", f"data sets of the recipe, {sorted(known)}", repr(name), hint)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    rows = [row for row in recipe["rows"] if not only or row["dataset"] in only]
    done, epochs = {_key(r) for r in read_results(results, _Record)}, epochs or _EPOCHS
    current = {"epochs": epochs, "protocol": _PROTOCOL}
    for row in rows:
        for seed in range(recipe["seeds"] if seeds is None else seeds):
            where = {"setting": row["setting"], "dataset": row["dataset"], "teacher": row["teacher"], "seed": seed}
            where |= current
            if all(_key({**where, "model": m}) in done for m in MODELS if m not in ALONE or row["teacher"] == "hgnn"):
                continue
            progress(f"{row['title']}, {row['setting']}, {row['teacher']}, seed {seed}")
            data = prepare(row["dataset"], seed, root, row["setting"]).to(device)
            with results.open("a", encoding="utf-8") as file:
                for record in results_of(data, row["setting"], row["teacher"], seed, epochs):
                    if _key({**where, **record}) not in done:
                        file.write(json.dumps({**where, **record}) + "\n")
                        file.flush()
    report = folder / "report.md"
    records = [r for r in read_results(results, _Record) if _key(r)[5:] == _key({**r, **current})[5:]]
    write_atomically(report, _report(recipe, rows, records).encode())
    return report


def prepare(name: str, seed: int, root: Path | None = None, setting: str = "transductive") -> Data:
    """A data set prepared as in the protocol: merged hyperedges, singletons, normalized rows, a split by seed.

    The split has the name of the setting. In the production setting, training hyperedges and tf-idf weights use only
    the training view; otherwise, the neighborhood of an unseen node would connect training nodes.
    """
    options = {"self_loops": True} if name == "citeseer" else {}
    data = datasets.load(name, root=root, **options)[0]
    return prepared(name, dataclasses.replace(data, y=data.y.clamp(min=0), splits={}), seed, setting)


def prepared(name: str, data: Data, seed: int, setting: str, **counts: int) -> Data:
    """`prepare` for loaded data; ``counts`` are arguments of `Split.per_class`."""
    counts = {"num_train_per_class": 20, "num_val_per_class": 100} | counts
    split = Split.per_class(data.structure, data.y, seed=seed, **counts)
    if setting == "production":
        split = Split.production(data, split, unseen_fraction=0.2, seed=seed)
    split = dataclasses.replace(split, structure=_hyperedges(split.structure))
    seen = data.x if split.observed is None else data.x[split.observed]
    x = _features(name, data.x, seen)
    return dataclasses.replace(data, structure=_hyperedges(data.structure), x=x, splits={setting: split})


def _hyperedges(structure: Graph | Hypergraph) -> Hypergraph:
    if isinstance(structure, Graph):
        structure = edges_and_neighborhoods(structure)
    return structure.without_repeats().with_singletons()


def edges_and_neighborhoods(graph: Graph) -> Hypergraph:
    """Hyperedges from each edge (one for both directions), then from each node with its neighbors."""
    source, target = graph.edge_index.sort(0).values
    pairs = torch.unique(torch.stack([source, target]), dim=1).T.tolist()
    around: list[set[int]] = [{v} for v in range(graph.num_nodes)]
    for a, b in pairs:
        around[a].add(b)
        around[b].add(a)
    members = [sorted(set(p)) for p in pairs] + [sorted(a) for a in around]
    return Hypergraph.from_lists(members, num_nodes=graph.num_nodes)


def _features(name: str, x: Tensor, seen: Tensor) -> Tensor:
    if name == "newsgroups":  # binary word features: tf-idf with the counts of the observed rows, rows of length one
        x = (x != 0).float() * ((1 + len(seen)) / (1 + (seen != 0).float().sum(0))).log().add(1)
        return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return x / x.sum(1, keepdim=True).clamp(min=1e-12)


class _OnWords(nn.Module):
    """A network with sparse input features, converted once: few word counts are nonzero, so it is 4 times faster."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._seen: Tensor | None = None
        self._sparse: Tensor | None = None

    def forward(self, x: Tensor, *structure: Any) -> Tensor:
        if self._seen is not x:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sparse")  # torch's beta warning for sparse tensors
                self._seen, self._sparse = x, x.to_sparse_csr()
        return self.network(self._sparse, *structure)


def results_of(
    data: Data, setting: str, teacher_name: str, seed: int, epochs: int, wanted: Collection[str] = tuple(MODELS)
) -> Iterator[dict[str, Any]]:
    """Train all networks, or the named ones, for one seed of one row; one record of results for each."""
    options: dict[str, Any] = {"epochs": epochs, "progress": False, "seed": seed}
    part = training_view(data, setting)

    def made(make: Any, width: int, **keywords: Any) -> nn.Module:
        with seeded(seed):
            return _OnWords(make(data.num_features, width, data.num_classes, **keywords)).to(data.x.device)

    teacher = made(TEACHERS[teacher_name], 32)
    loss, validate = classification_loss(part)
    fit(teacher, (part.x, part.structure), loss, validate=validate, label="teacher", **options)
    yield {"model": "teacher", **_figures(teacher, "network.conv1", (data.x, data.structure), data, setting)}

    def student(objective: Term, norm: bool) -> dict[str, Any]:
        network = made(models.MLP, 128, norm=norm)
        distill(teacher, network, data, objective=objective, split=setting, **options)
        return _figures(network, "network.norm", (data.x,), data, setting)

    lessons: dict[str, tuple[Term, bool]] = {"plain-lighthgnn": (lighthgnn(), False)}
    if teacher_name == "hgnn":  # independent of the teacher: run once
        lessons = {"mlp": (Labels(), True), "plain": (Labels(), False)} | lessons
    lessons |= {name: (make(), True) for name, make in OBJECTIVES.items()}
    for name, (objective, norm) in lessons.items():
        if name in wanted:
            yield {"model": name, **student(objective, norm)}


@torch.no_grad()
def _figures(network: nn.Module, layer: str, inputs: tuple[Any, ...], data: Data, setting: str) -> dict[str, Any]:
    """In percent: accuracy and calibration on all test nodes, accuracy on unseen nodes; and the topology score."""
    with eval_mode(network):
        logits = network(*inputs)
    parts, y = data.split(setting), data.y
    assert isinstance(data.structure, Hypergraph)  # noqa: S101 - prepare makes one
    figures = {
        "accuracy": 100 * accuracy(logits[parts.test], y[parts.test]),
        "ece": 100 * expected_calibration_error(logits[parts.test], y[parts.test]),
        "topology": topology_score(activations(network, layer, *inputs), data.structure),
    }
    if len(parts.unseen):
        figures["unseen"] = 100 * accuracy(logits[parts.unseen], y[parts.unseen])
    return figures


# ---------------------------------------------------------------------- results on disk, and the report


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What is trained once: also the epochs and, where they differ, the version of the protocol."""
    named = tuple(record[k] for k in ("setting", "dataset", "teacher", "seed", "model"))
    changed = record["setting"] == "production"
    return *named, record.get("epochs", _EPOCHS), record.get("protocol", 1) if changed else None


@dataclass(frozen=True)
class _Record:
    """A line of ``results.jsonl``; figures are in percent."""

    setting: str
    dataset: str
    teacher: str
    seed: int
    model: str
    epochs: int = 200
    protocol: int = 1
    accuracy: float | None = None
    unseen: float | None = None
    ece: float | None = None
    topology: float | None = None


def _report(recipe: dict[str, Any], rows: list[dict[str, Any]], records: list[dict[str, Any]]) -> str:
    report = Report(recipe["title"]).text(
        "Protocol. " + recipe["protocol"].strip(), "Deviations. " + recipe["deviations"].strip()
    )
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        found[record["setting"], record["dataset"], record["teacher"], record["model"]].append(record)
    for figure, title in (
        ("accuracy", "Test accuracy, %"),
        ("unseen", "Accuracy on unseen nodes, %"),
        ("ece", "Expected calibration error, %"),
        ("topology", "Topology score"),
    ):
        for setting in ("transductive", "production"):
            body = [_cells(row, figure, found) for row in rows if row["setting"] == setting]
            if any("+-" in cell for cells in body for cell in cells):
                report.section(f"{title}, {setting}: mean +- population std (published)")
                report.table([["set", "teacher", "seeds", *MODELS], *body], align="left")
    return str(report)


def _cells(row: dict[str, Any], figure: str, found: dict[tuple[Any, ...], list[dict[str, Any]]]) -> list[str]:
    cells, count = [], 0
    for model in MODELS:
        records = found[row["setting"], row["dataset"], "hgnn" if model in ALONE else row["teacher"], model]
        values = [r[figure] for r in records if figure in r]
        digits = 2 if figure == "topology" else 1
        cell = f"{statistics.mean(values):.{digits}f} +- {statistics.pstdev(values):.{digits}f}" if values else ""
        known = row.get(figure, {}).get(model)
        cells.append(cell + (f" ({known})" if known is not None else ""))
        count = max(count, len(values))
    return [row["title"], row["teacher"], str(count), *cells]
