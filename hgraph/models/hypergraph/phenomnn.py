"""PhenomNN: layers that descend on an energy of the hypergraph (Wang, Gan, Qiu and Wipf, ICML 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.models.hypergraph.diffusion import smoothing
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Hypergraph

__all__ = ["PhenomNN"]


class PhenomNN(nn.Module):
    r"""A linear map, T descent steps on an energy over clique and star expansion, and a linear map.

    Use it when you need many propagation steps without oversmoothing and with few parameters: the steps have none, or
    two small matrices.

    .. math:: Y \leftarrow (1 - a)\, Y + a\, Q^{-1} \big(\lambda_0 S_C(Y) + \lambda_1 S_S(Y) + Y^0\big), \qquad
              Q = \lambda_0 D_C + \lambda_1 D_S + I

    with :math:`S_C(Y) = A_C Y` and :math:`S_S(Y) = A_S Y`, the operators of `smoothing` of both expansions, and D their
    row sums. With ``compatibility`` and learned square matrices :math:`B_0, B_1`:
    :math:`S_C(Y) = A_C Y (B_0 + B_0^\top) - D_C Y B_0 B_0^\top` and
    :math:`S_S(Y) = (D_S - A_S) Y + A_S Y (B_1 + B_1^\top) - D_S Y B_1 B_1^\top`.

    Args:
        in_channels: F, input features per node.
        hidden_channels: features per node in all steps.
        num_classes: C.
        num_steps: T.
        lam_clique: lambda_0, weight of the clique expansion.
        lam_star: lambda_1, weight of the star expansion.
        step_size: a; None takes 1 / (1 + lambda_0 + lambda_1).
        compatibility: whether the steps have the matrices B; they start near the identity.
        dropout: dropout probability before and after the steps.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C].

    Raises:
        ArgumentError: negative weights of the expansions, or a step size outside 0 .. 1.

    Source: Wang, Gan, Qiu and Wipf, "From Hypergraph Energy Functions to Hypergraph Neural Networks", ICML 2023; one
    ReLU after all steps, as in its published code.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> PhenomNN(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_steps: int = 16,
        lam_clique: float = 0.0,
        lam_star: float = 20.0,
        step_size: float | None = None,
        compatibility: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_channels(num_steps=num_steps, num_classes=num_classes)
        if min(lam_clique, lam_star) < 0:
            raise ArgumentError("lam_clique, lam_star", "weights of 0 or more", (lam_clique, lam_star))
        step_size = 1 / (1 + lam_clique + lam_star) if step_size is None else step_size
        if not 0 < step_size <= 1:
            raise ArgumentError("step_size", "more than 0, at most 1", step_size)
        self.num_steps, self.step_size, self.lams = num_steps, step_size, (lam_clique, lam_star)
        self.linear = nn.Linear(in_channels, hidden_channels)
        self.out = nn.Linear(hidden_channels, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.matrices = nn.ParameterList()
        if compatibility:
            noise = (torch.randn(hidden_channels, hidden_channels) / hidden_channels for _ in range(2))
            self.matrices.extend(nn.Parameter(torch.eye(hidden_channels) + each) for each in noise)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.linear.in_features, self.linear.weight)
        y = y0 = self.dropout(self.linear(self.dropout(x)).relu())
        smooths = [smoothing(hypergraph, y.dtype, by_size=by_size) for by_size in (False, True)]
        sums = cached(hypergraph, ("row sums", y.dtype), lambda: [s(y.new_ones(y.shape[-2], 1)) for s in smooths])
        scale = 1 / (1 + self.lams[0] * sums[0] + self.lams[1] * sums[1])
        for _ in range(self.num_steps):
            total = y0
            for lam, smooth, degree, which in zip(self.lams, smooths, sums, (0, 1), strict=True):
                if lam:
                    total = total + lam * self._part(y, smooth(y), degree, which)
            y = (1 - self.step_size) * y + self.step_size * scale * total
        return self.out(self.dropout(y.relu()))

    def _part(self, y: Tensor, smoothed: Tensor, degree: Tensor, which: int) -> Tensor:
        """The term of the clique (0) or star (1) expansion."""
        if not self.matrices:
            return smoothed
        matrix = self.matrices[which].to(y.dtype)
        part = smoothed @ (matrix + matrix.T) - degree * (y @ (matrix @ matrix.T))
        return part + degree * y - smoothed if which else part
