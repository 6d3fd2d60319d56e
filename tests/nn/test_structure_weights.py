"""Gradients with respect to the weights of a structure."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hgraph.nn.hypergraph import TwoStepConv
from hgraph.structure import Hypergraph
from tests.nn.cases import STRUCTURED

TWO_STEPS = sorted(kind.__name__ for kind in TwoStepConv.__subclasses__() if kind.__module__.startswith("hgraph."))
WEIGHTED = ["GCNConv", "KGATConv", "RGCNConv", *TWO_STEPS]


@pytest.mark.parametrize("name", WEIGHTED)
def test_gradients_to_structure_weights(name):
    case = STRUCTURED[name]
    layer, (x, structure) = case.module(dtype=torch.float64), case.inputs(5, seed=1)
    field = "v2e" if isinstance(structure, Hypergraph) else "adj"
    adj = getattr(structure, field)

    def call(weight):
        return layer(x, dataclasses.replace(structure, **{field: adj.with_weight(weight)}))

    weight = adj.weight.double().requires_grad_()
    assert torch.autograd.gradcheck(call, (weight,))
    assert torch.autograd.grad(call(weight).square().sum(), weight)[0].abs().sum() > 0
