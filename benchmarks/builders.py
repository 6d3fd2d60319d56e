"""Time and peak memory of the builders, each in a separate process.

    python benchmarks/builders.py [--only knn]

Target: k nearest neighbors of 200,000 points in 64 dimensions stay under 2 GB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from hgraph.benchmarks import records

CASE = """
import json, sys, time
import numpy as np, torch
torch.set_num_threads(1)
from hgraph import builders
setup, call = sys.argv[1], sys.argv[2]
scope = {"np": np, "torch": torch, "builders": builders, "rng": np.random.default_rng(0)}
exec(setup, scope)
before = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
wall, cpu = time.perf_counter(), time.process_time()
made = eval(call, scope)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps({"wall_s": wall, "cpu_s": cpu, "held_mib": before, "peak_mib": peak, "what": repr(getattr(made,
"structure", made))}))
"""

POINTS = "x = torch.from_numpy(rng.standard_normal(({n}, 64), dtype=np.float32))"
GRAPH = "g = builders.uniform_graph(100_000, 500_000)"
ROWS = "v = [f'u{i}' for i in rng.integers(0, 100_000, 1_000_000)]; e = [f'b{i}' for i in rng.integers(0, 50_000, 1_000_000)]"  # noqa: E501
STREAM = "size = rng.integers(1, 6, 1_000_000); m = rng.integers(0, 2_000, size.sum()); t = rng.random(1_000_000)"
TEXTS = "texts = [' '.join(f'w{i}' for i in rng.zipf(1.3, 100) % 50_000) for _ in range(20_000)]"
CASES = {
    "knn 20k x 64, k=10": (POINTS.format(n=20_000), "builders.knn_hypergraph(x, 10)"),
    "knn 200k x 64, k=10": (POINTS.format(n=200_000), "builders.knn_hypergraph(x, 10)"),
    "radius 20k x 64": (POINTS.format(n=20_000), "builders.radius_hypergraph(x, 8.0)"),
    "k-means 200k x 64, 100 clusters": (POINTS.format(n=200_000), "builders.kmeans_hypergraph(x, 100)"),
    "neighborhoods, 2 hops of 100k nodes": (GRAPH, "builders.neighborhood_hypergraph(g, 2)"),
    "cliques of 100k nodes": (GRAPH, "builders.clique_hypergraph(g)"),
    "communities of 100k nodes": (GRAPH, "builders.community_hypergraph(g)"),
    "memberships, 1M rows": (ROWS, "builders.membership_hypergraph(v, e, duplicates='sum')"),
    "simplices, 1M": (STREAM, "builders.simplex_hypergraph(size, m, t, num_nodes=2_000)"),
    "terms of 20k texts": (TEXTS, "builders.term_hypergraph(texts)"),
    "patches of 512 x 512": ("", "builders.patch_hypergraph(512, 512, 16)"),
    "superpixels of 512 x 512": ("x = torch.rand(3, 512, 512)", "builders.superpixel_hypergraph(x, 1000)"),
    "Erdos-Renyi, 1M nodes, 5M pairs": ("", "builders.erdos_renyi_graph(1_000_000, 1e-5)"),
    "Chung-Lu, 1M nodes, 5M pairs": ("d = 5 * (1 + rng.pareto(2.0, 1_000_000))", "builders.chung_lu_graph(d)"),
    "uniform hypergraph, 1M hyperedges of 5": ("", "builders.uniform_hypergraph(1_000_000, 1_000_000, 5)"),
    "blocks, 100k nodes, 10k hyperedges": (
        "p = np.full((10, 10), 1e-4) + 9e-4 * np.eye(10)",
        "builders.stochastic_block_hypergraph([10_000] * 10, [1_000] * 10, p)",
    ),
}


def main() -> None:
    arguments = records.setup(__doc__.splitlines()[0])
    machine = records.machine()
    results = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for name, (setup, call) in CASES.items():
        if arguments.only not in name:
            continue
        done = subprocess.run(
            [sys.executable, "-c", CASE, setup, call], env=environment, capture_output=True, text=True, check=True
        )
        row = json.loads(done.stdout)
        print(f"{name:40s} {row['cpu_s']:8.2f} s  {row['peak_mib']:8.0f} MiB  {row['what']}", flush=True)
        results.append({"case": name, **{k: v if k == "what" else f"{v:.2f}" for k, v in row.items()}, **machine})
    records.write_csv(arguments.csv or "builders.csv", results)


if __name__ == "__main__":
    main()
