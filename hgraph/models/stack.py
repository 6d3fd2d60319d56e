"""A network that stacks one kind of layer, for any layer over a graph or hypergraph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real
from hgraph.errors import ArgumentError, did_you_mean
from hgraph.nn import registry
from hgraph.nn.jumping import JumpingKnowledge
from hgraph.nn.norms import BatchNorm, GraphNorm, PairNorm
from hgraph.nn.structure_dropout import drop_edges
from hgraph.structure import Graph, Hypergraph

__all__ = ["Stack"]


class Stack(nn.Module):
    r"""Layers of one class, with ReLU and dropout between them.

    Use it to classify nodes with a layer whose paper defines no network.

    .. math:: X^{(l+1)} = \mathrm{dropout}(\mathrm{ReLU}(\mathrm{norm}_l(\mathrm{layer}_l(X^{(l)})))), \qquad
              Z = \mathrm{layer}_L(X^{(L-1)})

    With ``residual`` each layer but the first adds its input, with ``initial`` it adds
    :math:`\alpha (X^{(1)} - X^{(l+1)})`. With ``jump``, the last layer is like the others, and a linear map of the
    outputs of all layers gives Z.

    Args:
        layer: a layer class ``layer(in_channels, out_channels)`` whose forward takes (x, structure), or its name in
            `hgraph.nn`.
        in_channels: F, input features per node.
        hidden_channels: features per node between the layers.
        num_classes: C, number of classes.
        num_layers: L, number of layers, at least 1.
        dropout: dropout probability of the features between the layers.
        norm: the norm after each layer but the last: ``"batch"``, ``"layer"``, ``"graph"`` (`GraphNorm`), ``"pair"``
            (`PairNorm`), or None.
        residual: whether layers between hidden features add their input.
        initial: alpha, the weight of the output of the first layer in each later one.
        jump: how to combine the outputs of all layers, ``"cat"``, ``"max"`` or ``"lstm"`` (`JumpingKnowledge`), or
            None.
        drop_edges: probability of dropping each edge or incidence, sampled separately for each layer and training step,
            see `hgraph.nn.drop_edges`.
        **options: further arguments for each layer.

    Shapes:
        x [N, F] and a structure with N nodes -> logits [N, C].

    Raises:
        ArgumentError: there is no layer or norm of that name, or a size is not positive.

    Source: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", eq. 9. Most papers
    that define a layer use the same network.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> Stack("HGNNPConv", 5, 8, 2, num_layers=3, norm="layer", residual=True)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        layer: type[nn.Module] | str,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 2,
        dropout: float = 0.5,
        norm: Literal["batch", "layer", "graph", "pair"] | None = None,
        residual: bool = False,
        initial: float = 0.0,
        jump: Literal["cat", "max", "lstm"] | None = None,
        drop_edges: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        check_channels(num_layers=num_layers, num_classes=num_classes)
        if norm is not None and norm not in _NORMS:
            raise ArgumentError("norm", f"None or one of {', '.join(_NORMS)}", repr(norm), did_you_mean(norm, _NORMS))
        kind = registry.find(layer).load() if isinstance(layer, str) else layer
        last = num_classes if jump is None else hidden_channels
        channels = [in_channels, *[hidden_channels] * (num_layers - 1), last]
        self.num_hidden = num_layers - (jump is None)
        for i in range(num_layers):
            self.add_module(f"conv{i + 1}", kind(channels[i], channels[i + 1], **options))
            if norm is not None and i < self.num_hidden:
                self.add_module(f"norm{i + 1}", _NORMS[norm](hidden_channels))
        self.num_layers, self.norm, self.residual = num_layers, norm, residual
        self.initial = real("initial", initial, "a weight, 0 .. 1", 0.0, 1.0)
        self.drop_edges = real("drop_edges", drop_edges, "a probability, 0 .. 1", 0.0, 1.0)
        self.dropout = nn.Dropout(dropout)
        self.jump = None if jump is None else JumpingKnowledge(jump, channels=hidden_channels, num_layers=num_layers)
        if jump is not None:
            self.out = nn.Linear(hidden_channels * (num_layers if jump == "cat" else 1), num_classes)

    def forward(self, x: Tensor, structure: Graph | Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        outputs: list[Tensor] = []
        for i in range(1, self.num_hidden + 1):
            given, x = x, self._layer(i, x, structure)
            if self.norm is not None:
                x = self.get_submodule(f"norm{i}")(x)
            x = self.dropout(x.relu())
            if self.residual and i > 1:
                x = x + given
            if self.initial and outputs:
                x = torch.lerp(x, outputs[0], self.initial)
            outputs.append(x)
        return self._layer(self.num_layers, x, structure) if self.jump is None else self.out(self.jump(outputs))

    def _layer(self, i: int, x: Tensor, structure: Graph | Hypergraph) -> Tensor:
        if self.drop_edges:
            structure = drop_edges(structure, self.drop_edges, training=self.training)
        return self.get_submodule(f"conv{i}")(x, structure)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": BatchNorm,
    "layer": nn.LayerNorm,
    "graph": GraphNorm,
    "pair": lambda channels: PairNorm(),
}
