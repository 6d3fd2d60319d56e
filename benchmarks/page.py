"""benchmarks/README.md and the short table of README.md, made from benchmarks/results/*.csv.

python -m hgraph.benchmarks.page             # writes both; a test compares them with the files
python -m hgraph.benchmarks.page --pictures  # also draws each file as a picture beside it; pictures are not in git
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path

from hgraph.benchmarks import records
from hgraph.benchmarks.records import figures
from hgraph.benchmarks.targets import FLOORS, TARGETS, WHY, Target

ROOT = records.RESULTS.parents[1]
Rows = list[dict[str, str]]
BEGIN, END = "<!-- speed: python -m hgraph.benchmarks.page -->", "<!-- /speed -->"

_HEAD = """# Speed and memory

Made by `python -m hgraph.benchmarks.page` from the files in `results/`. To measure it on your machine:

```
pip install 'hgraph[bench]'              # other libraries; numba, torch_scatter and DGL are used if installed
hgraph kernels build                     # the native backend, used for these numbers
hgraph bench all                         # about thirteen minutes of one quiet core; runs/bench/*.csv and a picture each
hgraph bench ops --only arxiv --rounds 5 # only these cases; other rows of the file are unchanged
hgraph bench ops --compare HEAD~20       # two commits, in alternating processes
```

Pictures are not in git. `python -m hgraph.benchmarks.page --pictures` draws one per file of `results/`, beside it.

torch_scatter is built from source: `pip install --no-build-isolation torch-scatter`, ten minutes. DGL is not
included: version 2.1.0 on PyPI only has binaries for torch 2.0 to 2.2 and cannot be imported here.

**Method.** Only methods that return equal results are timed. Methods are interleaved
in one process, in a new random order each round. One thread is timed by the process's CPU time, so other programs
do not count; the page shows the least and the median of the rounds, and ratios of the least. All methods of a process
share one allocator. Memory is the peak of a separate process above its inputs. `--device cuda` exists for the ops
suite, with additional cases (`gpu.py`), and has never been run on a GPU.

**Cases**, all seeded: *hyper64*, 20,000 x 50,000 with 490 k edges, F = 64; *arxiv128*, the size of ogbn-arxiv
(169,343 nodes, 1.43 M edges with loops, power law, random numbers), F = 128; *big64*, 500,000 x 1,000,000 with
4.78 M edges, F = 64; *cora16*, the size of Cora, F = 16. *HGNN 50k*: 50,000 nodes, 20,000 hyperedges, 64-64-16.
*GCN Cora*: 1433-16-7; *GCN arxiv*: 128-128-40; *GAT*: 8 heads of 8, then one. *A x kept*: constant features, for which
`layer.prepare(x, structure)` computes the parameter-free part once, before timing.

**Limits.** A sum cannot be faster than the *pure gather* of the rows it reads; *C++ loop* is a plain row loop
(`reference.cpp`); *MLP only* is the network without its structure. *MLP and its sums* adds the necessary sums of the
network as C++ loops. Single ratios vary by up to 1.4x from run to run, because memory bandwidth is shared. Only one
machine and one combination of Python and torch were measured.
"""

# Every file of the page: the command that measures it, in order of importance, and its approximate seconds.
COMMANDS = (
    ("models", "models", 100),
    ("ops", "ops", 200),
    ("memory", "memory", 200),
    ("attention", "attention", 120),
    ("compiled", "compiled", 40),
    ("growth", "growth", 350),
    ("locality", "locality", 60),
    ("models --allocator kept", "models-kept", 100),
    ("models --allocator huge-pages", "models-huge-pages", 120),
    ("models --threads 2", "models-2-threads", 80),
    ("ops --threads 2", "ops-2-threads", 100),
    ("combiner", "combiner", 400),
)

_MADE = """
## How to reproduce this page

Run each command on one idle core (two threads: two), then `python -m hgraph.benchmarks.page`.

| file | command | seconds, about |
|---|---|---:|
"""

_TARGETS = """
## Targets

One thread. An upper bound applies to hgraph's time / the limit's, a lower bound to the other library's time / hgraph's.
"""

_ALLOCATOR = """
## Allocators and huge pages

A fresh output of 80 MB and more costs as much in page faults as the sum that fills it. Two settings help:

- *kept*: freed memory is reused for the next tensor of that size, so outputs need no new memory,
  including those of other libraries and of torch. `hgraph.keep_freed_memory()` at the start of a process does
  it, as do `MALLOC_MMAP_THRESHOLD_=2147483648 MALLOC_TRIM_THRESHOLD_=4294967296` around it (glibc). An inference of
  GCN arxiv then has no page faults. The price is a process that keeps its peak size, and memory fragmentation.
