"""`torch.compile` of whole networks compared with eager: inference and training epochs, without compile time.

The control of each network is the same network without its structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from hgraph.benchmarks import models
from hgraph.benchmarks.harness import Case, without_gradient
from hgraph.models import HGNN


def compare(make: Callable[[], models.Networks], training: bool, name: str) -> Case:
    """The method "hgraph" is eager, so a ratio below 1 means that compiled code is faster."""
    found, dense, x, y = make()
    model = found["hgraph"]
    compiled, compiled_dense = (torch.compile(network, dynamic=True) for network in (model, dense))
    control = {"limit: MLP only": dense, "limit: MLP only, compiled": compiled_dense}
    if not training:
        model.eval(), dense.eval()
        calls, limits = (
            {n: without_gradient(partial(network, x)) for n, network in networks.items()}
            for networks in ({"hgraph": model, "hgraph, compiled": compiled}, control)
        )
        limits["limit: MLP only, compiled"]()  # compiles
        return Case(name, calls, limits, rtol=1e-3)
    model.train(), dense.train()
    weight = next(model.parameters())

    def loss(call: Callable[..., torch.Tensor]) -> Callable[[], torch.Tensor]:
        return lambda: torch.autograd.grad(torch.nn.functional.cross_entropy(call(x), y), weight)[0]

    checks = {"hgraph": loss(model), "hgraph, compiled": loss(compiled)}
    gradients = {n: check() for n, check in checks.items()}
    methods = {"hgraph": models._epoch(model, x, y), "hgraph, compiled": models._epoch(compiled, x, y)}
    limits = {n: models._epoch(network, x, y) for n, network in control.items()}
    limits["limit: MLP only, compiled"]()  # compiles
    return Case(name, methods, limits, checks={n: partial(gradients.__getitem__, n) for n in gradients}, rtol=1e-3)


def suite(device: str) -> Mapping[str, Callable[[], Case]]:
    kinds: dict[str, Callable[[], models.Networks]] = {
        "HGNN 50k": partial(models.hypergraph_networks, HGNN),
        "GCN Cora": partial(models.gcn_networks, "cora"),
        "GAT Cora": partial(models.gat_networks, "cora"),
    }
    made: dict[str, Callable[[], Case]] = {}
    for kind, make in kinds.items():
        made[f"{kind} inference"] = partial(compare, make, False, f"{kind} inference")
        made[f"{kind} training epoch"] = partial(compare, make, True, f"{kind} training epoch")
    return made
