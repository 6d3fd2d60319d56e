"""Linear attention with a learned normalizer, or the sum of the weights (Sieber et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels, whole
from hgraph.errors import ArgumentError
from hgraph.nn.recurrent.system import LinearSystem
from hgraph.nn.recurrent.system_layer import SystemLayer
from hgraph.ops.sparse.linear import upcast

__all__ = ["NormalizedAttention"]

NORMALIZERS = ("exp", "softplus", "sigmoid", "sum")


class NormalizedAttention(SystemLayer):
    r"""Causal linear attention, divided by a function of the receiving token instead of the sum of the weights.

    Use it as linear attention; a learned normalizer lets a token decide how much it receives, as the gates of state
    space models do. It trains more slowly than ``"sum"``, since nothing bounds its sums.

    .. math:: y_i = W_O \frac{1}{\eta_i} \sum_{j \le i} (\phi(q_i) \cdot \phi(k_j))\, v_j, \qquad
              \eta_i = f(w_h^\top x_i) \;\text{ or }\; \sum_{j \le i} \phi(q_i) \cdot \phi(k_j)

    per head, with f = exp, softplus or the logistic function, and :math:`\phi` the identity; with sums
    :math:`\phi(x) = \operatorname{elu}(x) + 1`.

    Args:
        dim: features per token.
        num_heads: H, which divides dim.
        normalizer: ``"exp"``, ``"softplus"``, ``"sigmoid"``, or ``"sum"``, which is usual linear attention.
        key_channels: features of queries and keys of all heads together, before :math:`\phi`; None is dim.
        feature_map: :math:`\phi`, a function of the last dimension; with `taylor_features` and sums it is softmax
            attention up to the degree.
        bias: whether the projections have a bias.
        chunk: tokens per chunk. It affects rounding only.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``mask``, boolean [..., N], is True at real tokens: padding contributes
        nothing, and its output is 0; with ``state``, a `ChainState`, the tokens are the next ones of a sequence.

    Source: Sieber et al., "Understanding the Differences in Foundation Models: Attention, State Space Models, and
    Recurrent Neural Networks", NeurIPS 2024, section 4. The weights of the normalizer begin small, since its inverse
    has no bound.

    >>> NormalizedAttention(8, 2)(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        normalizer: str = "exp",
        key_channels: int | None = None,
        feature_map: Callable[[Tensor], Tensor] | None = None,
        bias: bool = False,
        chunk: int = 64,
    ) -> None:
        keys = dim if key_channels is None else key_channels
        check_channels(dim=dim, num_heads=num_heads, key_channels=keys)
        for name, size in (("dim", dim), ("key_channels", keys)):
            if size % num_heads:
                raise ArgumentError("num_heads", f"a divisor of {name}, {size}", num_heads)
        if normalizer not in NORMALIZERS:
            raise ArgumentError("normalizer", "'exp', 'softplus', 'sigmoid' or 'sum'", repr(normalizer))
        super().__init__(dim, whole("chunk", chunk, 1))
        self.num_heads, self.normalizer, self.feature_map = num_heads, normalizer, feature_map
        self.query, self.key = (nn.Linear(dim, keys, bias=bias) for _ in range(2))
        self.value, self.out = (nn.Linear(dim, dim, bias=bias) for _ in range(2))
        self.scale = nn.Linear(dim, num_heads) if normalizer != "sum" else None
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.dim}, {self.num_heads} heads, normalizer {self.normalizer}"

    def reset_parameters(self) -> None:
        """Linear maps as `torch.nn.Linear`; those of the normalizer with standard deviation 0.02, bias 0."""
        for linear in (self.query, self.key, self.value, self.out):
            linear.reset_parameters()
        if self.scale is not None:
            nn.init.normal_(self.scale.weight, std=0.02)
            nn.init.zeros_(self.scale.bias)

    def log_normalizer(self, x: Tensor) -> Tensor:
        """Log of the learned normalizer, [..., N, H] of x [..., N, dim].

        Raises:
            ArgumentError: the normalizer is the sum of the weights; see `LinearSystem.normalized`.
        """
        if self.scale is None:
            raise ArgumentError("normalizer", "a learned normalizer", "'sum'", "Use LinearSystem.normalized()")
        with torch.autocast(x.device.type, enabled=False):  # an exponent, whose gradients exceed float16
            z = F.linear(upcast(x), upcast(self.scale.weight), upcast(self.scale.bias))
        if self.normalizer == "exp":
            return z
        if self.normalizer == "sigmoid":
            return F.logsigmoid(z)
        # log(softplus(z)) tends to z, where softplus underflows
        return torch.where(z < -20, z, F.softplus(z.clamp(min=-20)).log())

    def system(self, x: Tensor) -> tuple[LinearSystem, Tensor]:
        """Queries read, keys write; with sums, a constant input beside the values sums the weights."""
        query, key, value = (
            upcast(f(x)).unflatten(-1, (self.num_heads, -1)) for f in (self.query, self.key, self.value)
        )
        query, key = self._features(query), self._features(key)
        if self.normalizer == "sum":
            return LinearSystem(key, query), torch.cat([value, torch.ones_like(value[..., :1])], -1)
        return LinearSystem(key, query * torch.exp(-self.log_normalizer(x)).unsqueeze(-1)), value

    def _features(self, x: Tensor) -> Tensor:
        if self.feature_map is not None:
            return self.feature_map(x)
        return F.elu(x) + 1 if self.normalizer == "sum" else x

    def output(self, received: Tensor, x: Tensor) -> Tensor:
        """[..., N, dim] of the outputs of the system [..., N, H, V], and the tokens."""
        if self.normalizer == "sum":
            total = received[..., -1:]
            received = received[..., :-1] / torch.where(total == 0, 1.0, total)  # 0 at padding before a sequence
        return self.out(super().output(received, x))
