"""What an epoch of KGAT costs beside plain torch that keeps a message for each edge: seconds and peak memory.

Both compute the same numbers (checked here) on the same synthetic collaborative graph, in turn, each in a process of
its own; the peak is the kernel's, set back before each measurement (Linux). The plain form gathers rows for every edge
(E x d), multiplies, and adds with ``index_add``; its attention projects both ends of every edge, relation by relation,
and its softmax uses ``scatter_reduce`` and ``index_add``.

    python benchmarks/kgat.py --triples 100000 300000 1000000 --out benchmarks/results/kgat.csv
    python benchmarks/kgat.py --triples 100000 5000000 --last-fm --plain 0 --out benchmarks/results/kgat_growth.csv

``--last-fm`` takes all 464,567 facts of KGAT's Last-FM, for 23,566 users and as many pairs as were published, drawn
(the published training pairs are not to be had), and also times the samplers and the ranking of all items.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from hgraph import Interactions, KnowledgeGraph, datasets, models, train

D, LAYERS, RELATIONS, PAIRS = 64, (64, 32, 16), 20, 1024
COLUMNS = ("graph", "edges", "what", "form", "seconds", "peak_extra_MB", "threads", "torch")


def synthetic(triples, seed=0):
    """Half as many interactions as facts; vertices grow with the facts."""
    g = torch.Generator().manual_seed(seed)
    users, items, entities = triples // 20, triples // 25, triples // 8

    def skewed(size, count):  # popular ones, as in real data
        return (torch.rand(count, generator=g) ** 2 * size).long()

    kg = KnowledgeGraph.from_triples(
        head=torch.randint(entities, (triples,), generator=g), relation=skewed(RELATIONS, triples),
        tail=skewed(entities, triples), num_nodes=entities, num_relations=RELATIONS, duplicates="drop",
    )  # fmt: skip
    return among(kg, torch.randint(users, (triples // 2,), generator=g), skewed(items, triples // 2), users, items, 0)


def last_fm(seed=0):
    """The published facts, and as many pairs as were published, drawn."""
    real = datasets.load("kgat-last-fm", os.environ.get("HGRAPH_DATA"))[0]
    g = torch.Generator().manual_seed(seed)
    user = torch.randint(real.num_users, (3_034_796,), generator=g)
    item = (torch.rand(len(user), generator=g) ** 2 * real.num_items).long()
    return among(real.kg, user, item, real.num_users, real.num_items, 10)


def among(kg, user, item, users, items, held):
    """Interactions, one pair of each ``held`` for the ranking, of 0 none."""
    pairs = torch.unique(user * items + item)
    pairs = torch.stack([pairs // items, pairs % items])
    test = torch.arange(1, pairs.shape[1] + 1) % held == 0 if held else torch.zeros(pairs.shape[1], dtype=torch.bool)
    none = torch.empty(2, 0, dtype=torch.long)
    return Interactions.from_pairs(pairs[:, ~test], none, pairs[:, test], kg, num_users=users, num_items=items)


class Plain:
    """The same mathematics with a message for each edge."""

    def __init__(self, model, kg):
        self.model, self.head, self.relation, self.tail = model, *kg.triples.unbind(1)
        self.n = kg.num_nodes

    def refresh(self, _=None):
        m = self.model
        score = torch.empty(len(self.head))
        with torch.no_grad():
            for r in range(len(m.relation)):
                own = (self.relation == r).nonzero().flatten()
                h, t = (m.embedding[ids[own]] @ m.relation_weight[r] for ids in (self.head, self.tail))
                score[own] = (t * torch.tanh(h + m.relation[r])).sum(-1)
            top = torch.full((self.n,), -torch.inf).scatter_reduce(0, self.head, score, "amax")
            each = torch.exp(score - top[self.head])
            return each / torch.zeros(self.n).index_add(0, self.head, each)[self.head]

    def __call__(self, weight):
        m = self.model
        x, rows = m.embedding, [m.embedding]
        for conv in m.convs:
            messages = x[self.tail] * weight.unsqueeze(1)
            heard = torch.zeros(self.n, x.shape[1]).index_add(0, self.head, messages)
            a = F.leaky_relu((x + heard) @ conv.weight + conv.bias, 0.2)
            x = a + F.leaky_relu((x * heard) @ conv.product_weight + conv.product_bias, 0.2)
            rows.append(F.normalize(x, eps=1e-6))
        return torch.cat(rows, 1)


def memory(field):
    """Megabytes of a field of /proc/self/status."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(field))
    return int(line.split()[1]) / 1024


def timed(work, repeats):
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def measure(triples, form, repeats):
    """Seconds of one ranking step, one step on facts, one refresh; and the most memory beyond what was there before.

    ``triples=0`` takes `last_fm`.
    """
    torch.set_num_threads(1)
    data = synthetic(triples) if triples else last_fm()
    kg = data.collaborative()
    with train.seeded(0):
        model = models.KGAT(
            data.num_users, data.num_items, data.kg.num_nodes, kg.num_relations, embed_dim=D, kge_dim=D, layers=LAYERS,
            dropout=0.0,
        )  # fmt: skip
    pairs, facts = train.PairSampler(data.train), train.TripleSampler(kg)
    plain = Plain(model, kg)
    kg.blocks()
    weighted = model.refresh(kg)
    forward = (lambda: model(weighted)) if form == "hgraph" else (lambda: plain(weighted.adj.weight))

    def ranking():
        model.zero_grad(set_to_none=True)
        model.pair_loss(forward(), *pairs.draw(PAIRS), l2=1e-5).backward()

    def learning():
        model.zero_grad(set_to_none=True)
        model.triple_loss(*facts.draw(2048), l2=1e-5).backward()

    refresh = (lambda: model.refresh(kg)) if form == "hgraph" else plain.refresh
    found, work = {}, {"step on facts": learning, "attention refresh": refresh, "ranking step": ranking}
    if not triples:

        def rank():
            train.full_ranking(train.scorer(model, weighted), data.test, [data.train])

        draws = {"1,024 pairs drawn": lambda: pairs.draw(PAIRS), "2,048 facts drawn": lambda: facts.draw(2048)}
        work |= draws | {f"all items ranked for {data.num_users:,} users": rank}
    for name, call in work.items():
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
        seconds = timed(call, repeats)
        found[name] = seconds, memory("VmHWM") - before
    if form == "plain":
        torch.testing.assert_close(plain.refresh(), weighted.adj.weight, rtol=1e-3, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(plain(weighted.adj.weight), model(weighted), rtol=1e-3, atol=1e-4)
    return {"edges": kg.num_edges, "found": found}


def main(given):
    rows = []
    for triples in [*given.triples, *[0] * given.last_fm]:
        graph = "synthetic" if triples else "Last-FM"
        for form in (
            ("hgraph", "plain") if 0 < triples <= given.plain else ("hgraph",)
        ):  # in turn, each in a fresh process
            command = [
                sys.executable,
                __file__,
                "--one",
                form,
                "--triples",
                str(triples),
                "--repeats",
                str(given.repeats),
            ]
            done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for what, (seconds, peak) in done["found"].items():
                rows.append((graph, done["edges"], what, form, f"{seconds:.4f}", f"{peak:.0f}", 1, torch.__version__))
                print(*rows[-1], flush=True)
    if given.out:
        with open(given.out, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triples", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--plain", type=int, default=10**6, help="no plain form beyond so many triples")
    parser.add_argument("--last-fm", action="store_true", help="also the published graph of Last-FM, with drawn pairs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=("hgraph", "plain"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.triples[0], given.one, given.repeats)))
    else:
        main(given)
