"""Gated recurrences with one number per channel as state: quasi-LSTM and RG-LRU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.recurrent.system import LinearSystem
from hgraph.nn.recurrent.system_layer import SystemLayer
from hgraph.ops.sparse.linear import upcast

__all__ = ["QLSTM", "RGLRU"]


class QLSTM(SystemLayer):
    r"""LSTM whose gates depend on the token only, so that it is a linear system and trains in parallel.

    Use it as a small recurrence: its state is one number per channel.

    .. math:: h_i = \sigma(f_i) \odot h_{i-1} + \sigma(g_i) \odot x_i, \qquad y_i = \sigma(o_i) \odot h_i

    with gates f, g, o linear in the token. Reversed, the forget gate is :math:`\sigma(-f_i)^{\max(\alpha, 0)}`, the
    form of state space models, with a learned number :math:`\alpha` that begins as 1.

    Args:
        dim: features per token.
        reversed: whether the forget gate is reversed.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``mask``, boolean [..., N], is True at real tokens: padding contributes
        nothing, and its output is 0; with ``state``, a `ChainState`, the tokens are the next ones of a sequence.

    Source: Sieber et al., "Understanding the Differences in Foundation Models: Attention, State Space Models, and
    Recurrent Neural Networks", NeurIPS 2024, section 5. The published code has a causal convolution before the gates,
    and a gate and a projection after them.

    >>> QLSTM(8)(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(self, dim: int, *, reversed: bool = False) -> None:
        check_channels(dim=dim)
        super().__init__(dim)
        self.forget, self.input, self.read = (nn.Linear(dim, dim) for _ in range(3))
        self.alpha = nn.Parameter(torch.ones(())) if reversed else None

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.dim}{', reversed' if self.alpha is not None else ''}"

    def reset_parameters(self) -> None:
        """Gates as `torch.nn.Linear`, the exponent 1."""
        for linear in (self.forget, self.input, self.read):
            linear.reset_parameters()
        if self.alpha is not None:
            nn.init.ones_(self.alpha)

    def system(self, x: Tensor) -> tuple[LinearSystem, Tensor]:
        """A head per channel, without state expansion."""
        forget, write, read = (upcast(f(x)) for f in (self.forget, self.input, self.read))
        decay = F.logsigmoid(forget)
        if self.alpha is not None:
            decay = F.logsigmoid(-forget) * F.relu(upcast(self.alpha))
        write, read = write.sigmoid().unsqueeze(-1), read.sigmoid().unsqueeze(-1)
        return LinearSystem(write, read, decay), upcast(x).unsqueeze(-1)


class RGLRU(SystemLayer):
    r"""Real-gated linear recurrent unit of Griffin: a learned decay per channel, sped up by a gate.

    Use it as a small recurrence whose states have the scale of the inputs.

    .. math:: h_i = \lambda_i \odot h_{i-1} + \sqrt{1 - \lambda_i^2} \odot \sigma(W_g x_i) \odot x_i, \qquad
              \lambda_i = \sigma(a)^{8 \sigma(W_r x_i)}, \qquad y_i = h_i

    Args:
        dim: features per token.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``mask`` and ``state`` as in `QLSTM`.

    Source: De et al., "Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models",
    section 2.4. Linear maps have a bias and full rank.

    >>> RGLRU(8)(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(self, dim: int) -> None:
        check_channels(dim=dim)
        super().__init__(dim)
        self.gate, self.input = (nn.Linear(dim, dim) for _ in range(2))
        self.rate = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.dim}"

    def reset_parameters(self) -> None:
        r"""Gates as `torch.nn.Linear`, :math:`\sigma(a)^8` from 0.9 to 0.999."""
        self.gate.reset_parameters()
        self.input.reset_parameters()
        with torch.no_grad():
            spread = torch.linspace(0.9, 0.999, self.dim, dtype=torch.float64, device=self.rate.device) ** (1 / 8)
            self.rate.copy_(torch.logit(spread))

    def system(self, x: Tensor) -> tuple[LinearSystem, Tensor]:
        """A head per channel, without state expansion."""
        decay = 8 * upcast(self.gate(x)).sigmoid() * F.logsigmoid(upcast(self.rate))
        rest = -torch.expm1(2 * decay)  # 1 - decay^2, without cancellation
        write = rest.clamp(min=torch.finfo(rest.dtype).tiny).sqrt() * upcast(self.input(x)).sigmoid()
        return LinearSystem(write.unsqueeze(-1), torch.ones_like(write).unsqueeze(-1), decay), upcast(x).unsqueeze(-1)
