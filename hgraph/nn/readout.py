r"""Readouts: one vector per example from the features of its nodes, for batches of small graphs or hypergraphs.

``items`` is the `Adjacency` from nodes to their examples; a batch has it as `hgraph.data.Data.items`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, check_dtype, whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn.reset import reset
from hgraph.ops import Additive, attend, propagate
from hgraph.structure import Adjacency

__all__ = ["AttentionReadout", "Readout", "Set2Set", "VirtualNode"]


class Readout(nn.Module):
    r"""The sum, mean or maximum over the nodes of each example.

    Use the sum where the size of an example matters, the mean or maximum where it does not.

    .. math:: y_b = \operatorname{reduce}_{i \in b} x_i

    Args:
        reduce: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``.

    Shapes:
        x [..., N, D] and items, an `Adjacency` of B examples by N nodes -> [..., B, D]; 0 for an example without nodes.

    Source: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, section 4 (sum, mean and max).

    >>> items = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 2], num_targets=2, num_sources=3)
    >>> Readout("mean")(torch.tensor([[1.0], [3.0], [5.0]]), items).tolist()
    [[2.0], [5.0]]
    """

    def __init__(self, reduce: Literal["sum", "mean", "max", "min"] = "sum") -> None:
        super().__init__()
        if reduce not in ("sum", "mean", "max", "min"):
            raise ArgumentError("reduce", "'sum', 'mean', 'max' or 'min'", repr(reduce))
        self.reduce = reduce

    def extra_repr(self) -> str:
        """The reduction."""
        return self.reduce

    def forward(self, x: Tensor, items: Adjacency) -> Tensor:
        """Reduce over the nodes."""
        _check(x, items, None)
        return propagate(items, x, reduce=self.reduce)


class AttentionReadout(nn.Module):
    r"""A weighted mean over the nodes of each example, with learned weights.

    Use it where a few nodes of an example determine the output.

    .. math:: y_b = \sum_{i \in b} \alpha_i\, V x_i, \qquad \alpha_i = \operatorname{softmax}_{i \in b} g(x_i)

    Args:
        in_channels: D.
        out_channels: D', the width of the linear map V; with None there is no V, and D' = D.
        gate: g, a module from D channels to one; None uses a linear map.

    Shapes:
        x [..., N, D] and items, an `Adjacency` of B examples by N nodes -> [..., B, D']; 0 for an example without
        nodes.

    Source: Li et al., "Gated Graph Sequence Neural Networks", ICLR 2016, eq. 7, with a softmax over the nodes of an
    example in place of the sigmoid.

    >>> items = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 2], num_targets=2, num_sources=3)
    >>> AttentionReadout(4, 2)(torch.randn(3, 4), items).shape
    torch.Size([2, 2])
    """

    def __init__(self, in_channels: int, out_channels: int | None = None, *, gate: nn.Module | None = None) -> None:
        check_channels(in_channels=in_channels)
        super().__init__()
        self.in_channels = in_channels
        self.gate = nn.Linear(in_channels, 1) if gate is None else gate
        self.value: nn.Linear | None = None
        if out_channels is not None:
            check_channels(out_channels=out_channels)
            self.value = nn.Linear(in_channels, out_channels)

    def reset_parameters(self) -> None:
        """Reset every linear map."""
        reset(self)

    def forward(self, x: Tensor, items: Adjacency) -> Tensor:
        """Attend to the nodes."""
        _check(x, items, self.in_channels, next(self.gate.parameters(), x))
        value = x if self.value is None else self.value(x)
        score = self.gate(x)
        if score.shape != (*x.shape[:-1], 1):
            raise ArgumentError("gate", f"a module to shape {[*x.shape[:-1], 1]}", f"shape {list(score.shape)}")
        none = score.new_zeros(*x.shape[:-2], items.num_targets, 1)
        # with a slope of 1, the score is the sum of both terms, without a nonlinearity
        return attend(items, none, score, value.unsqueeze(-2), score=Additive(slope=1.0)).out.squeeze(-2)


class Set2Set(nn.Module):
    r"""Several steps of attention to the nodes of each example, with a query from an LSTM.

    Use it where one weighted mean is not enough, as for the properties of molecules.

    .. math:: q_t = \mathrm{LSTM}(q^*_{t-1}), \qquad
              a_{i,t} = \operatorname{softmax}_{i \in b} \langle x_i, q_t \rangle, \qquad
              r_t = \sum_{i \in b} a_{i,t} x_i, \qquad q^*_t = [q_t \Vert r_t]

    Args:
        channels: D.
        num_steps: number of steps.

    Shapes:
        x [..., N, D] and items, an `Adjacency` of B examples by N nodes -> [..., B, 2 D].

    Source: Vinyals, Bengio and Kudlur, "Order Matters: Sequence to Sequence for Sets", ICLR 2016, eq. 3 to 7.

    >>> items = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 2], num_targets=2, num_sources=3)
    >>> Set2Set(4, num_steps=3)(torch.randn(3, 4), items).shape
    torch.Size([2, 8])
    """

    def __init__(self, channels: int, *, num_steps: int = 3) -> None:
        check_channels(channels=channels)
        super().__init__()
        self.channels, self.num_steps = channels, whole("num_steps", num_steps, 1)
        self.lstm = nn.LSTMCell(2 * channels, channels)

    def reset_parameters(self) -> None:
        """Reset the LSTM."""
        self.lstm.reset_parameters()

    def extra_repr(self) -> str:
        """The number of steps."""
        return f"num_steps={self.num_steps}"

    def forward(self, x: Tensor, items: Adjacency) -> Tensor:
        """Attend to the nodes several times."""
        _check(x, items, self.channels, self.lstm.weight_ih)
        batch = (*x.shape[:-2], items.num_targets)
        q = x.new_zeros(*batch, 2 * self.channels)
        states = x.new_zeros(q.shape[:-1].numel(), self.channels), x.new_zeros(q.shape[:-1].numel(), self.channels)
        key = x.unsqueeze(-2)
        for _ in range(self.num_steps):
            states = self.lstm(q.view(-1, 2 * self.channels), states)
            query = states[0].view(*batch, self.channels)
            read = attend(items, query.unsqueeze(-2), key, key, scale=1.0).out.squeeze(-2)
            q = torch.cat([query, read], -1)
        return q


class VirtualNode(nn.Module):
    r"""One virtual node per example, which exchanges messages with all nodes of that example.

    Use it between layers where distant nodes of an example matter: any two of its nodes are two hops apart.

    .. math:: v_b' = \mathrm{MLP}\Big(v_b + \sum_{i \in b} x_i\Big), \qquad x_i' = x_i + v'_{b(i)}

    Args:
        channels: D.
        mlp: a module from D to D channels; None uses a linear map to 2 D, ReLU, and a linear map to D.

    Shapes:
        x [..., N, D], items, an `Adjacency` of B examples by N nodes, and the states [..., B, D] of the virtual nodes
        (None means 0) -> x' [..., N, D] and the new states.

    Source: Gilmer et al., "Neural Message Passing for Quantum Chemistry", ICML 2017, section 5.2; Hu et al., "Open
    Graph Benchmark", NeurIPS 2020, appendix.

    >>> items = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 2], num_targets=2, num_sources=3)
    >>> x, state = VirtualNode(4)(torch.randn(3, 4), items)
    >>> x.shape, state.shape
    (torch.Size([3, 4]), torch.Size([2, 4]))
    """

    def __init__(self, channels: int, *, mlp: nn.Module | None = None) -> None:
        check_channels(channels=channels)
        super().__init__()
        self.channels = channels
        if mlp is None:
            mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels))
        self.mlp = mlp

    def reset_parameters(self) -> None:
        """Reset every linear map."""
        reset(self)

    def forward(self, x: Tensor, items: Adjacency, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Send to the virtual nodes, and receive from them."""
        _check(x, items, self.channels, next(self.mlp.parameters(), x))
        received = propagate(items, x)
        if state is not None and state.shape != received.shape:
            raise ArgumentError("state", f"shape {list(received.shape)}, or None", f"shape {list(state.shape)}")
        state = self.mlp(received if state is None else received + state)
        return x + propagate(items.transpose(), state), state


def check_items(items: Any) -> None:
    """Check the structure from nodes to examples."""
    if not isinstance(items, Adjacency):
        hint = "Pass data.items of a collated Data, or hgraph.data.items_of(batch, num_items)"
        raise ArgumentTypeError("items", "an Adjacency from nodes to examples", type(items).__name__, hint)


def _check(x: Any, items: Any, channels: int | None, weight: Tensor | None = None) -> None:
    check_items(items)
    if not isinstance(x, Tensor):
        raise ArgumentTypeError("x", "a tensor of features", type(x).__name__)
    if x.dim() < 2 or (channels is not None and x.shape[-1] != channels):
        raise ArgumentError("x", f"shape [..., N, {'D' if channels is None else channels}]", f"shape {list(x.shape)}")
    if weight is not None:
        check_dtype("x", x, weight)