- *huge pages*: `THP_MEM_ALLOC_ENABLE=1` before Python starts puts large torch tensors on huge pages. Single
  products of 80 MB and more gain 1.2 to 2x (every library's do), tensors of some MB gain nothing. **It slows other
  libraries down**: PyG's GAT took 1.3 to 1.8 times as long with it, so no ratio to PyG under huge pages is a headline
  here.

Under every setting, the native backend requests huge pages for its own outputs above 32 MiB, which the C library
allocates from the system one by one (`madvise`; Linux grants them unless disabled). So a sum over arxiv128 is faster
than the plain loop, which does the same work with small pages; later gathers from such an output are faster, too.
If memory is fragmented, or a hypervisor reclaims free memory, a huge page can take ten times as long as the
small pages it replaces. The kernel then uses small pages for the rest of the output and tries fewer huge ones later: a
sum forward and backward over arxiv128 stays within 1.1 times the plain loop there.
By default the advice ends when the output is freed. With *kept* memory it remains: the next
tensor at that address, also of another library, has huge pages, too. So other libraries behave differently in a process
with native kernels; ratios under *kept* include this effect.

`hgraph bench ... --allocator default|huge-pages|kept` selects the setting for all methods.
"""

_LOCALITY = """
## Effect of renumbering and bfloat16

`hgraph.reorder(structure, method)` renumbers once; the same sum then reads nearby rows. `hgraph` is the graph as it is
numbered, at random. Where the graph has locality, the renumbered sum runs below the pure gather of the graph as
numbered, which is the limit of every method that leaves the numbers alone: by *rcm*
{locality, mesh, F = 64: hgraph / reordered by rcm} times as fast on a mesh, by *cluster*
{locality, communities, F = 64: hgraph / reordered by cluster} times on communities. *degree* gains nothing on either,
and a power law without locality gains little with any method. Features in bfloat16 (sums in float32) halve the bytes
read: {locality, mesh, F = 64: hgraph / bfloat16, as numbered} and
{locality, communities, F = 64: hgraph / bfloat16, as numbered} times as fast as numbered, and on top of *rcm* and
*cluster* {locality, mesh, F = 64: reordered by rcm / bfloat16, reordered by rcm} and
{locality, communities, F = 64: reordered by cluster / bfloat16, reordered by cluster} times.

"""

_GROWTH = """
## Growth

Ten edges per node, F = 32, one thread, one process per point: cost of one call / number of edges. A constant is linear
growth. Memory is linear. Time is not: the features, 1.3, 13 and 128 MB in random order for 0.1, 1 and 10 M edges,
exceed one cache after the other. This is due to the machine: the *pure gather* of the same rows (dashed), which writes
almost nothing, takes per edge {rises[limit: pure gather]} times as long at 10 M edges as at 1 M, the sum
{rises[propagate sum]}, max {rises[propagate max]}, attend {rises[attend additive 8x4]} and GCN
{rises[GCNConv 32-32]} times. Under huge pages it is 1.9 for the gather: the rest is due to address translation.
"""

_COMPILED = """
The method *hgraph* is eager, `torch.compile(dynamic=True)` the other. Values that depend only on a structure (degrees,
normalized weights) are cached in both: compiled code calls an operator, which recomputes them if the structure
was written to and copies them otherwise. **Small networks get slower, with or without a structure**: at Cora's size
compiling makes the plain MLP's inference {mlp} and its epoch {mlp_epoch} times as long (guards and the calls around the
compiled code, all Python, while the products are the same); GCN's {gcn} and {gcn_epoch} times, GAT's {gat} and
{gat_epoch} times, HGNN's on 50,000 nodes {hgnn} and {hgnn_epoch} times, in another run 0.77 and 1.06: no difference
beyond the noise. Its seven sums take as long as in eager code; 3 to 4 % are copies of cached values,
because compiled code may write into the result of an operator.

"""

_TWO = """
## Two threads

`hgraph bench ops models --threads 2`: wall time on two cores, at a load of up to {busy:.0f}; targets do not
apply. The C++ loops and scipy use one thread here, too.

"""

_COMBINER = """
## Combiner against full attention

4 heads of 64, causal: time of a forward, peak memory of a forward and a backward above the inputs.
Fixed segments and grids have sides of the square root of the number of tokens. Useful work is 4 D operations an edge
and head.

"""

_KGAT = """
## KGAT

