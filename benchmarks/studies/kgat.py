"""The cost of an epoch of KGAT compared with plain torch and PyG, which store a message per edge.

All compute the same numbers (checked here) on the same synthetic collaborative graph, in turn and round by round, each
time in a process of its own; the peak is the kernel's, set back before each measurement (Linux). The plain form gathers
rows for every edge (E x d), multiplies, and adds with ``index_add``; its attention projects both ends of every edge,
relation by relation, and its softmax uses ``scatter_reduce`` and ``index_add``. The form of PyG is a `MessagePassing`
with a message for each edge, and its softmax. What is no message is the same code for all: losses, steps on triples,
Adam in one pass. A step is forward, backward, and Adam; epochs are their steps times a step: ``pairs // 1024 + 1`` of
ranking, then ``edges // 2048 + 1`` on triples and a refresh of the attention.

    python benchmarks/studies/kgat.py 100000 1000000 --forms hgraph plain PyG --out benchmarks/results/kgat.csv
    python benchmarks/studies/kgat.py 100000 300000 1000000 5000000 --gather --out benchmarks/results/kgat_growth.csv
    python benchmarks/studies/kgat.py last-fm amazon-book --out benchmarks/results/kgat_growth.csv
    python benchmarks/studies/kgat.py --draw benchmarks/results/kgat_growth.csv

A number is that of the triples of a synthetic graph. ``last-fm`` takes all 464,567 triples of KGAT's Last-FM, for
23,566 users and as many pairs as were published, drawn (the published training pairs are not to be had), and also times
the samplers and the ranking of all items; ``amazon-book`` is drawn in the published sizes, users, items, pairs,
entities, relations and triples. Rows take the place of those of the same graph, work, form and device. ``--gather``
adds the limit
of a ranking step: the rows that it reads forward and backward, added up in long bags. ``--draw`` writes the picture
beside the rows. ``--device cuda`` times on a GPU, with its allocator's peak; none has run it yet.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from hgraph import Interactions, KnowledgeGraph, datasets, models, train
from hgraph.benchmarks.ops import pure_gather

D, LAYERS, RELATIONS, PAIRS = 64, (64, 32, 16), 20, 1024
TRIPLES = 2048
COLUMNS = ("graph", "edges", "what", "form", "seconds", "peak_extra_MB", "device", "torch")
STEPS = ("ranking step", "step on triples", "attention refresh")
LIMIT = "limit: pure gather"


def synthetic(triples, seed=0):
    """Half as many interactions as triples; nodes grow with the triples."""
    g = torch.Generator().manual_seed(seed)
    users, items, entities = triples // 20, triples // 25, triples // 8

    def skewed(size, count):  # a few are popular, as in real data
        return (torch.rand(count, generator=g) ** 2 * size).long()

    kg = KnowledgeGraph.from_triples(
        head=torch.randint(entities, (triples,), generator=g), relation=skewed(RELATIONS, triples),
        tail=skewed(entities, triples), num_nodes=entities, num_relations=RELATIONS, duplicates="drop",
    )  # fmt: skip
    return among(kg, torch.randint(users, (triples // 2,), generator=g), skewed(items, triples // 2), users, items, 0)


def last_fm(seed=0):
    """The published triples, and as many random pairs as published."""
    real = datasets.load("kgat-last-fm", os.environ.get("HGRAPH_DATA"))[0]
    g = torch.Generator().manual_seed(seed)
    user = torch.randint(real.num_users, (3_034_796,), generator=g)
    item = (torch.rand(len(user), generator=g) ** 2 * real.num_items).long()
    return among(real.kg, user, item, real.num_users, real.num_items, 10)


def amazon_book(seed=0):
    """Random pairs and triples with the published numbers of users, items, entities and relations."""
    g = torch.Generator().manual_seed(seed)

    def skewed(size, count):
        return (torch.rand(count, generator=g) ** 2 * size).long()

    users, items, entities, relations, triples, pairs = 70_679, 24_915, 113_487, 39, 2_557_746, 652_514
    kg = KnowledgeGraph.from_triples(
        head=torch.randint(entities, (triples,), generator=g), relation=skewed(relations, triples),
        tail=skewed(entities, triples), num_nodes=entities, num_relations=relations, duplicates="drop",
    )  # fmt: skip
    return among(kg, torch.randint(users, (pairs,), generator=g), skewed(items, pairs), users, items, 0)


GRAPHS = {"last-fm": last_fm, "amazon-book": amazon_book}


def among(kg, user, item, users, items, held):
    """Interactions; holds out one pair per user if ``held``."""
    pairs = torch.unique(user * items + item)
    pairs = torch.stack([pairs // items, pairs % items])
    test = torch.arange(1, pairs.shape[1] + 1) % held == 0 if held else torch.zeros(pairs.shape[1], dtype=torch.bool)
    none = torch.empty(2, 0, dtype=torch.long)
    return Interactions.from_pairs(pairs[:, ~test], none, pairs[:, test], kg, num_users=users, num_items=items)


class Plain:
    """The same computation with one message per edge."""

    def __init__(self, model, kg):
        self.model, self.head, self.relation, self.tail = model, *kg.triples.unbind(1)
        self.n = kg.num_nodes

    def refresh(self, _=None):
        m = self.model
        score = torch.empty(len(self.head), device=self.head.device)
        with torch.no_grad():
            for r in range(len(m.relation)):
                own = (self.relation == r).nonzero().flatten()
                h, t = (m.embedding[ids[own]] @ m.relation_weight[r] for ids in (self.head, self.tail))
                score[own] = (t * torch.tanh(h + m.relation[r])).sum(-1)
            return self.softmax(score)

    def softmax(self, score):
        top = torch.full((self.n,), -torch.inf, device=score.device).scatter_reduce(0, self.head, score, "amax")
        each = torch.exp(score - top[self.head])
        return each / torch.zeros(self.n, device=score.device).index_add(0, self.head, each)[self.head]

    def gather(self, x, weight):
        messages = x[self.tail] * weight.unsqueeze(1)
        return torch.zeros(self.n, x.shape[1], device=x.device).index_add(0, self.head, messages)

    def layers(self, weight):
        x = self.model.embedding
        yield x
        for conv in self.model.convs:
            message = self.gather(x, weight)
            a = F.leaky_relu(torch.addmm(conv.bias, x + message, conv.weight), 0.2)
            x = a + F.leaky_relu(torch.addmm(conv.product_bias, x * message, conv.product_weight), 0.2)
            yield x

    def rows(self, weight, ids):
        first, *layers = (x.index_select(0, ids) for x in self.layers(weight))
        return torch.cat([first, *(F.normalize(x, eps=1e-6) for x in layers)], 1)

    def __call__(self, weight):
        return self.rows(weight, torch.arange(self.n, device=weight.device))


class OfPyG(Plain):
    """The same with PyG's MessagePassing and softmax."""

    def __init__(self, model, kg):
        from torch_geometric.nn import MessagePassing

        super().__init__(model, kg)

        class Weighted(MessagePassing):
            def __init__(self):
                super().__init__(aggr="add")

            def forward(self, x, edge_index, weight):
                return self.propagate(edge_index, x=x, weight=weight)

            def message(self, x_j, weight):
                return weight.unsqueeze(1) * x_j

        self.layer, self.edge_index = Weighted(), torch.stack([self.tail, self.head])

    def softmax(self, score):
        from torch_geometric.utils import softmax

        return softmax(score, self.head, num_nodes=self.n)

    def gather(self, x, weight):
        return self.layer(x, self.edge_index, weight)


