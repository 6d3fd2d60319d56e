"""Time and peak memory to build, save and load a data set from tables of a million rows.

    python benchmarks/tables.py [--rows 1000000]

A row of the nodes has an id, five numbers (one with missing cells), three categories, a date and a label; there
are as many incidences as nodes. Every case runs in a separate process, whose total memory counts (VmHWM, including
torch). Target: under 30 s and under 1.5 GB for a million rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from hgraph.benchmarks import records

HEADER = ["id", "age", "income", "score", "visits", "height", "city", "member", "joined", "grade", "y"]
CASE = """
import json, sys, time
import torch
torch.set_num_threads(1)
from pathlib import Path
from hgraph import datasets
folder, case = Path(sys.argv[1]), sys.argv[2]
wall, cpu = time.perf_counter(), time.process_time()
if case == "load the folder":
    data = datasets.load(folder / "set")[0]
elif case.startswith("build"):
    links = {"edges": folder / "edges.csv"} if "edges" in case else {"hyperedges": folder / "hyperedges.csv"}
    nodes = folder / ("quoted.csv" if "quoted" in case else "nodes.csv")
    built = datasets.from_tables(nodes, **links, label="y")
    if "folder" in case:
        datasets.save(built, folder / "set", force=True)
    data = built[0]
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mib": peak, "what": repr(data)}))
"""
CASES = ("build from CSV", "build from CSV, every cell quoted", "build from CSV, edges", "build and save a folder",
         "load the folder")  # fmt: skip


def write(folder: Path, rows: int) -> None:
    """Write the tables, reproducibly."""
    draw = random.Random(0)
    with open(folder / "nodes.csv", "w", newline="") as plain, open(folder / "quoted.csv", "w", newline="") as quoted:
        writers = csv.writer(plain), csv.writer(quoted, quoting=csv.QUOTE_ALL)
        for writer in writers:
            writer.writerow(HEADER)
        for i in range(rows):
            row = (
                f"user-{i:07d}", draw.randint(18, 90), f"{draw.gauss(3e4, 1e4):.2f}",
                "" if draw.random() < 0.1 else f"{draw.random():.6f}", draw.randint(0, 1000),
                f"{draw.gauss(170, 9):.1f}",
                f"city {draw.randrange(50)}", draw.choice(["yes", "no"]),
                f"20{draw.randint(10, 24)}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}", draw.choice("ABCDE"),
                draw.choice(["red", "green", "blue"]),
            )  # fmt: skip
            for writer in writers:
                writer.writerow(row)
    for name, header, right in (("hyperedges", "node,hyperedge", "group"), ("edges", "source,target", "user")):
        pairs = {(draw.randrange(rows), draw.randrange(max(rows // 5, 2))) for _ in range(rows)}
        with open(folder / f"{name}.csv", "w") as file:
            file.write(header + "\n")
            file.writelines(f"user-{a:07d},{right}-{b:07d}\n" for a, b in sorted(pairs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    machine = records.machine()
    results = []
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), rows)
        for case in CASES:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, "-c", CASE, name, case], env=environment, capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout)
            print(
                f"{case:36} {found['wall_s']:6.1f} s wall {found['cpu_s']:6.1f} s CPU {found['peak_mib']:7.0f} MiB",
                flush=True,
            )
            figures = {key: f"{found[key]:.2f}" for key in ("wall_s", "cpu_s", "peak_mib")}
            results.append({"case": case, "rows": rows, **figures, "what": found["what"], **machine})
    records.write_csv("tables.csv", results)


if __name__ == "__main__":
    main()
