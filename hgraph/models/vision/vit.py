"""ViT: a transformer over the patches of small images, optionally with a block after the last layer (SoftHGNN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph import patterns
from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.ops import attend
from hgraph.structure import TokenGraph

__all__ = ["ViT"]


class PatchAttention(nn.Module):
    """Attention between patches: over all, scaled by d^-1/2; or over all others, with a learned temperature."""

    def __init__(self, dim: int, num_heads: int, dropout: float, graph: TokenGraph, others: bool) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        scale = (dim // num_heads) ** -0.5
        self.temperature = nn.Parameter(torch.tensor(scale).log()) if others else None
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self._graph = graph

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        scale = None if self.temperature is None else 1.0
        q = q if self.temperature is None else q * self.temperature.exp()
        dropout = self.dropout if self.training else 0.0
        return self.out(attend(self._graph.to(x.device), q, k, v, scale=scale, dropout=dropout).out.flatten(-2))


class PatchBlock(nn.Module):
    """Attention and an MLP, each pre-normalized and residual."""

    def __init__(self, dim: int, num_heads: int, hidden: int, dropout: float, graph: TokenGraph, others: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = PatchAttention(dim, num_heads, dropout, graph, others)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    r"""Patches and a class token attend to each other; the class token gives the logits.

    Use it to classify images, with or without a soft hypergraph layer at the end.

    .. math:: x_p = W \, \mathrm{patch}_p + b + e_p, \qquad
              x \leftarrow x + \operatorname{MHA}(\mathrm{LN}\, x), \qquad
              x \leftarrow x + \operatorname{MLP}(\mathrm{LN}\, x), \qquad
              z = W_c \, \mathrm{LN}(\mathrm{last}(x)_0) + b_c

    With ``small_data`` it is the trunk of the published SoftHGNN classifiers: a patch embedding includes the image
    shifted by half a patch along each diagonal (and is normalized), and a token attends to all *others*, with a learned
    temperature. To measure the effect of a block, use the same trunk for both networks.

    Args:
        image_size: side in pixels, a multiple of ``patch``.
        num_classes: C.
        patch: side of a patch in pixels.
        dim: features per token.
        num_layers: number of layers.
        num_heads: a divisor of ``dim``.
        hidden_channels: width of the MLPs; ``dim`` by default.
        dropout: probability, after the embedding, on the attention weights and in the blocks, in training.
        small_data: whether to use shifted patches and attention without self-loops.
        last: a block of tokens [B, N, dim] -> [B, N, dim] after the last layer, such as `hgraph.nn.SoftHGNN`.

    Shapes:
        images [B, 3, image_size, image_size] -> logits [B, C].

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words"; Lee et al., "Vision Transformer for Small-Size
    Datasets"; sizes of the CIFAR networks of SoftHGNN (arXiv 2505.15325).

    >>> from hgraph.nn import SoftHGNN
    >>> net = ViT(8, 10, dim=16, num_layers=1, num_heads=2, small_data=True, last=SoftHGNN(16, 4))
    >>> net(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_size: int,
        num_classes: int,
        *,
        patch: int = 4,
        dim: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        hidden_channels: int | None = None,
        dropout: float = 0.1,
        small_data: bool = False,
        last: nn.Module | None = None,
    ) -> None:
        check_channels(image_size=image_size, num_classes=num_classes, patch=patch, dim=dim, num_heads=num_heads)
        if image_size % patch:
            raise ArgumentError("patch", f"a divisor of the side of {image_size} pixels", patch)
        if dim % num_heads:
            raise ArgumentError("num_heads", f"a divisor of the {dim} features of a token", num_heads)
        super().__init__()
        self.image_size, self.patch, self.small_data = image_size, patch, small_data
        pixels = 3 * patch * patch * (5 if small_data else 1)
        self.norm_patch = nn.LayerNorm(pixels) if small_data else nn.Identity()
        self.embed = nn.Linear(pixels, dim)
        self.token = nn.Parameter(torch.empty(1, 1, dim))
        self.place = nn.Parameter(torch.empty(1, (image_size // patch) ** 2 + 1, dim))
        self.dropout = nn.Dropout(dropout)
        width = dim if hidden_channels is None else hidden_channels
        graph = _graph(self.place.shape[1], small_data)
        blocks = (PatchBlock(dim, num_heads, width, dropout, graph, small_data) for _ in range(num_layers))
        self.layers = nn.Sequential(*blocks)
        self.last = nn.Identity() if last is None else last
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, num_classes)
        nn.init.normal_(self.token)
        nn.init.normal_(self.place)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits of each image."""
        if images.dim() != 4 or images.shape[1:] != (3, self.image_size, self.image_size):
            expected = f"shape [B, 3, {self.image_size}, {self.image_size}]"
            raise ArgumentError("images", expected, f"shape {list(images.shape)}")
        x = shifted(images, self.patch // 2) if self.small_data else images
        patches = F.unfold(x, self.patch, stride=self.patch).mT  # [B, N, pixels]
        x = self.embed(self.norm_patch(patches))
        x = self.dropout(torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place)
        return self.out(self.norm(self.last(self.layers(x))[:, 0]))


def _graph(n: int, others: bool) -> TokenGraph:
    """The full graph, with or without self-loops."""
    with torch.device("cpu"):  # real numbers, even if parameters are on the meta device
        return patterns.full(n) - patterns.sliding_window(n, 1) if others else patterns.full(n)


def shifted(images: Tensor, by: int) -> Tensor:
    """[B, 5 C, H, W]: the images, concatenated with copies shifted along the four diagonals, zero-padded."""
    moves = [F.pad(images, (x, -x, y, -y)) for x in (by, -by) for y in (by, -by)]
    return torch.cat([images, *moves], 1)
