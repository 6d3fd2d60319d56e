"""Linear systems along a chain: one form of attention, state space models and gated recurrences."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.errors import ArgumentError
from hgraph.ops import Affine, Memory, ScanResult, scan

__all__ = ["LinearSystem", "taylor_features"]


class LinearSystem(NamedTuple):
    r"""A linear system whose coefficients change from token to token, with a matrix as state per head.

    Use it to compare or convert sequence models: they differ only in these coefficients.

    .. math:: h_i = e^{a_i} \odot h_{i-1} + b_i u_i^\top, \qquad y_i = h_i^\top c_i + s\, u_i, \qquad
              y_i = \sum_{j \le i} \Phi_{ij} u_j, \quad
              \Phi_{ij} = c_i^\top e^{a_{j+1} + \dots + a_i} b_j + s\, [i = j]

    with D x V states, where D is the state expansion, and a decay per row or for all rows.

    Args:
        b: what writes a token into the state, [..., N, H, D].
        c: what reads the state, [..., N, H, D].
        log_decay: a, [..., N, H] or [..., N, H, D]; None is 0.
        skip: s, [H]; None is 0.

    Source: Sieber et al., "Understanding the Differences in Foundation Models: Attention, State Space Models, and
    Recurrent Neural Networks", NeurIPS 2024, equation 3.

    >>> one = torch.ones(3, 1, 1)
    >>> system = LinearSystem(one, one, torch.full((3, 1), 0.5).log())
    >>> system.scan(one).states.flatten().tolist()
    [1.0, 1.5, 1.75]
    >>> system.kernel()[0]
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 1.0000, 0.0000],
            [0.2500, 0.5000, 1.0000]])
    """

    b: Tensor
    c: Tensor
    log_decay: Tensor | None = None
    skip: Tensor | None = None

    def scan(self, values: Tensor, initial: Tensor | None = None, *, chunk: int = 64) -> ScanResult:
        """Outputs by the recurrence; cost and memory are linear in N.

        Args:
            values: u, [..., N, H, V].
            initial: the state before the first token, [..., H, D, V]; None is 0.
            chunk: tokens per chunk. It affects rounding only.

        Returns:
            `hgraph.ops.ScanResult`: ``states`` holds y [..., N, H, V], ``final`` the last state [..., H, D, V].

        Raises:
            ArgumentError: inconsistent shapes, or a log decay above 0 with states of more than one number; `bounded`
                returns a system without such.
        """
        self._check()
        if values.dim() != self.b.dim() or values.shape[:-1] != self.b.shape[:-1]:
            want = f"shape {[*self.b.shape[:-1], 'V']}"
            raise ArgumentError("values", want, f"shape {list(values.shape)}")
        if self.b.shape[-1] == 1 and values.shape[-1] == 1 and self.log_decay is not None:
            y, final = self._scan_channels(values, initial)
        else:
            per_row = self.log_decay is not None and self.log_decay.dim() == self.b.dim()
            kind = Memory("none" if self.log_decay is None else "diagonal" if per_row else "scalar")
            q, k, v = (x.transpose(-3, -2) for x in (self.c, self.b, values))
            decay = None
            if self.log_decay is not None:
                decay = self.log_decay.transpose(-3, -2) if per_row else self.log_decay.transpose(-2, -1)
            y, final = scan(kind, (q, k, v, decay), initial=initial, chunk=chunk)
            y = y.transpose(-3, -2)
        return ScanResult(y if self.skip is None else y + self.skip.unsqueeze(-1) * values, final)

    def _scan_channels(self, values: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
        """States of one number: a scan over all channels at once."""
        assert self.log_decay is not None  # noqa: S101 - for type checkers
        log_decay = self.log_decay.view(self.b.shape[:-1])
        state = None if initial is None else initial.flatten(-3)
        found = scan(Affine("diagonal", log=True), (log_decay, (self.b * values).squeeze(-1)), initial=state)
        return self.c * found.states.unsqueeze(-1), found.final[..., None, None]

    def kernel(self) -> Tensor:
        r"""The weights :math:`\Phi` [..., H, N, N] between all pairs of tokens.

        For short sequences: it takes :math:`N^2 D` numbers.
        """
        self._check()
        b, c = self.b.transpose(-3, -2), self.c.transpose(-3, -2)
        length = b.shape[-2]
        if self.log_decay is None:
            weights = c @ b.mT
        elif self.log_decay.dim() == self.b.dim():
            decays = _sums_between(self.log_decay.movedim(-3, -1)).exp()  # [..., H, D, N, N]
            weights = torch.einsum("...id,...jd,...dij->...ij", c, b, decays)
        else:
            weights = (c @ b.mT) * _sums_between(self.log_decay.transpose(-2, -1)).exp()
        past = torch.ones(length, length, dtype=torch.bool, device=b.device).tril()
        weights = torch.where(past, weights, 0.0)
        if self.skip is None:
            return weights
        return weights + self.skip[:, None, None] * torch.eye(length, dtype=weights.dtype, device=b.device)

    def transform(self, log_scale: Tensor) -> LinearSystem:
        r"""The same map from inputs to outputs, with other states: :math:`h_i' = e^{t_i} \odot h_i`.

        Args:
            log_scale: t, [..., N, H] or [..., N, H, D]. The scale before the first token is 1.
        """
        self._check()
        if log_scale.shape not in (self.b.shape, self.b.shape[:-1]):
            shapes = f"shape {list(self.b.shape)} or {list(self.b.shape[:-1])}"
            raise ArgumentError("log_scale", shapes, f"shape {list(log_scale.shape)}")
        per_row = log_scale.dim() == self.b.dim()
        axis = -3 if per_row else -2
        first = torch.zeros_like(log_scale.narrow(axis, 0, min(1, log_scale.shape[axis])))
        change = torch.diff(log_scale, dim=axis, prepend=first)
        decay = self.log_decay
        if decay is not None and decay.dim() != log_scale.dim():
            decay, change = (x if x.dim() == self.b.dim() else x.unsqueeze(-1) for x in (decay, change))
        scale = log_scale if per_row else log_scale.unsqueeze(-1)
        decay = change if decay is None else decay + change
        return LinearSystem(self.b * scale.exp(), self.c * (-scale).exp(), decay, self.skip)

    def bounded(self) -> LinearSystem:
        """The same map with log decays of at most 0: growth of the states moves to what reads and writes them."""
        if self.log_decay is None:
            return self
        axis = -3 if self.log_decay.dim() == self.b.dim() else -2
        moved = self.transform(-self.log_decay.clamp(min=0).cumsum(axis))
        return moved._replace(log_decay=self.log_decay.clamp(max=0))  # the same, without rounding

    def without_decay(self) -> LinearSystem:
        r"""The same map as linear attention: queries :math:`c_i e^{a_1 + \dots + a_i}` and keys, without decay.

        Long sequences exceed the range of numbers: the scales are products of all decays so far.
        """
        if self.log_decay is None:
            return self
        axis = -3 if self.log_decay.dim() == self.b.dim() else -2
        moved = self.transform(-self.log_decay.cumsum(axis))
        return moved._replace(log_decay=None)

    def normalized(self, log_normalizer: Tensor | None = None) -> LinearSystem:
        r"""Outputs divided by :math:`\eta_i`, as in the paper: decays get the factor :math:`\eta_{i-1} / \eta_i`.

        Args:
            log_normalizer: :math:`\log \eta` [..., N, H]; None takes the sums of the weights of each token, which must
                be positive, as in softmax or linear attention.

        Raises:
            ArgumentError: the system has a direct path.
        """
        if self.skip is not None:
            raise ArgumentError("skip", "None", "a tensor", "The direct path cannot be divided by a number per token")
        if log_normalizer is None:
            ones = torch.ones_like(self.b[..., :1])
            log_normalizer = self.scan(ones).states.squeeze(-1).log()
        return self.transform(-log_normalizer)._replace(c=self.c)

    def without(self, mask: Tensor) -> LinearSystem:
        """The system that ignores padding: nothing is written there and states do not decay.

        Args:
            mask: booleans [..., N], True at real tokens.
        """
        b = torch.where(mask[..., None, None], self.b, 0.0)
        if self.log_decay is None:
            return self._replace(b=b)
        per_row = self.log_decay.dim() == self.b.dim()
        real = mask[..., None, None] if per_row else mask.unsqueeze(-1)
        return self._replace(b=b, log_decay=torch.where(real, self.log_decay, 0.0))

    def _check(self) -> None:
        if self.b.dim() < 3 or self.c.shape != self.b.shape:
            got = f"{list(self.b.shape)}, {list(self.c.shape)}"
            raise ArgumentError("b, c", "equal shapes [..., N, H, D]", got)
        decay = self.log_decay
        if decay is not None and decay.shape not in (self.b.shape, self.b.shape[:-1]):
            shapes = f"shape {list(self.b.shape[:-1])} or {list(self.b.shape)}"
            raise ArgumentError("log_decay", shapes, f"shape {list(decay.shape)}")
        if self.skip is not None and self.skip.shape != self.b.shape[-2:-1]:
            raise ArgumentError("skip", f"shape {list(self.b.shape[-2:-1])}", f"shape {list(self.skip.shape)}")


def _sums_between(log_decay: Tensor) -> Tensor:
    """[..., N, N] of [..., N]: sums of the elements j + 1 .. i. Differences of cumulative sums are NaN for -inf."""
    length = log_decay.shape[-1]
    later = torch.ones(length, length, dtype=torch.bool, device=log_decay.device).tril(-1)
    spread = torch.where(later, log_decay.unsqueeze(-1), 0.0)
    return spread.cumsum(-2)


def taylor_features(x: Tensor, degree: int) -> Tensor:
    r"""Features whose products are the Taylor polynomial of the exponential function.

    Use them to write softmax attention as a linear system; exactly, it would need infinitely many.

    .. math:: \phi(x) = \Big(1,\; x,\; \frac{x \otimes x}{\sqrt{2!}},\; \dots\Big), \qquad
              \phi(q) \cdot \phi(k) = \sum_{j=0}^{p} \frac{(q \cdot k)^j}{j!}

    Args:
        x: [..., D].
        degree: p. Even degrees keep the products positive.

    Returns:
        [..., n], :math:`n = 1 + D + \dots + D^p`.

    Source: Sieber et al., "Understanding the Differences in Foundation Models: Attention, State Space Models, and
    Recurrent Neural Networks", NeurIPS 2024, section 3.

    >>> x = torch.tensor([1.0])
    >>> round(float(taylor_features(x, 8) @ taylor_features(x, 8)), 4)  # e
    2.7183
    """
    power = torch.ones_like(x[..., :1])
    features = [power]
    for j in range(1, whole("degree", degree, 0) + 1):
        power = (power.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)
        features.append(power / math.sqrt(math.factorial(j)))
    return torch.cat(features, -1)
