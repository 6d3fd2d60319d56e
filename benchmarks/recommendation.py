"""KGAT and what it is compared with on one set: same pairs, as many trials, paired differences with intervals.

Each model gets the trials of ``TRIALS`` on seed 0, chosen by the recall of the validation pairs; the setting that wins
is trained under every seed (the seed divides the pairs, and draws weights and batches) and tested once. Runs are lines
of a CSV file; those that are there are not run again, and one that was stopped goes on from its checkpoint.

    python benchmarks/recommendation.py kgcn-music --seeds 3 --out benchmarks/results/recommendation-kgcn-music.csv
    python benchmarks/recommendation.py --report benchmarks/results/recommendation-kgcn-music.csv

AUC is that of each test pair against one item that the user never took, drawn under the seed: what KGCN, RippleNet and
MKR publish, on negatives of their own drawing.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import tempfile
import time
from pathlib import Path

import torch

from hgraph import datasets, models, train
from hgraph.structure import Adjacency
from hgraph.train.samplers import _not_in

WIDTH = 64
TRIALS = ({"lr": 0.003, "l2": 1e-3}, {"lr": 0.003, "l2": 1e-2}, {"lr": 0.003, "l2": 1e-1})
METRICS = ("recall@20", "ndcg@20", "ndcg_hits@20", "hit@20", "precision@20", "auc")
COLUMNS = ("set", "model", "seed", "lr", "l2", "epochs", "best_epoch", "cpu_seconds", "validation", *METRICS, "torch")


def sizes(data):
    return data.num_users, data.num_items, data.kg.num_nodes


def kgat(data, **options):
    relations = 2 * (data.kg.num_relations + 1)
    return models.KGAT(*sizes(data), relations, **({"embed_dim": WIDTH, "kge_dim": WIDTH} | options))


# name: (how to make it, epochs at most, options of the training)
MODELS = {
    "BPR-MF": (lambda d: models.BPRMF(*sizes(d)[:2], embed_dim=WIDTH), 200, {}),
    "FM": (lambda d: models.FM(*sizes(d), embed_dim=WIDTH), 200, {}),
    "LightGCN": (lambda d: models.LightGCN(*sizes(d)[:2], embed_dim=WIDTH), 100, {}),
    "CKE": (lambda d: models.CKE(*sizes(d), d.kg.num_relations, embed_dim=WIDTH, kge_dim=WIDTH), 100, {}),
    "CFKG": (lambda d: models.CFKG(*sizes(d), 2 * (d.kg.num_relations + 1), embed_dim=WIDTH), 100, {}),
    "KGAT": (kgat, 60, {}),
    "KGAT laplacian": (lambda d: kgat(d, attention="laplacian"), 60, {}),
    "KGAT 1 layer": (lambda d: kgat(d, layers=(64,)), 60, {}),
}


def auc(model, data, seed):
    """Each test pair against one item that the user took in no part."""
    score = train.scorer(model, train.structure_of(model, data))
    parts = (data.train, data.val, data.test)
    whole = Adjacency.from_coo(
        target=torch.cat([p.target for p in parts]), source=torch.cat([p.indices for p in parts]),
        num_targets=data.num_users, num_sources=data.num_items,
    )  # fmt: skip
    codes = whole.target.long() * data.num_items + whole.indices
    users, items = data.test.target.long(), data.test.indices.long()
    with train.seeded(seed):
        wrong = _not_in(codes, lambda i: users * data.num_items + i, len(users), data.num_items, users.device)
    table = score(torch.arange(data.num_users))
    scores = torch.cat([table[users, items], table[users, wrong]])
    return train.roc_auc(scores, torch.arange(len(scores)) < len(users))


def run(name, model_name, seed, trial, root, place):
    make, epochs, options = MODELS[model_name]
    data = datasets.load(name, root, seed=seed)[0]
    with train.seeded(seed):
        model = make(data)
    begin = time.process_time()
    checkpoint = place / f"{name}-{model_name}-{seed}-{trial['lr']}-{trial['l2']}.safetensors".replace(" ", "_")
    result = train.fit_recommender(
        model, data, epochs=epochs, lr=trial["lr"], l2=trial["l2"], every=5, patience=4, seed=seed,
        checkpoint=checkpoint, progress=False, **options,
    )  # fmt: skip
    spent = time.process_time() - begin
    score = train.scorer(model, train.structure_of(model, data))
    found = train.full_ranking(score, data.test, [data.train, data.val], ks=[20])
    official = train.full_ranking(score, data.test, [data.train, data.val], ks=[20, 100], ideal="hits")
    row = {
        "set": name, "model": model_name, "seed": seed, **trial, "epochs": len(result.history),
        "best_epoch": result.best_epoch, "cpu_seconds": round(spent, 1), "validation": result.best["validation"],
        **{m: found[m] for m in METRICS if m in found}, "ndcg_hits@20": official["ndcg@20"],
        "auc": auc(model, data, seed), "torch": torch.__version__,
    }  # fmt: skip
    checkpoint.unlink(missing_ok=True)
    return row


def read(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def key(row):
    return row["model"], int(row["seed"]), float(row["lr"]), float(row["l2"])


def compare(name, path, seeds, root, chosen):
    place = Path(tempfile.gettempdir()) / "hgraph-recommendation"
    path.parent.mkdir(parents=True, exist_ok=True)

    def once(model, seed, trial):
        rows = {key(row): row for row in read(path)}
        wanted = (model, seed, trial["lr"], trial["l2"])
        if wanted not in rows:
            row = run(name, model, seed, trial, root, place)
            new = not path.exists()
            with open(path, "a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow({k: f"{v:.5f}" if isinstance(v, float) and k in METRICS else v for k, v in row.items()})
            print(
                f"{model:15s} seed {seed} {trial}: recall@20 {row['recall@20']:.4f}, {row['cpu_seconds']} s", flush=True
            )
            return row
        return rows[wanted]

    best = {}
    for model in chosen:
        tried = [once(model, 0, trial) for trial in TRIALS]
        best[model] = TRIALS[max(range(len(TRIALS)), key=lambda i: float(tried[i]["validation"]))]
    for seed in range(1, seeds):  # seed by seed, so that a run that stops has all models under the same seeds
        for model in chosen:
            once(model, seed, best[model])


def report(path):
    rows = read(path)
    print(f"| model | {' | '.join(METRICS)} | lr, l2 | CPU s | recall@20 of KGAT less it, 95 % |")
    print("|" + "---|" * (len(METRICS) + 4))
    winners = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        first = max((row for row in own if row["seed"] == "0"), key=lambda row: float(row["validation"]))
        winners[model] = {int(row["seed"]): row for row in own if (row["lr"], row["l2"]) == (first["lr"], first["l2"])}
    for model, own in winners.items():
        cells = []
        for metric in METRICS:
            values = torch.tensor([float(row[metric]) for row in own.values()], dtype=torch.float64)
            spread = f" ± {values.std():.4f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4f}{spread}")
        one = next(iter(own.values()))
        cpu = sum(float(row["cpu_seconds"]) for row in rows if row["model"] == model)
        difference = paired(winners.get("KGAT", {}), own) if model != "KGAT" else ""
        print(f"| {model} | {' | '.join(cells)} | {one['lr']}, {one['l2']} | {cpu:.0f} | {difference} |")
    print(f"\n{max(map(len, winners.values()))} seeds; " + ", ".join(f"{m}: {len(o)}" for m, o in winners.items()))


def paired(ours, theirs):
    """Mean of the differences over common seeds and the half-width of Student's interval."""
    from scipy.stats import t

    both = sorted(set(ours) & set(theirs))
    gap = torch.tensor([float(ours[s]["recall@20"]) - float(theirs[s]["recall@20"]) for s in both], dtype=torch.float64)
    if len(gap) < 2:
        return f"{gap.mean():+.4f} (one seed)" if len(gap) else ""
    half = float(t.ppf(0.975, len(gap) - 1)) * float(gap.std()) / math.sqrt(len(gap))
    return f"{gap.mean():+.4f} ± {half:.4f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", nargs="?", default="kgcn-music")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--root", default=os.environ.get("HGRAPH_DATA"))
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.report:
        report(given.report)
    else:
        out = given.out or Path(f"benchmarks/results/recommendation-{given.set}.csv")
        compare(given.set, out, given.seeds, given.root, given.models)
        report(out)
