"""Selective state space layers S6 and SSD as linear systems (Gu and Dao, 2023; Dao and Gu, 2024)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels, whole
from hgraph.errors import ArgumentError
from hgraph.nn.recurrent.system import LinearSystem
from hgraph.nn.recurrent.system_layer import SystemLayer
from hgraph.ops.sparse.linear import upcast

__all__ = ["S6", "SSD"]


class S6(SystemLayer):
    r"""Selective state space layer of Mamba: every channel has a state of n numbers, with decays of their own.

    Use it for long sequences of which few tokens matter; one gate decides both what is written and what is forgotten.

    .. math:: \Delta_i = \operatorname{softplus}(W_\Delta x_i + \beta), \quad
              h_i = e^{-\Delta_i A} \odot h_{i-1} + (\Delta_i \odot x_i)\, (W_B x_i)^\top, \quad
              y_i = h_i W_C x_i + s \odot x_i

    with learned A > 0, [dim, n].

    Args:
        dim: features per token; each is a channel.
        state_size: n.
        chunk: tokens per chunk. It affects rounding only.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``mask``, boolean [..., N], is True at real tokens: padding contributes
        nothing, and its output is 0; with ``state``, a `ChainState`, the tokens are the next ones of a sequence.

    Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", section 3, as a linear
    system in Sieber et al., "Understanding the Differences in Foundation Models", NeurIPS 2024. This is the layer
    without Mamba's convolution, gate and projections; :math:`W_\Delta` has full rank.

    >>> S6(8, state_size=4)(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(self, dim: int, *, state_size: int = 16, chunk: int = 64) -> None:
        check_channels(dim=dim, state_size=state_size)
        super().__init__(dim, whole("chunk", chunk, 1))
        self.delta = nn.Linear(dim, dim)
        self.write, self.read = (nn.Linear(dim, state_size, bias=False) for _ in range(2))
        self.log_rate = nn.Parameter(torch.empty(dim, state_size))
        self.skip = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.dim}, state {self.log_rate.shape[1]}"

    def reset_parameters(self) -> None:
        """Linear maps as `torch.nn.Linear`, rates 1 .. n, steps from 0.001 to 0.1, direct paths 1."""
        for linear in (self.delta, self.write, self.read):
            linear.reset_parameters()
        with torch.no_grad():
            rates = torch.arange(1, self.log_rate.shape[1] + 1, device=self.log_rate.device)
            self.log_rate.copy_(rates.log().expand_as(self.log_rate))
        nn.init.ones_(self.skip)
        _init_steps(self.delta.bias)

    def system(self, x: Tensor) -> tuple[LinearSystem, Tensor]:
        """A head per channel, with the state size as expansion."""
        delta = F.softplus(upcast(self.delta(x))).unsqueeze(-1)
        write, read = (upcast(f(x)).unsqueeze(-2) for f in (self.write, self.read))
        rate = upcast(self.log_rate).exp()
        system = LinearSystem(delta * write, read.expand(*delta.shape[:-1], -1), -delta * rate, upcast(self.skip))
        return system, upcast(x).unsqueeze(-1)


class SSD(SystemLayer):
    r"""State space layer of Mamba-2: one decay per head and token, so that it is linear attention with gates.

    Use it as `S6`, at the cost of linear attention, and with larger states.

    .. math:: \Delta_i = \operatorname{softplus}(w_h^\top x_i + \beta_h), \quad
              h_i = e^{-a_h \Delta_i} h_{i-1} + \Delta_i (W_B x_i)\, u_i^\top, \quad
              y_i = h_i^\top W_C x_i + s_h u_i

    per head h with its channels u of x and a learned :math:`a_h > 0`. With a = 1 forgetting is
    :math:`\sigma(-z)` where writing is :math:`\operatorname{softplus}(z)`: one parameter for both.

    Args:
        dim: features per token.
        num_heads: H, which divides dim.
        state_size: n, features of what all heads write and read.
        chunk: tokens per chunk. It affects rounding only.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``mask`` and ``state`` as in `S6`.

    Source: Dao and Gu, "Transformers are SSMs", section 6, as a linear system in Sieber et al., "Understanding the
    Differences in Foundation Models", NeurIPS 2024. This is the layer without convolution, gate and projections.

    >>> SSD(8, 2, state_size=4)(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(self, dim: int, num_heads: int, *, state_size: int = 64, chunk: int = 64) -> None:
        check_channels(dim=dim, num_heads=num_heads, state_size=state_size)
        if dim % num_heads:
            raise ArgumentError("num_heads", f"a divisor of dim, {dim}", num_heads)
        super().__init__(dim, whole("chunk", chunk, 1))
        self.num_heads = num_heads
        self.delta = nn.Linear(dim, num_heads)
        self.write, self.read = (nn.Linear(dim, state_size, bias=False) for _ in range(2))
        self.log_rate, self.skip = (nn.Parameter(torch.empty(num_heads)) for _ in range(2))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.dim}, {self.num_heads} heads, state {self.write.out_features}"

    def reset_parameters(self) -> None:
        """Linear maps as `torch.nn.Linear`, rates 1 .. H, steps from 0.001 to 0.1, direct paths 1."""
        for linear in (self.delta, self.write, self.read):
            linear.reset_parameters()
        with torch.no_grad():
            self.log_rate.copy_(torch.arange(1, self.num_heads + 1, device=self.log_rate.device).log())
        nn.init.ones_(self.skip)
        _init_steps(self.delta.bias)

    def system(self, x: Tensor) -> tuple[LinearSystem, Tensor]:
        """The heads share what writes and reads, up to the steps."""
        delta = F.softplus(upcast(self.delta(x)))
        write, read = (upcast(f(x)).unsqueeze(-2) for f in (self.write, self.read))
        read = read.expand(*delta.shape, -1)
        decay = -delta * upcast(self.log_rate).exp()
        system = LinearSystem(delta.unsqueeze(-1) * write, read, decay, upcast(self.skip))
        return system, upcast(x).unflatten(-1, (self.num_heads, -1))


def _init_steps(bias: Tensor) -> None:
    """Biases whose softplus is spread evenly, by ratios, from 0.001 to 0.1."""
    with torch.no_grad():
        steps = torch.logspace(math.log10(1e-3), math.log10(0.1), len(bias), device=bias.device, dtype=torch.float64)
        bias.copy_(steps.expm1().log())
