"""`items_of`: the `Adjacency` from the nodes of a batch to its examples."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.structure.adjacency import Adjacency

__all__ = ["items_of"]


def items_of(batch: Tensor, num_items: int) -> Adjacency:
    """The `Adjacency` from nodes to the examples that they belong to, for the readouts of `hgraph.nn`.

    Use it if you have a vector ``batch``, as in PyG; a collated `Data` has this adjacency as ``data.items``.

    Args:
        batch: [N] integers, the example of each node.
        num_items: B, the number of examples; some may have no nodes.

    Raises:
        ArgumentError: an example outside 0 .. B-1.

    >>> items_of(torch.tensor([0, 0, 2]), 3)
    Adjacency(3 x 3, 3 edges, cpu)
    """
    nodes = torch.arange(len(batch), device=batch.device)
    return Adjacency.from_coo(target=batch, source=nodes, num_targets=num_items, num_sources=len(batch))
