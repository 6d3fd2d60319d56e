"""`build_model`: creates a model from its name, with the sizes of the data."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from hgraph.memory import check_memory
from hgraph.models.registry import ModelEntry, find
from hgraph.train.seed import seeded

__all__ = ["build_model"]


def build_model(
    model: str | ModelEntry, data: Any = None, *, seed: int, hidden_size: int | None = None, **options: Any
) -> nn.Module:
    """Build a model of `hgraph.models.registry` with the sizes of the data and weights initialized under the seed.

    Use it when a model is chosen by name, as the commands do; the network is on the CPU.

    Args:
        model: a name, such as "hgnn+", or an entry of the registry.
        data: `Data`, `Interactions` or `TripleSplit`, whichever the model needs; None for models of images.
        seed: seed of the weights; the caller's random state does not change.
        hidden_size: the hidden width; None is the model's default.
        **options: other arguments of the class.

    Returns:
        The network, in training mode.

    Raises:
        ArgumentError: the name is unknown, or the data is of the wrong kind.

    >>> from hgraph import Data, Graph
    >>> import torch
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> model = build_model("gcn", Data(graph, torch.eye(2), torch.tensor([0, 1])), seed=0)
    >>> model.conv1.linear.weight.T.shape
    torch.Size([2, 32])
    """
    entry = find(model) if isinstance(model, str) else model
    arguments = entry.arguments(data, hidden_size, **options)
    _check_parameters(entry, arguments)
    with seeded(seed):
        network: nn.Module = entry.load()(**arguments)
    return network


def _check_parameters(entry: ModelEntry, arguments: dict[str, Any]) -> None:
    """Check that the parameters of the network fit into memory.

    Raises:
        ArgumentError: the parameters need more memory than is available.
    """
    largest = sorted(value for value in arguments.values() if isinstance(value, int))[-2:]
    if math.prod(largest) < 2**24:  # a bound that is cheap to compute
        return
    try:
        with torch.device("meta"):
            network = entry.load()(**arguments)
    except (RuntimeError, NotImplementedError):  # the class needs real values, or the sizes overflow
        check_memory("hidden_size", 4 * math.prod(largest), f"a matrix of {' x '.join(map(str, largest))}")
        return
    count = sum(p.numel() for p in network.parameters())
    check_memory("hidden_size", 4 * count, f"{count:,} parameters of {entry.title}")
