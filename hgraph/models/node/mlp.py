"""Multilayer perceptron: a network without message passing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.nn.rows import UnitRows

__all__ = ["MLP"]


class MLP(nn.Module):
    r"""Linear, ReLU, BatchNorm, Dropout, Linear: the student of LightHGNN, which needs no structure.

    Use it as the student of a distillation, and as the baseline that shows what the structure adds.

    For word-count features, ``norm=False, unit_rows=True, input_dropout=0.5`` (``hgraph distill --student
    words``) is the stronger student for nodes unseen in training: as accurate there as its teacher, which
    uses the structure, on three data sets with five seeds
    (``benchmarks/studies/unseen_gap.py``). For pixels it is the weaker one.

    .. math:: Z = \mathrm{BN}(\mathrm{ReLU}(X \Theta_1 + b_1)) \, \Theta_2 + b_2

    Args:
        in_channels: F, features of a node.
        hidden_channels: width of the hidden layer.
        num_classes: C.
        dropout: probability, after the normalization.
        input_dropout: probability, on the features: drops words at random.
        norm: whether to use BatchNorm, as published; with few labels the network is better without.
        unit_rows: whether to divide each row of features by its length first; zero rows are unchanged.

    Shapes:
        x [N, F] -> logits [N, C].

    Source: Feng et al., "LightHGNN", ICLR 2024, eq. 2.

    >>> import torch
    >>> MLP(8, 16, 3)(torch.randn(5, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
        norm: bool = True,
        unit_rows: bool = False,
    ) -> None:
        super().__init__()
        self.rows = UnitRows() if unit_rows else nn.Identity()
        self.input_dropout = nn.Dropout(input_dropout) if input_dropout else nn.Identity()
        self.hidden = nn.Linear(in_channels, hidden_channels)
        self.norm = nn.BatchNorm1d(hidden_channels) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits from features only."""
        return self.out(self.dropout(self.norm(self.hidden(self.input_dropout(self.rows(x))).relu())))

    @torch.no_grad()
    def folded(self) -> nn.Sequential:
        r"""The same function in eval mode as Linear, ReLU, Linear: folds the normalization into the last layer.

        .. math:: \Theta_2' = \mathrm{diag}(a)\, \Theta_2, \quad b_2' = b_2 + (\beta - \mu a)\, \Theta_2, \quad
                  a = \gamma / \sqrt{\sigma^2 + \epsilon}

        With ``unit_rows`` the row normalization comes first.

        Half as many operations: used for export and for predictions of single nodes.

        >>> mlp, x = MLP(8, 16, 3).eval(), torch.randn(5, 8)
        >>> bool(torch.allclose(mlp.folded()(x), mlp(x), atol=1e-5))
        True
        """
        hidden = nn.utils.skip_init(nn.Linear, self.hidden.in_features, self.hidden.out_features)
        out = nn.utils.skip_init(nn.Linear, self.out.in_features, self.out.out_features)
        hidden, out = hidden.to(self.hidden.weight), out.to(self.out.weight)
        hidden.load_state_dict(self.hidden.state_dict())
        out.load_state_dict(self.out.state_dict())
        if isinstance(self.norm, nn.BatchNorm1d):
            norm = self.norm
            assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101, PT018
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            out.weight.mul_(scale)
            out.bias.add_(self.out.weight @ (norm.bias - norm.running_mean * scale))
        before = [UnitRows()] if isinstance(self.rows, UnitRows) else []
        return nn.Sequential(*before, hidden, nn.ReLU(), out).eval()