Collaborative graphs with skewed popularity, d = 64, three layers, 1,024 pairs or 2,048 triples per step, one thread:
seconds of CPU and peak memory beyond graph and parameters. The implementations are interleaved, and their results are
compared first. Plain torch and PyG store a message per edge; everything else is the same code: the
losses, the steps on triples, and fused Adam. The limit reads the rows of a ranking step and adds them up in long
bags.

"""

_ACCURACY = """
Accuracy of the models: [recommendation](results/recommendation.md), KGAT and its baselines, and
[completion](results/completion.md), knowledge graph embeddings.
"""


def read(name: str) -> Rows:
    path = records.RESULTS / f"{name}.csv"
    return records.read_csv(path) if path.exists() else []


def page() -> str:
    """benchmarks/README.md."""
    parts = [_HEAD, _machine(), _TARGETS, _targets(), _why()]
    for suite, title in (("ops", "Verbs"), ("models", "Networks"), ("attention", "Token attention"),
                         ("memory", "Peak memory"), ("compiled", "`torch.compile` against eager")):  # fmt: skip
        if rows := read(suite):
            said = _compiled() if suite == "compiled" else ""
            parts.append(f"\n## {title}\n\n{said}{_cases(rows)}")
    parts += [_ALLOCATOR, _by_allocator(), _filled(_LOCALITY), _cases(read("locality"))]
    if rows := read("growth"):
        parts += [_GROWTH.format(rises=_rises(rows)), "\n", _growth(rows).lstrip()]
    if rows := read("kgat"):
        parts += [_KGAT, _kgat(rows, read("kgat_growth")), _ACCURACY]
    if rows := read("combiner"):
        parts += [_COMBINER, _by_tokens(rows)]
    if rows := [row for name in ("ops", "models") for row in read(f"{name}-2-threads")]:
        parts += [_TWO.format(busy=max(float(row["load"]) for row in rows)), _cases(rows)]
    made = (
        f"| {file}.csv | `hgraph bench {command} --out benchmarks/results` | {n} |" for command, file, n in COMMANDS
    )
    made_of_pairs = "| kgat.csv, kgat_growth.csv | as `python benchmarks/studies/kgat.py --help` says | 400 |"
    return "".join([*parts, _MADE, "\n".join([*made, made_of_pairs]), "\n"])


def short() -> str:
    """The table of README.md: times of a plain install and of native kernels, beside the fastest other library."""
    models, ops, memory = read("models"), read("ops"), read("memory")
    first = models[0] if models else {"cpu": "", "date": ""}
    lines = [
        f"One core of {first['cpu'].replace('(R)', '')}, {first['date']}; CPU time, the smallest of several rounds.",
        "",
        "| case | plain install | native kernels | fastest other library | its time / plain | its time / native |",
        "|---|---:|---:|---|---:|---:|",
    ]
    cases = [(models, case, "ms") for case in dict.fromkeys(row["case"] for row in models)]
    cases += [(ops, case, "ms") for case in ("sum cora16", "sum arxiv128", "sum arxiv128 f+b", "softmax arxiv H=8")]
    cases += [(memory, "sum arxiv128", "MiB")]
    for rows, case, unit in cases:
        chosen = [row for row in rows if row["case"] == case]
        lines.append(_short(f"{case}, peak memory" if unit == "MiB" else case, chosen, unit))
    return "\n".join(lines[:4] + [line for line in lines[4:] if line])


def _short(name: str, rows: Rows, unit: str) -> str:
    times = {row["method"]: float(row["min"]) for row in rows if row["min"]}
    if "hgraph" not in times:
        return ""
    native, plain = times["hgraph"], times.get("hgraph (torch)")
    others = {m: t for m, t in times.items() if not m.startswith(("hgraph", "limit: "))}
    best = min(others, key=others.__getitem__, default="")
    own = [f"{figures(t)} {unit}" if t else "" for t in (plain, native)]
    ratios = [f"{figures(others[best] / t)}x" if t and best else "" for t in (plain, native)]
    return f"| {name} | {' | '.join(own)} | {best} | {' | '.join(ratios)} |"


# ---------------------------------------------------------------------- pieces


def _machine() -> str:
    rows = [row for name in ("ops", "models", "attention", "memory") for row in read(name)]
    if not rows:
        return ""
    first = rows[0]
    loads = statistics.median(float(row["load"]) for row in rows)
    dates = sorted({row["date"] for row in rows})
    backends = " and ".join(sorted({row["backend"] for row in rows}))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return (
        f"\n**Machine.** {first['cpu']}, {first['cores']} cores, shared (median load {loads:.1f}); "
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, Python {first['python']}, torch {first['torch']}, "
        f"PyG {first['pyg']}, DHG {first['dhg']}; {first['allocator']} allocator; backend {backends}; "
        f"commit {commits}.\n"
    )


def _targets() -> str:
    lines = [
        "\n| no. | case | hgraph over the limit, or the peer over hgraph | target | found | |",
        "|---|---|---|---:|---:|---|",
    ]
    files: dict[str, Rows] = {}
    for target in TARGETS:
        rows = files.setdefault(target.suite, read(target.suite))
        found = target.found(rows)
        sign = "<=" if target.at_most else ">="
        unit = "x" if target.other else " MiB"
        said = "not measured" if found is None else f"{figures(found)}{unit}"
        verdict = "" if found is None else "reached" if target.reached(found) else "**missed**"
        what = target.other.removeprefix("limit: ") or "peak memory"
        bound = f"{sign} {target.bound:g}{unit}"
        lines.append(f"| {target.number} | {target.case} | {what} | {bound} | {said} | {verdict} |")
    return "\n".join(lines) + "\n"


def _why() -> str:
    """What stands between hgraph and each target that it missed: what the floor beneath would reach, and remarks."""
    missed = [target for target in TARGETS if _missed(target)]
    lines = [f"- {t.number}, {t.case}, {t.other.removeprefix('limit: ')}: {_floor(t)}." for t in missed if t.other]
    remarks = [f"- {n}: {_filled(WHY[n])}" for n in sorted({t.number for t in missed}) if n in WHY]
    return "\nWhat stands between:\n\n" + "\n".join(lines + remarks) + "\n" if missed else ""


def _compiled() -> str:
    """What compiling costs each network, the MLP of GCN's among them."""
    cases = {"": "inference", "_epoch": "training epoch"}
    pairs = {"mlp": ("GCN Cora", "limit: MLP only"), "gcn": ("GCN Cora", "hgraph"), "gat": ("GAT Cora", "hgraph"),
             "hgnn": ("HGNN 50k", "hgraph")}  # fmt: skip
    found = {
        name + end: figures(_ratio("compiled", f"{network} {case}", f"{method}, compiled", method))
        for end, case in cases.items()
        for name, (network, method) in pairs.items()
    }
    return _COMPILED.format(**found)


