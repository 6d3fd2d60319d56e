"""Latency for one node: the student, and its teacher with several inference methods.

    python benchmarks/studies/student_speed.py [--sizes 1000 5500 20000 55000]

The synthetic hypergraphs of LightHGNN (Feng et al., ICLR 2024): N nodes, N hyperedges, sizes drawn from 2 .. 64,
F = 300, 10 classes; and CA-Cora. The teacher is a two-layer HGNN of width 32, the student an exported MLP of width 128.
One thread, CPU time, median of interleaved calls. All teacher methods return the same logits, checked before timing:

    F  the factored full pass: nodes -> hyperedges -> nodes, twice, for all nodes
    L  the full pass with the N x N operator materialized (as the published speed-up compares)
    S  the exact slice: only the two-hop neighborhood of one node, extracted for each node
    C  the last hyperedge states cached from an earlier pass: one mean for a node whose hyperedges are known
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hgraph import Adjacency, Hypergraph, builders, propagate
from hgraph.benchmarks import records
from hgraph.models import HGNN, MLP
from hgraph.nn import HGNNConv
from hgraph.nn.hypergraph.two_step import weighted

F, CLASSES = 300, 10
MOST_PRODUCTS = 120_000_000  # largest number of operator entries before duplicates are summed


def synthetic(n: int) -> Hypergraph:
    sizes = np.minimum(np.random.default_rng(0).integers(2, 65, n), n)
    return builders.uniform_hypergraph(n, n, sizes.tolist(), seed=0)


def sliced(model: HGNN, x: Tensor, gather: Adjacency, scatter: Adjacency, node: Tensor) -> Tensor:
    """Logits [1, C] of one node from its two-hop neighborhood, with the operators of the whole hypergraph."""

    def needed(adjacency: Any, rows: Tensor) -> tuple[Any, Tensor]:
        """The rows over only their sources, and the sources."""
        part = adjacency.select(rows)
        sources, place = torch.unique(part.indices, return_inverse=True)
        local = type(part).from_coo(
            target=part.target, source=place, weight=part.weight, num_targets=len(rows), num_sources=len(sources)
        )
        return local, sources.long()

    out, hyperedges = needed(scatter, node)
    around, nodes = needed(gather, hyperedges)
    again, more = needed(scatter, nodes)
    first, everyone = needed(gather, more)
    hidden = propagate(again, propagate(first, model.conv1.linear(x[everyone]))).relu()
    return propagate(out, propagate(around, model.conv2.linear(hidden)))


def materialized(hg: Hypergraph) -> Tensor | None:
    """The N x N operator of HGNN as a sparse matrix, or None if it would be too large."""
    if int(hg.hyperedge_degree().square().sum()) > MOST_PRODUCTS:
        return None
    import scipy.sparse

    gather, scatter = HGNNConv.operators(weighted(hg, torch.float32))

    def matrix(a: Any) -> Any:
        return scipy.sparse.csr_matrix((a.weight.numpy(), a.indices.numpy(), a.indptr.numpy()), shape=a.shape)

    product = (matrix(scatter) @ matrix(gather)).tocsr()
    return torch.sparse_csr_tensor(product.indptr, product.indices, product.data, product.shape, dtype=torch.float32)


def seconds(call: Callable[[], object], budget: float) -> float:
    call()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 5 or (len(times) < 200 and time.perf_counter() - begin < budget):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


@torch.inference_mode()
def measure(name: str, x: Tensor, hg: Hypergraph, classes: int, budget: float) -> dict[str, str]:
    teacher, mlp = HGNN(x.shape[1], 32, classes).eval(), MLP(x.shape[1], 128, classes).eval()
    student, one, node = mlp.folded(), x[:1], torch.tensor([0])
    expected = teacher(x, hg)
    gather, scatter = HGNNConv.operators(weighted(hg, x.dtype))
    hidden = teacher.conv1(x, hg).relu()
    kept = propagate(gather, teacher.conv2.linear(hidden))  # [M, C], the states of C
    row = scatter.select(node)
    ways: dict[str, Callable[[], Tensor]] = {
        "F": lambda: teacher(x, hg),
        "S": lambda: sliced(teacher, x, gather, scatter, node),
        "C": lambda: propagate(row, kept),
        "student_one": lambda: student(one),
        "student_all": lambda: student(x),
    }
    operator = materialized(hg)
    if operator is not None:

        def dense_pass() -> Tensor:
            smooth = (operator @ teacher.conv1.linear(x)).relu()
            return operator @ teacher.conv2.linear(smooth)

        ways["L"] = dense_pass
    with contextlib.suppress(ImportError):
        ways["F_dhg"] = dhg_pass(hg, teacher, x)
    for way in ("F", "L", "F_dhg"):
        if way in ways:
            torch.testing.assert_close(ways[way](), expected, rtol=1e-3, atol=1e-4)
    for way in ("S", "C"):
        torch.testing.assert_close(ways[way](), expected[:1], rtol=1e-3, atol=1e-4)
    found = {way: 1e3 * seconds(call, budget) for way, call in ways.items()}
    best = min(found["F"], found["S"])
    line = {"case": name, "nodes": str(len(x)), "incidences": str(hg.num_incidences)}
    line |= {f"{way}_ms": f"{found[way]:.4g}" if way in found else "not built" for way in
             ("F", "F_dhg", "L", "S", "C", "student_one", "student_all")}  # fmt: skip
    line |= {"teacher_over_student": f"{best / found['student_one']:.0f}"}
    print(", ".join(f"{key} {value}" for key, value in line.items()), flush=True)
    return line


def dhg_pass(hg: Hypergraph, teacher: HGNN, x: Tensor) -> Callable[[], Tensor]:
    """DHG's HGNN with the same weights."""
    import dhg
    import dhg.models

    model = dhg.models.HGNN(x.shape[1], 32, teacher.conv2.linear.out_features).eval()
    own = dict(model.named_parameters())
    for layer, conv in zip(("layers.0", "layers.1"), (teacher.conv1, teacher.conv2), strict=True):
        own[f"{layer}.theta.weight"].data.copy_(conv.linear.weight)
        own[f"{layer}.theta.bias"].data.copy_(conv.linear.bias)
    structure = dhg.Hypergraph(hg.num_nodes, hg.to_lists(), merge_op="sum")
    return lambda: model(x, structure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 5_500, 20_000, 55_000])
    parser.add_argument("--seconds", type=float, default=3.0, help="time limit per method in seconds (default 3)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse")  # torch calls its sparse tensors a beta
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = [
        measure(f"synthetic {n}", torch.rand(n, F), synthetic(n), CLASSES, arguments.seconds) for n in arguments.sizes
    ]
    if "HGRAPH_MIRROR" in os.environ:
        from hgraph.recipes.lighthgnn import prepare

        data = prepare("coauthorship-cora", 0)
        results.append(measure("CA-Cora", data.x, data.structure, data.num_classes, arguments.seconds))
    records.write_csv("student_speed.csv", [row | records.machine() for row in results])


if __name__ == "__main__":
    main()
