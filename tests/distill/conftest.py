"""A small hypergraph whose structure has information that the features lack."""

from __future__ import annotations

import pytest
import torch

from hgraph.data import Data, Split
from hgraph.structure import Hypergraph


@pytest.fixture(scope="session")
def data() -> Data:
    """240 nodes of 3 classes, weak noisy features, hyperedges that are nearly pure in class."""
    generator = torch.Generator().manual_seed(0)
    classes, n = 3, 240
    y = torch.arange(n) % classes
    means = torch.randn(classes, 24, generator=generator)
    x = 0.45 * means[y] + torch.randn(n, 24, generator=generator)
    hyperedges = []
    for e in range(150):
        own = (y == e % classes).nonzero().flatten()
        hyperedges.append(own[torch.randperm(len(own), generator=generator)[:6]].tolist())
    hg = Hypergraph.from_lists(hyperedges, num_nodes=n).with_singletons()
    split = Split.per_class(hg, y, num_train_per_class=4, num_val_per_class=20)
    whole = Data(hg, x, y, {"default": split})
    production = Split.production(whole, split, unseen_fraction=0.3)
    return Data(hg, x, y, {"default": split, "production": production}).validate()