def _missed(target: Target) -> bool:
    found = target.found(read(target.suite))
    return found is not None and not target.reached(found)


def _floor(target: Target) -> str:
    """Whether the limit beneath a case would reach the bound that hgraph missed."""
    floors = [name for name in FLOORS if name != target.other and _ratio(target.suite, target.case, name, "hgraph")]
    if not floors:
        return "hgraph is not at its limit"
    name = f"*{floors[0].removeprefix('limit: ')}*"
    pair = (floors[0], target.other) if target.at_most else (target.other, floors[0])
    ratio = _ratio(target.suite, target.case, *pair)
    verdict = "would reach the bound" if target.reached(ratio) else "would miss the bound, too"
    return f"{name} {verdict} ({figures(ratio)}x)"


def _filled(text: str) -> str:
    """The text with each {suite, case: one / other} as the ratio of their times."""
    ratio = re.compile(r"\{(\w+), ([^:{}]+): ([^{}]+?) / ([^{}]+?)\}")
    return ratio.sub(lambda found: figures(_ratio(*found.groups())), text)


def _ratio(suite: str, case: str, one: str, other: str) -> float:
    """The least time of one method over that of another, 0 where one was not measured."""
    least = {row["method"]: float(row["min"]) for row in read(suite) if row["case"] == case and row["min"]}
    return least[one] / least[other] if one in least and other in least else 0.0


def _cases(rows: Rows) -> str:
    lines = ["| case | method | min | median | x hgraph |", "|---|---|---:|---:|---:|"]
    before = ""
    for row in rows:
        case = row["case"] if row["case"] != before else ""
        before = row["case"]
        unit = row["unit"].split()[0]
        numbers = "left out | | " if not row["min"] else (
            f"{figures(float(row['min']))} {unit} | {figures(float(row['median']))} {unit} | "
            f"{figures(float(row['ratio_to_hgraph'])) if row['ratio_to_hgraph'] else ''}"
        )  # fmt: skip
        lines.append(f"| {case} | {row['method']} | {numbers} |")
    return "\n".join(lines) + "\n"


def _by_allocator() -> str:
    settings = {"default": "models", "kept": "models-kept", "huge pages": "models-huge-pages"}
    found = {name: {(r["case"], r["method"]): r for r in read(file) if r["min"]} for name, file in settings.items()}
    lines = [f"\n| case | method | {' | '.join(settings)} |", "|---|---|" + "---:|" * len(settings)]
    for key in found["default"]:
        cells = [f"{figures(float(rows[key]['min']))} ms" if key in rows else "" for rows in found.values()]
        if any(cells[1:]):
            lines.append(f"| {' | '.join([*key, *cells])} |")
    return "\n".join(lines) + "\n"


