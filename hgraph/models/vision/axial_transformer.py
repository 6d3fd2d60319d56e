"""The Axial Transformer: autoregressive images, pixel by pixel (Ho et al., 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn.attention import AxialAttention

__all__ = ["AxialTransformer"]

_ROW, _COLUMN = 1, 0  # the axis along which cells of one row, or of one column, attend to each other


class AxialBlock(nn.Module):
    r"""One layer: attention along an axis, then an MLP per cell, both residual.

    .. math:: x \leftarrow x + \mathrm{Attn}_a(\mathrm{LN}(x)), \qquad
              x \leftarrow x + W_2 \, g(W_1 \mathrm{LN}(x)), \qquad g(z) = z \, \sigma(1.702 z)

    Shapes: [B, H, W, dim] -> the same. Both branches end in weights of variance ``residual_scale`` / fan-in.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        axis: int,
        causal: bool = False,
        mlp_ratio: int = 1,
        dropout: float = 0.0,
        residual_scale: float = 1e-10,
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = AxialAttention(dim, num_heads, axis=axis, causal=causal)
        self.hidden, self.out = nn.Linear(dim, mlp_ratio * dim), nn.Linear(mlp_ratio * dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Variance 1 / fan-in, except for the last map of each branch."""
        for norm in (self.norm1, self.norm2):
            norm.reset_parameters()
        (layer,) = self.attention.layers
        for linear in (layer.query, layer.key, layer.value, self.hidden):
            _scale(linear)  # type: ignore[arg-type]
        for linear in (layer.out, self.out):
            _scale(linear, self.residual_scale)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Attend along the axis, then apply the MLP."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        z = self.hidden(self.norm2(x))
        return x + self.dropout(self.out(z * torch.sigmoid(1.702 * z)))


class AxialTransformer(nn.Module):
    r"""An autoregressive model of images: axial layers over all rows above in parallel, then each row left to right.

    Use it to generate images, or to measure their likelihood.

    With slices s (channels), rows r and columns c, embeddings :math:`h = E[x_s]` and positions :math:`p`,

    .. math:: \kappa &= \mathrm{exterior}(\mathrm{conv}(x_{<s}, s) + p') \\
              u &= \mathrm{down}(\mathrm{outer}(h + p + \kappa)), \qquad
              z = \mathrm{inner}(\mathrm{right}(h) + u + p + \kappa) \\
              p(x_{s,r,c} \mid x_{<s}, x_{s,<r,:}, x_{s,r,<c}) &= \operatorname{softmax}(W \, \mathrm{LN}(z_{r,c}))

    ``exterior`` alternates full rows and full columns; ``outer`` full rows, and columns up to the current row,
    after which ``down`` shifts every row to the next; ``inner`` attends to a row up to the current column, and
    ``right`` shifts every cell to the next. So a cell depends on all earlier cells and no others, without independence
    assumptions, and rows above are computed once when sampling. A model of one channel has no exterior. The published
    results use weights averaged over training (`torch.optim.swa_utils.AveragedModel`, decay 0.99995).

    Args:
        height: rows of an image.
        width: columns.
        channels: C, number of slices, in order.
        num_classes: K, number of values of a pixel.
        dim: features per cell.
        num_heads: heads of each layer.
        exterior: number of layers over the previous slices.
        outer: number of layers over the rows above, an even number.
        inner: number of layers over the row.
        mlp_ratio: hidden width of the MLPs divided by ``dim``.
        dropout: of both branches of each layer, in training.
        residual_scale: variance of the last weights of a branch, times fan-in; at 1e-10 layers start as the identity.

    Shapes:
        x, integers [B, H, W, C] in 0 .. K - 1 -> logits [B, H, W, C, K].

    Source: Ho et al., "Axial Attention in Multidimensional Transformers", section 3; `imagenet64` and `imagenet32`
    have 606,161,152 and 341,178,112 parameters.

    >>> net = AxialTransformer(4, 6, 3, num_classes=8, dim=16, num_heads=2, exterior=2, outer=2, inner=1)
    >>> net(torch.randint(8, (2, 4, 6, 3))).shape
    torch.Size([2, 4, 6, 3, 8])
    """

    def __init__(
        self,
        height: int,
        width: int,
        channels: int,
        *,
        num_classes: int = 256,
        dim: int,
        num_heads: int,
        exterior: int = 8,
        outer: int = 8,
        inner: int = 8,
        mlp_ratio: int = 1,
        dropout: float = 0.0,
        residual_scale: float = 1e-10,
    ) -> None:
        super().__init__()
        sizes = {"height": height, "width": width, "channels": channels, "num_classes": num_classes, "dim": dim}
        for name, size in (*sizes.items(), ("num_heads", num_heads), ("mlp_ratio", mlp_ratio)):
            whole(name, size, 1)
        for name, size in (("exterior", exterior), ("outer", outer), ("inner", inner)):
            whole(name, size)
        if outer % 2:
            raise ArgumentError("outer", "an even number, pairs of a row and a column layer", outer)
        self.height, self.width, self.channels, self.num_classes = height, width, channels, num_classes

        def block(axis: int, causal: bool = False) -> AxialBlock:
            options = {"mlp_ratio": mlp_ratio, "dropout": dropout, "residual_scale": residual_scale}
            return AxialBlock(dim, num_heads, axis=axis, causal=causal, **options)  # type: ignore[arg-type]

        self.embedding = nn.Embedding(num_classes, dim)
        self.position = _Positions(height, width, dim)
        if channels > 1:
            self.convolution = nn.Conv2d(2 * channels, dim, 3, padding=1)
            self.exterior_position = _Positions(height, width, dim)
            self.exterior = nn.Sequential(*(block(_ROW if i % 2 == 0 else _COLUMN) for i in range(exterior)))
        self.outer = nn.Sequential(*(block(_COLUMN, causal=True) if i % 2 else block(_ROW) for i in range(outer)))
        self.inner = nn.Sequential(*(block(_ROW, causal=True) for _ in range(inner)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, num_classes)
        self.reset_parameters()

    @classmethod
    def imagenet64(cls) -> AxialTransformer:
        """The published network for ImageNet at 64 x 64."""
        return cls(64, 64, 3, dim=2048, num_heads=16)

    @classmethod
    def imagenet32(cls) -> AxialTransformer:
        """The published network for ImageNet at 32 x 32."""
        return cls(32, 32, 3, dim=1536, num_heads=16, dropout=0.04)

    def reset_parameters(self) -> None:
        """Embeddings of deviation 5 / sqrt(dim), weights of variance 1 / fan-in, even logits."""
        nn.init.normal_(self.embedding.weight, std=5 / self.embedding.embedding_dim**0.5)
        self.norm.reset_parameters()
        _scale(self.head, 1e-10)
        for module in self.modules():
            if isinstance(module, (AxialBlock, _Positions)):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d):
                _scale(module)

    # ------------------------------------------------------------------ the parts, as drawing an image takes them

    def conditioned(self, x: Tensor, channel: Tensor) -> Tensor | None:
        """[B, H, W, dim] features of the slices before ``channel`` [B]; None for one slice."""
        if self.channels == 1:
            return None
        place = torch.arange(self.channels, device=x.device)
        before = (place < channel.unsqueeze(1)).view(-1, 1, 1, self.channels)
        current = (place == channel.unsqueeze(1)).view(-1, 1, 1, self.channels)
        dtype = self.convolution.weight.dtype
        seen = torch.where(before, x, 0).to(dtype) / max(self.num_classes - 1, 1)
        maps = torch.cat([seen, current.to(dtype).expand(x.shape)], -1).movedim(-1, 1)
        return self.exterior(self.exterior_position(self.convolution(maps).movedim(1, -1)))

    def above(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """[B, H, W, dim] features of the rows above each row, from embeddings [B, H, W, dim] of a slice."""
        return _next(self.outer(_plus(self.position(h), condition)), 1)

    def within(self, h: Tensor, above: Tensor, condition: Tensor | None) -> Tensor:
        """Logits [B, R, W, K] of some rows, from their embeddings, ``above`` with positions, and their condition."""
        return self.head(self.norm(self.inner(_plus(_next(h, 2) + above, condition))))

    def slice_logits(self, x: Tensor, channel: Tensor) -> Tensor:
        """Logits [B, H, W, K] of one slice of each example, ``channel`` [B]."""
        condition = self.conditioned(x, channel)
        current = x.gather(3, channel.view(-1, 1, 1, 1).expand(*x.shape[:3], 1)).squeeze(3)
        h = self.embedding(current)
        return self.within(h, self.position(self.above(h, condition)), condition)

    # ------------------------------------------------------------------ what users call

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every pixel of every slice, given all earlier ones."""
        self._check(x)
        batch = x.shape[0]
        channel = torch.arange(self.channels, device=x.device).repeat_interleave(batch)
        logits = self.slice_logits(x.repeat(self.channels, 1, 1, 1), channel)
        return logits.unflatten(0, (self.channels, batch)).movedim(0, 3)

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Bits per dimension of one random slice of each image; in evaluation of all slices."""
        if not self.training:
            return F.cross_entropy(self(x).flatten(0, -2), x.flatten()) / math.log(2)
        self._check(x)
        channel = torch.randint(self.channels, x.shape[:1], generator=generator, device=x.device)
        current = x.gather(3, channel.view(-1, 1, 1, 1).expand(*x.shape[:3], 1))
        return F.cross_entropy(self.slice_logits(x, channel).flatten(0, -2), current.flatten()) / math.log(2)

    @torch.no_grad()
    def sample(self, noise: Tensor, *, temperature: float = 1.0) -> Tensor:
        r"""Draw images, :math:`x_{rc} = \operatorname{argmax}(\mathrm{logits}_{rc} / \tau + \mathrm{noise}_{rc})`.

        The exterior runs once per slice, the outer layers once per row, and only the inner ones once per pixel, on the
        current row.

        Args:
            noise: Gumbel noise [B, H, W, C, K], ``-log(-log(u))`` of uniform u.
            temperature: tau.

        Returns:
            integers [B, H, W, C].
        """
        shape = (self.height, self.width, self.channels, self.num_classes)
        if not isinstance(noise, Tensor) or noise.dim() != 5 or noise.shape[1:] != shape:
            got = f"shape {list(noise.shape)}" if isinstance(noise, Tensor) else type(noise).__name__
            raise ArgumentError("noise", f"shape [B, {', '.join(map(str, shape))}]", got)
        if not temperature > 0:
            raise ArgumentError("temperature", "a number above 0", temperature)
        x = torch.zeros(noise.shape[:-1], dtype=torch.long, device=noise.device)
        for s in range(self.channels):
            condition = self.conditioned(x, torch.full(x.shape[:1], s, device=x.device))
            for r in range(self.height):
                row = slice(r, r + 1)
                above = self.position(self.above(self.embedding(x[..., s]), condition))[:, row]
                exterior = None if condition is None else condition[:, row]
                for c in range(self.width):
                    logits = self.within(self.embedding(x[:, row, :, s]), above, exterior)[:, 0, c]
                    x[:, r, c, s] = (logits / temperature + noise[:, r, c, s]).argmax(-1)
        return x

    def _check(self, x: Tensor) -> None:
        if not isinstance(x, Tensor) or x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ArgumentTypeError("x", f"integers 0 .. {self.num_classes - 1}", got)
        shape = (self.height, self.width, self.channels)
        if x.dim() != 4 or x.shape[1:] != shape:
            raise ArgumentError("x", f"shape [B, {', '.join(map(str, shape))}]", f"shape {list(x.shape)}")


class _Positions(nn.Module):
    """Adds learned row and column embeddings to each cell."""

    def __init__(self, height: int, width: int, dim: int) -> None:
        super().__init__()
        self.rows, self.columns = nn.Parameter(torch.empty(height, dim)), nn.Parameter(torch.empty(width, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in (self.rows, self.columns):
            nn.init.normal_(weight, std=5 / weight.shape[1] ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.rows.unsqueeze(1) + self.columns


def _plus(x: Tensor, condition: Tensor | None) -> Tensor:
    return x if condition is None else x + condition


def _next(x: Tensor, axis: int) -> Tensor:
    """Shift by one along an axis; the first entry is 0, the last is dropped."""
    first = torch.zeros_like(x.narrow(axis, 0, 1))
    return torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)


def _scale(layer: nn.Linear | nn.Conv2d, scale: float = 1.0) -> None:
    """Weights of variance scale / fan-in, no bias."""
    nn.init.normal_(layer.weight, std=(scale / layer.weight[0].numel()) ** 0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
