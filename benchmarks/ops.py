"""Weighted sums along edges: hgraph.propagate against the ways of torch and PyG, and against the limit.

    OMP_NUM_THREADS=1 python benchmarks/ops.py
    python benchmarks/ops.py --threads 2 --csv ops-2-threads.csv     (wall time: wants a quiet machine)

The limit is the pure gather: the same rows of x read in the same order, nothing kept but a small sum. It is timed as
an unweighted `embedding_bag` into few long bags, which writes next to nothing.
"""

from __future__ import annotations

import cases
import harness
import torch
import torch.nn.functional as F
from torch import Tensor

import hgraph
from hgraph.structure import Adjacency


def pure_gather(adj: Adjacency, x: Tensor) -> harness.Method:
    """Every row that the sum reads, in its order, added up in long bags: the practical limit of the reading."""
    bags = torch.arange(0, adj.num_edges + 1, 256, dtype=torch.int32)
    return lambda: F.embedding_bag(adj.indices, x, bags, mode="sum")


def forward_methods(adj: Adjacency, x: Tensor) -> dict[str, harness.Method]:
    weight, target, source = adj.weight, adj.target.long(), adj.indices.long()
    csr = torch.sparse_csr_tensor(adj.indptr, adj.indices, weight, adj.shape)
    wide = weight.unsqueeze(1)
    methods = {
        "hgraph": lambda: hgraph.propagate(adj, x),
        "torch embedding_bag, bare": lambda: F.embedding_bag(
            adj.indices, x, adj.indptr, mode="sum", per_sample_weights=weight, include_last_offset=True
        ),
        "torch CSR @": lambda: csr @ x,
        "torch gather + index_add": lambda: torch.zeros(adj.num_targets, x.shape[1]).index_add_(
            0, target, x.index_select(0, source) * wide
        ),
    }
    try:
        from torch_geometric import EdgeIndex
        from torch_geometric.utils import scatter
    except ImportError:
        return methods
    index = EdgeIndex(torch.stack([target, source]), sparse_size=adj.shape, sort_order="row")
    index.validate().fill_cache_()
    methods["PyG EdgeIndex.matmul"] = lambda: index.matmul(x, weight)
    methods["PyG scatter"] = lambda: scatter(
        x.index_select(0, source) * wide, target, dim=0, dim_size=adj.num_targets, reduce="sum"
    )
    return methods


def with_backward(methods: dict[str, harness.Method], x: Tensor, grad: Tensor) -> dict[str, harness.Method]:
    def both(method: harness.Method) -> harness.Method:
        return lambda: torch.autograd.grad(method(), x, grad)[0]

    return {name: both(method) for name, method in methods.items()}


def main() -> None:
    arguments = harness.setup(__doc__.splitlines()[0])
    report = harness.Report(arguments.csv or "ops.csv", threads=arguments.threads)
    for name, make in cases.SUMS.items():
        if arguments.only not in name:
            continue
        adj, x = make()
        timing = {"seconds": arguments.seconds, "threads": arguments.threads}
        methods = forward_methods(adj, x)
        harness.check_equal(methods)
        limit = {"limit: pure gather": pure_gather(adj, x)}
        with torch.no_grad():
            report.add(f"sum {name} forward", harness.interleaved({**methods, **limit}, **timing))
        if name == "big64":
            continue
        x.requires_grad_()
        slow = with_backward(methods, x, torch.randn(adj.num_targets, x.shape[1]))
        harness.check_equal(slow)
        report.add(f"sum {name} forward+backward", harness.interleaved(slow, **timing))
    report.write()


if __name__ == "__main__":
    main()
