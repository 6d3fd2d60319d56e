"""Peak memory of one call above its inputs, one process per method.

At the size of ogbn-arxiv and F = 128 the output of a sum has 83 MiB, and so has its gradient; E x F numbers are 698
MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from hgraph.benchmarks import cases, models, ops, peak
from hgraph.benchmarks.harness import Found, Method, gradient


def _methods(small: bool) -> tuple[dict[str, Method], torch.Tensor, int]:
    adj, x = cases.arxiv128(100, 600, 16) if small else cases.arxiv128()
    from hgraph import propagate
    from hgraph.benchmarks import peers

    methods = {"hgraph": lambda: propagate(adj, x), **peers.fused_sums(adj, x), **peers.scattered_sums(adj, x)}
    return methods, x, adj.num_targets


def sum_call(method: str, backward: bool) -> Method:
    """Prepare the inputs; only the returned call is measured."""
    small, _, _ = _methods(True)
    small[method]()  # libraries set up
    methods, x, targets = _methods(False)
    if not backward:
        return methods[method]
    x.requires_grad_()
    return gradient(methods[method], [x], torch.ones(targets, x.shape[1]))


def network_call(network: Callable[[str], models.Networks], which: str, training: bool) -> Method:
    small, _, x, y = network("cora")
    models._epoch(small[which], x, y)()
    found, _, x, y = network("arxiv")
    model = found[which]
    return models._epoch(model.train(), x, y) if training else partial(ops.without_gradient(partial(model.eval(), x)))


def _sums(backward: bool) -> Found:
    names = list(_methods(True)[0])
    return Found({n: [peak.peak_mib(partial(sum_call, n, backward))] for n in names}, "MiB above the inputs")


def _network(network: Callable[[str], models.Networks], names: list[str], training: bool) -> Found:
    peaks = {n: [peak.peak_mib(partial(network_call, network, n, training))] for n in names}
    return Found(peaks, "MiB above the inputs")


def suite(device: str) -> Mapping[str, Callable[[], Found]]:
    made: dict[str, Callable[[], Found]] = {}
    for backward in (False, True):
        made[f"sum arxiv128{' f+b' * backward}"] = partial(_sums, backward)
    for training in (False, True):
        mode = "training epoch" if training else "inference"
        gat, gcn = ["hgraph", "PyG GATConv"], ["hgraph", "PyG edge_index, cached", "PyG CSR"]
        made[f"GAT arxiv {mode}"] = partial(_network, models.gat_networks, gat, training)
        made[f"GCN arxiv {mode}"] = partial(_network, models.gcn_networks, gcn, training)
    return made