def _growth(rows: Rows) -> str:
    sizes = list(dict.fromkeys(row["method"] for row in rows))
    lines = [f"\n| for 1 M edges | {' | '.join(sizes)} |", "|---|" + "---:|" * len(sizes)]
    for case in dict.fromkeys(row["case"] for row in rows):
        cells = []
        for row in (r for r in rows if r["case"] == case):
            edges = int(row["method"].split()[0])
            cells.append(f"{figures(float(row['min']) / edges * 1e6)} {row['unit'].split()[0]}")
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rises(rows: Rows) -> dict[str, str]:
    """How many times as long an edge takes at ten million of them as at one million."""
    least = {(row["case"], row["method"]): float(row["min"]) for row in rows if row["unit"] == "ms"}
    ratio = {case: least[case, "10000000 edges"] / least[case, "1000000 edges"] / 10 for case, _ in least}
    return {case.removesuffix(", time").removesuffix(" f+b"): figures(value) for case, value in ratio.items()}


def _kgat(peers: Rows, alone: Rows) -> str:
    """What each piece of an epoch takes, then the graphs on which hgraph ran alone."""
    works = ("ranking step", "step on triples", "attention refresh", "whole epoch")
    lines = ["| edges | | hgraph | plain torch | PyG | memory: hgraph | plain torch | PyG |", "|---|---|" + "---:|" * 6]
    for edges in dict.fromkeys(row["edges"] for row in peers):
        for work in works:
            own = {row["form"]: row for row in peers if (row["edges"], row["what"]) == (edges, work)}
            first = float(own["hgraph"]["seconds"])
            times = [f"{figures(float(own[form]['seconds']) / first)}x" for form in ("plain", "PyG")]
            peaks = [f"{own[form]['peak_extra_MB']} MB" for form in ("hgraph", "plain", "PyG")]
            lines.append(f"| {int(edges):,} | {work} | {' | '.join([f'{figures(first)} s', *times, *peaks])} |")
    lines += ["", "| hgraph alone | edges | " + " | ".join((*works, "limit of a ranking step")) + " |"]
    lines += ["|---|---:|" + "---:|" * (len(works) + 1)]
    for graph, edges in dict.fromkeys((row["graph"], row["edges"]) for row in alone):
        said = {(r["what"], r["form"]): r["seconds"] for r in alone if (r["graph"], r["edges"]) == (graph, edges)}
        wanted = [*((work, "hgraph") for work in works), ("ranking step", "limit: pure gather")]
        cells = [f"{figures(float(said[key]))} s" if key in said else "" for key in wanted]
        lines.append(f"| {graph} | {int(edges):,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _by_tokens(rows: Rows) -> str:
    sizes = list(dict.fromkeys(row["method"] for row in rows))
    lines = [f"| | {' | '.join(sizes)} | |", "|---|" + "---:|" * len(sizes) + "---|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        own = {row["method"]: row for row in rows if row["case"] == case}
        cells = [f"{figures(float(own[n]['min']))} {own[n]['unit'].split()[0]}" if n in own else "" for n in sizes]
        lines.append(f"| {case} | {' | '.join(cells)} | {next(iter(own.values()))['note']} |")
    return "\n".join(lines) + "\n"


def in_readme(text: str) -> str:
    """README.md with its table made again."""
    return re.sub(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", lambda _: f"\n{short()}\n\n", text, flags=re.S)


def pictures() -> list[Path]:
    """Draw every file that a suite wrote, and the growth of KGAT; returns the pictures."""
    from hgraph.benchmarks import picture
    from hgraph.benchmarks.studies import kgat

    drawn = []
    for path in sorted(records.RESULTS.glob("*.csv")):
        rows = records.read_csv(path)
        if tuple(rows[0]) == records.FIELDS:
            picture.draw(rows, path.with_suffix(".png"))
        elif path.stem == "kgat_growth":
            kgat.picture(path)
        else:
            continue
        drawn.append(path.with_suffix(".png"))
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description="Write benchmarks/README.md and the table of README.md.")
    parser.add_argument("--pictures", action="store_true", help="draw each file of results/ as a picture, too")
    given = parser.parse_args()
    readme = ROOT / "README.md"
    Path(ROOT / "benchmarks" / "README.md").write_text(page(), encoding="utf-8")
    readme.write_text(in_readme(readme.read_text(encoding="utf-8")), encoding="utf-8")
    for path in pictures() if given.pictures else []:
        print(path)


if __name__ == "__main__":
    main()
