"""Reductions along edges by other libraries: torch, scipy, numba, PyG, torch_scatter, DGL."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.benchmarks.harness import Method, present
from hgraph.structure import Adjacency


def fused_sums(adj: Adjacency, x: Tensor) -> dict[str, Method]:
    """Methods that store no messages per edge."""
    weight = _weight(adj, x)
    csr = torch.sparse_csr_tensor(adj.indptr, adj.indices, weight, adj.shape, check_invariants=False)
    wide = torch.sparse_csr_tensor(adj.indptr.long(), adj.indices.long(), weight, adj.shape, check_invariants=False)
    methods: dict[str, Method] = {
        "torch embedding_bag": lambda: F.embedding_bag(
            adj.indices, x, adj.indptr, mode="sum", per_sample_weights=weight, include_last_offset=True
        ),
        "torch CSR @": lambda: csr @ x,
        "torch sparse.mm (CSR)": lambda: torch.sparse.mm(wide, x),
    }
    return methods | present({"PyG EdgeIndex": lambda: _edge_index(adj, x, weight), "DGL": lambda: _dgl(adj, x)})


def on_arrays(adj: Adjacency, x: Tensor) -> dict[str, Method]:
    """Methods of scipy and numba, forward only."""
    return present({"scipy CSR @": lambda: _scipy(adj, x), "numba": lambda: _numba(adj, x)})


def scattered_sums(adj: Adjacency, x: Tensor) -> dict[str, Method]:
    """Methods that store a message for every edge."""
    weight, target, source = _weight(adj, x).unsqueeze(1), adj.target.long(), adj.indices.long()
    shape, offsets = (adj.num_targets, x.shape[1]), adj.indptr.long()

    def messages() -> Tensor:
        return x.index_select(0, source) * weight

    def reduced() -> Tensor:
        index = target.unsqueeze(1).expand(-1, x.shape[1])
        return x.new_zeros(shape).scatter_reduce(0, index, messages(), "sum")

    methods: dict[str, Method] = {
        "torch gather + index_add": lambda: x.new_zeros(shape).index_add(0, target, messages()),
        "torch gather + scatter_reduce": reduced,
        "torch gather + segment_reduce": lambda: torch.segment_reduce(
            messages(), "sum", offsets=offsets, axis=0, unsafe=True, initial=0.0
        ),
    }

    def pyg() -> Method:
        from torch_geometric.utils import scatter

        return lambda: scatter(messages(), target, dim=0, dim_size=shape[0], reduce="sum")

    makers = {"PyG scatter": pyg, **torch_scatter_ways(adj, messages, "sum")}
    return methods | present(makers)


def torch_scatter_ways(adj: Adjacency, messages: Callable[[], Tensor], reduce: str) -> dict[str, Callable[[], Method]]:
    """The two reductions of torch_scatter: by pointers, and by an index per message."""
    target, offsets, rows = adj.target.long(), adj.indptr.long(), adj.num_targets

    def by_pointer() -> Method:
        from torch_scatter import segment_csr

        return lambda: segment_csr(messages(), offsets, reduce=reduce)

    def by_index() -> Method:
        from torch_scatter import scatter

        return lambda: scatter(messages(), target, dim=0, dim_size=rows, reduce=reduce)

    return {"torch_scatter segment_csr": by_pointer, "torch_scatter scatter": by_index}


def means(adj: Adjacency, x: Tensor) -> dict[str, Method]:
    """Weighted sums over the number of edges."""
    count = adj.indptr.diff().clamp(min=1).unsqueeze(1)
    sums = {**fused_sums(adj, x), **scattered_sums(adj, x)}

    def mean(call: Method) -> Method:
        return lambda: call() / count

    weight, source = _weight(adj, x).unsqueeze(1), adj.indices.long()
    scattered = present(torch_scatter_ways(adj, lambda: x.index_select(0, source) * weight, "mean"))
    return {name: mean(call) for name, call in sums.items()} | scattered


def largest(adj: Adjacency, x: Tensor) -> dict[str, Method]:
    """The largest weighted message, 0 for a row without edges."""
    weight, target, source = _weight(adj, x), adj.target.long(), adj.indices.long()
    csr = torch.sparse_csr_tensor(adj.indptr.long(), source, weight, adj.shape, check_invariants=False)
    offsets, wide = adj.indptr.long(), weight.unsqueeze(1)

    def segments() -> Tensor:
        row_max = torch.segment_reduce(x.index_select(0, source) * wide, "max", offsets=offsets, axis=0, unsafe=True)
        return torch.where(row_max == float("-inf"), 0.0, row_max)

    methods: dict[str, Method] = {
        "torch sparse.mm amax": lambda: torch.sparse.mm(csr, x, "amax"),
        "torch gather + segment_reduce": segments,
    }

    def pyg() -> Method:
        from torch_geometric.utils import scatter

        rows = adj.num_targets
        return lambda: scatter(x.index_select(0, source) * wide, target, dim=0, dim_size=rows, reduce="max")

    makers = {"PyG scatter": pyg, **torch_scatter_ways(adj, lambda: x.index_select(0, source) * wide, "max")}
    return methods | present(makers)


def softmaxes(adj: Adjacency, score: Tensor) -> dict[str, Method]:
    """Softmax [E, H] over the edges of each target."""
    target, offsets, rows = adj.target.long(), adj.indptr.long(), adj.num_targets

    def segments() -> Tensor:
        row_max = torch.segment_reduce(score, "max", offsets=offsets, axis=0, unsafe=True, initial=float("-inf"))
        each = (score - row_max.detach().index_select(0, target)).exp()
        row_sum = torch.segment_reduce(each, "sum", offsets=offsets, axis=0, unsafe=True, initial=0.0)
        return each / row_sum.index_select(0, target)

    def scattered() -> Tensor:
        index = target.unsqueeze(1).expand(-1, score.shape[1])
        row_max = score.new_full((rows, score.shape[1]), float("-inf")).scatter_reduce(0, index, score.detach(), "amax")
        each = (score - row_max.index_select(0, target)).exp()
        row_sum = torch.zeros_like(row_max).scatter_add(0, index, each)
        return each / row_sum.index_select(0, target)

    def pyg(by_pointer: bool) -> Callable[[], Method]:
        def make() -> Method:
            from torch_geometric.utils import softmax

            if by_pointer:
                return lambda: softmax(score, ptr=offsets, dim=0)
            return lambda: softmax(score, target, num_nodes=rows, dim=0)

        return make

    def torch_scatter() -> Method:
        from torch_scatter.composite import scatter_softmax

        return lambda: scatter_softmax(score, target, dim=0)

    makers = {"PyG softmax(ptr)": pyg(True), "PyG softmax(index)": pyg(False), "torch_scatter softmax": torch_scatter}
    return {"torch segment_reduce": segments, "torch scatter_reduce": scattered} | present(makers)


def _weight(adj: Adjacency, x: Tensor) -> Tensor:
    return torch.ones(adj.num_edges, dtype=x.dtype, device=x.device) if adj.weight is None else adj.weight


def _edge_index(adj: Adjacency, x: Tensor, weight: Tensor) -> Method:
    from torch_geometric import EdgeIndex

    pairs = torch.stack([adj.target.long(), adj.indices.long()])
    index = EdgeIndex(pairs, sparse_size=adj.shape, sort_order="row")
    index.validate().fill_cache_()
    return lambda: index.matmul(x, weight)


def _dgl(adj: Adjacency, x: Tensor) -> Method:
    import dgl

    ends = (adj.indices.long(), adj.target.long())
    sizes = {"s": adj.num_sources, "t": adj.num_targets}
    graph = dgl.heterograph({("s", "e", "t"): ends}, num_nodes_dict=sizes)
    weight = _weight(adj, x).unsqueeze(1)
    return lambda: dgl.ops.u_mul_e_sum(graph, x, weight)


def _scipy(adj: Adjacency, x: Tensor) -> Method:
    import scipy.sparse

    parts = (_weight(adj, x).numpy(), adj.indices.numpy(), adj.indptr.numpy())
    matrix, dense = scipy.sparse.csr_matrix(parts, shape=adj.shape), x.detach().numpy()
    return lambda: torch.from_numpy(matrix @ dense)


def _numba(adj: Adjacency, x: Tensor) -> Method:
    """numba; its idle threads use CPU time that would count for the next method, so NUMBA_NUM_THREADS is 1."""
    import numba
    import numpy as np

    @numba.njit(parallel=True, fastmath=True)
    def loop(indptr, indices, weight, dense):
        out = np.zeros((len(indptr) - 1, dense.shape[1]), dtype=dense.dtype)
        for t in numba.prange(len(indptr) - 1):
            for e in range(indptr[t], indptr[t + 1]):
                for f in range(dense.shape[1]):
                    out[t, f] += weight[e] * dense[indices[e], f]
        return out

    arrays = adj.indptr.numpy(), adj.indices.numpy(), _weight(adj, x).numpy(), x.detach().numpy()
    return lambda: torch.from_numpy(loop(*arrays))