FORMS = {"hgraph": None, "plain": Plain, "PyG": OfPyG}


def memory(field):
    """Megabytes of a field of /proc/self/status."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(field))
    return int(line.split()[1]) / 1024


def clock(cuda):
    """GPU time or CPU time in seconds."""
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() if cuda else time.process_time()


def timed(work, repeats, cuda):
    """The minimum time of several calls (fewer if they are long), and the peak memory above that before."""
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
    else:
        ctypes.CDLL(None).malloc_trim(0)  # return freed memory, which this call could otherwise reuse unnoticed
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = memory("VmRSS")
    found = []
    while len(found) < repeats and sum(found) < 20:
        begin = clock(cuda)
        work()
        found.append(clock(cuda) - begin)
    return min(found), (torch.cuda.max_memory_allocated() / 2**20 if cuda else memory("VmHWM")) - before


def gathers(model, kg):
    """Reads the message rows of a ranking step, forward and backward, and nothing else."""
    widths = [conv.weight.shape[0] for conv in model.convs]
    back = kg.adj.transpose()
    reads = [
        pure_gather(adj, torch.ones(kg.num_nodes, width, device=kg.device))
        for width in widths
        for adj in (kg.adj, back)
    ]
    return lambda: [read() for read in reads]


def works(data, kg, model, form):
    """The parts of an epoch by name, and their results, to compare them."""
    pairs, triples = train.PairSampler(data.train.to(kg.device)), train.TripleSampler(kg)
    other = None if form == "hgraph" else FORMS[form](model, kg)
    weighted = model.refresh(kg)
    if other is not None:  # all implementations have the same loss
        model.rows = lambda weighted, ids: other.rows(weighted.adj.weight, ids)
    turns = [torch.optim.Adam(model.parameters(), lr=1e-4, fused=True) for _ in range(2)]

    def step(optimizer, loss):
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    found = {
        "step on triples": lambda: step(turns[1], lambda: model.triple_loss(*triples.draw(TRIPLES), l2=1e-5)),
        "attention refresh": (lambda: model.refresh(kg)) if other is None else other.refresh,
        "ranking step": lambda: step(turns[0], lambda: model.pair_loss(weighted, *pairs.draw(PAIRS), l2=1e-5)),
    }
    if data.test.num_edges:
        found |= {"1,024 pairs drawn": lambda: pairs.draw(PAIRS), "2,048 triples drawn": lambda: triples.draw(TRIPLES)}
        found[f"all items ranked for {data.num_users:,} users"] = lambda: train.full_ranking(
            train.scorer(model, weighted), data.test.to(kg.device), [data.train.to(kg.device)]
        )
    return found, other, weighted


def measure(graph, form, repeats, gather, device):
    """Time of each part of an epoch in seconds, and peak memory above the inputs."""
    data = GRAPHS[graph]() if graph in GRAPHS else synthetic(int(graph))
    kg = data.collaborative().to(device)
    with train.seeded(0):
        model = models.KGAT(
            data.num_users, data.num_items, data.kg.num_nodes, kg.num_relations, dim=D, relation_dim=D,
            layer_channels=LAYERS,
            dropout=0.0,
        ).to(device)  # fmt: skip
    kg.blocks()
    work, other, weighted = works(data, kg, model, form)
    if other is not None:
        torch.testing.assert_close(other.refresh(), weighted.adj.weight, rtol=1e-3, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(other(weighted.adj.weight), model(weighted), rtol=1e-3, atol=1e-4)
    if gather:
        work[LIMIT] = gathers(model, kg)
    found = {}
    for name, call in work.items():
        if name in STEPS:
            call()  # first call: creates Adam's moments and cached structures
        found[name] = timed(call, repeats, device != "cpu")
    counts = {"ranking": data.train.num_edges // PAIRS + 1, "triples": kg.num_edges // TRIPLES + 1}
    return {"edges": kg.num_edges, "found": found, "steps": counts}


def epochs(found, steps):
    """Whole epochs of the steps: pairs, triples, and both with a refresh."""
    of_pairs, of_triples, refresh = (found[name] for name in STEPS)
    pairs, triples = steps["ranking"] * of_pairs[0], steps["triples"] * of_triples[0]
    return {
        f"ranking epoch, {steps['ranking']:,} steps": (pairs, of_pairs[1]),
        f"epoch on triples, {steps['triples']:,} steps": (triples, of_triples[1]),
        "whole epoch": (pairs + triples + refresh[0], max(of_pairs[1], of_triples[1], refresh[1])),
    }


def once(graph, form, given):
    """One measurement in a separate process."""
    words = [graph, "--one", form, "--repeats", str(given.repeats), "--device", given.device]
    words += ["--gather"] if given.gather and form == "hgraph" else []
    command = [sys.executable, __file__, *words]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main(given):
    rows = {} if not (given.out and given.out.exists()) else {key(row): row for row in read(given.out)}
    for graph in given.graphs:
        done = {}
        for form in given.forms * given.rounds:  # in rounds, so that drift of the machine affects all equally
            result = once(graph, form, given)
            least = done.setdefault(form, result)
            for what, (seconds, peak) in result["found"].items():
                old = least["found"][what]
                least["found"][what] = min(old[0], seconds), min(old[1], peak)
        for form, result in done.items():
            for what, (seconds, peak) in (result["found"] | epochs(result["found"], result["steps"])).items():
                named = LIMIT if what == LIMIT else form
                values = (graph if graph in GRAPHS else "synthetic", str(result["edges"]))
                values += ("ranking step" if what == LIMIT else what, named, f"{seconds:.4f}", f"{peak:.0f}")
                row = dict(zip(COLUMNS, (*values, given.device, torch.__version__), strict=True))
                rows[key(row)] = row
                print(*row.values(), flush=True)
        if given.out:
            with open(given.out, "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(
                    sorted(rows.values(), key=lambda row: (row["graph"] != "synthetic", int(row["edges"])))
                )


def key(row):
    return tuple(row[name] for name in ("graph", "edges", "what", "form", "device"))


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def picture(path):
    """Time and memory over edges of the synthetic graphs, on log scales; dashed: limit, dotted: linear growth."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rows = [row for row in read(path) if row["graph"] == "synthetic" and row["device"] == "cpu"]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    lines = {what: [row for row in rows if row["what"] == what and row["form"] == "hgraph"] for what in STEPS}
    lines[f"{LIMIT}, of a ranking step"] = [row for row in rows if row["form"] == LIMIT]
    for axes, column, unit in zip(figure.subplots(1, 2), ("seconds", "peak_extra_MB"), ("seconds", "MB"), strict=True):
        for what, own in lines.items():
            points = [(int(row["edges"]), float(row[column])) for row in own if float(row[column]) > 0]
            if column == "seconds" or not what.startswith(LIMIT):
                style = {"color": "black", "linestyle": "--"} if what.startswith(LIMIT) else {}
                axes.plot(*zip(*points, strict=True), marker="o", label=what, **style)
        most = max((int(r["edges"]), float(r[column])) for r in lines["ranking step"])
        least = min(int(row["edges"]) for row in rows)
        axes.plot([least, most[0]], [most[1] * least / most[0], most[1]], ":", color="gray", label="as the edges grow")
        axes.set(xscale="log", yscale="log", xlabel="edges", ylabel=unit)
        axes.set_title({"seconds": "CPU time, one thread", "MB": "peak memory beyond the data"}[unit], loc="left")
        axes.grid(visible=True, which="major", linewidth=0.3)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(top=8 * axes.get_ylim()[1])  # space for the legend
        axes.legend(fontsize=8, loc="upper left", ncols=2)
    figure.savefig(path.with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graphs", nargs="*", default=["100000"], help="numbers of triples, last-fm, amazon-book")
    parser.add_argument("--forms", nargs="*", choices=list(FORMS), default=["hgraph"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gather", action="store_true", help="also measure the limit of a ranking step")
    parser.add_argument("--device", default="cpu", help="cpu uses one thread")
    parser.add_argument("--one", choices=list(FORMS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draw", type=Path, help="CSV file to plot")
    given = parser.parse_args()
    if given.draw:
        picture(given.draw)
    elif given.one:
        torch.set_num_threads(1)
        print(json.dumps(measure(given.graphs[0], given.one, given.repeats, given.gather, given.device)))
    else:
        main(given)
