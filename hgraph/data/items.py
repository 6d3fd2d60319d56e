"""`items_of`: the structure from nodes to the examples of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.structure.adjacency import Adjacency

__all__ = ["items_of"]


def items_of(batch: Tensor, num_items: int) -> Adjacency:
    """The structure from nodes to the examples they belong to, for the readouts of `hgraph.nn`.

    Use it with a vector ``batch`` of your own; a collated `Data` has it as ``data.items``.

    Args:
        batch: [N] the example of each node.
        num_items: B, the number of examples; some may have no nodes.

    Raises:
        ArgumentError: an example outside 0 .. B-1.

    >>> items_of(torch.tensor([0, 0, 2]), 3)
    Adjacency(3 x 3, 3 edges, cpu)
    """
    nodes = torch.arange(len(batch), device=batch.device)
    return Adjacency.from_coo(target=batch, source=nodes, num_targets=num_items, num_sources=len(batch))
