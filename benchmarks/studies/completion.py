"""Knowledge graph completion: five models on published graphs, filtered, realistic ranks of both sides.

    python benchmarks/studies/completion.py nations umls kinship --out benchmarks/results/completion.csv
    python benchmarks/studies/completion.py wn18rr --models ComplEx --epochs 20 --dim 128
    python benchmarks/studies/completion.py --report benchmarks/results/completion.csv

One setting for all models of a set, chosen by no search: d, Adam's learning rate, and an L2 term. What was published
with each model was found by search, in larger dimensions and with more epochs, and ranks ties otherwise.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import tempfile
import time
from pathlib import Path

import torch

from hgraph import datasets, train
from hgraph.benchmarks.studies.published import COMPLETION
from hgraph.benchmarks.studies.published import lines as beside
from hgraph.models import registry

MODELS = {entry.title: entry for entry in registry.select(task="triple completion")}
HEAD = """# Completion of knowledge graphs

Made by `python benchmarks/studies/completion.py --report benchmarks/results/completion.csv` from the rows of that file.
Filtered, realistic ranks of both sides; one setting for all models of a set, chosen by no search; means and deviations
over seeds.
"""
COLUMNS = (
    "set", "model", "seed", "dim", "epochs", "best_epoch", "lr", "l2", "negatives", "mrr", "hits@1", "hits@3",
    "hits@10", "mean_rank", "cpu_seconds", "torch",
)  # fmt: skip


def run(name, kind, seed, given):
    checkpoint = Path(tempfile.gettempdir()) / "hgraph-completion" / f"{name}-{kind}-{seed}-{given.dim}.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    split = datasets.load(name, given.root)[0]
    begin = time.process_time()
    model = train.build_model(MODELS[kind], split, seed=seed, dim=given.dim)  # the space of TransR keeps its size
    result = train.fit_triples(
        model, split, epochs=given.epochs, lr=given.lr, l2=given.l2, batch=given.batch, negatives=given.negatives,
        eval_every=given.every, seed=seed, checkpoint=checkpoint, progress=False,
    )  # fmt: skip
    spent = time.process_time() - begin
    checkpoint.unlink(missing_ok=True)
    found = train.triple_ranking(model, split.test.triples, split.known())
    settings = {"set": name, "model": kind, "seed": seed, "dim": given.dim, "epochs": len(result.history)}
    settings |= {"best_epoch": result.best_epoch, "lr": given.lr, "l2": given.l2, "negatives": given.negatives or "all"}
    settings |= {"torch": torch.__version__}
    return settings | {key: f"{value:.4f}" for key, value in found.items()} | {"cpu_seconds": f"{spent:.1f}"}


def report(path):
    """Mean reciprocal rank and hits@10 in Markdown, with the deviation over seeds."""
    rows = read(path)
    lines = [HEAD, "| set | model | seeds | MRR | hits@1 | hits@10 | d, epochs, negatives | CPU s |"]
    lines.append("|---|---|---:|---:|---:|---:|---|---:|")
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["model"]), []).append(row)
    for (name, model), own in groups.items():
        cells = []
        for metric in ("mrr", "hits@1", "hits@10"):
            values = torch.tensor([float(row[metric]) for row in own], dtype=torch.float64)
            cells.append(f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(own) > 1 else ""))
        epochs = sorted({int(row["epochs"]) for row in own})
        most = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} .. {epochs[-1]}"
        seconds = sum(float(row["cpu_seconds"]) for row in own)
        rest = f"{own[0]['dim']}, {most}, {own[0]['negatives']} | {seconds:.0f}"
        lines.append(f"| {name} | {model} | {len(own)} | {' | '.join(cells)} | {rest} |")
    for name, found in COMPLETION.items():
        own = {row["model"]: f"{float(row['mrr']):.3f}" for row in rows if row["set"] == name}
        if own:
            lines += ["", f"## {name}: published, not to be compared directly", "", *beside(found, {"mrr": own})[:-1]]
    return "\n".join(lines)


def read(path):
    if path is None or not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def main(given):
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
    for name, kind, seed in itertools.product(given.sets, given.models, range(given.seeds)):
        if (name, kind, str(seed)) in {(row["set"], row["model"], row["seed"]) for row in read(given.out)}:
            continue
        row = run(name, kind, seed, given)
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if given.out:
            new = not given.out.exists()
            with open(given.out, "a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--l2", type=float, default=0.01)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--negatives", type=int)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--root", default=os.environ.get("HGRAPH_DATA"))
    parser.add_argument("--out", type=Path)
    torch.set_num_threads(1)
    given = parser.parse_args()
    if given.report:
        print(report(given.report))
    else:
        main(given)
