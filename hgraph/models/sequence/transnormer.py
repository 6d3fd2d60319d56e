"""TransNormerLLM: a language model with linear attention (Qin et al., ICML 2024)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from hgraph.checks import check_channels, integers
from hgraph.errors import ArgumentError
from hgraph.nn.attention.masks import token_mask
from hgraph.nn.norms import SimpleRMSNorm
from hgraph.nn.recurrent.state import StackState, states_of
from hgraph.nn.recurrent.transnormer import LRPE, TransNormerLayer

__all__ = ["TransNormer"]


class TransNormer(nn.Module):
    r"""Language model with layers `hgraph.nn.TransNormerLayer`; the cost per token does not depend on the position.

    Use it for next-token prediction over long sequences.

    .. math:: x^0 = \sqrt d\, E_w, \qquad x^{l+1} = \mathrm{layer}_l(x^l), \qquad z = \operatorname{norm}(x^L) W^\top

    Weights decay fast in early layers and hardly in the last one; positions are encoded in layer 0 only.

    Args:
        vocab_size: V, the size of the vocabulary.
        dim: d.
        num_heads: H.
        num_layers: L.
        hidden_channels: hidden width of the gated linear units.
        decay: schedule of the decays, ``"alibi"`` or ``"linear"`` (`hgraph.nn.recurrent.log_decays`), or None.
        lrpe: whether layer 0 encodes positions.
        tie_embeddings: whether W is the embedding matrix E.
        scale_embedding: whether embeddings are multiplied by :math:`\sqrt d`.
        init_std: standard deviation of the initial embeddings and linear maps.
        chunk: tokens per chunk. It affects rounding only.

    Shapes:
        tokens [..., N], integers 0 .. V-1 -> scores [..., N, V]. ``mask``, boolean [..., N], is True at real tokens;
        padding may be any token of the vocabulary. ``state`` is a `hgraph.nn.recurrent.StackState`.

    Source: Qin et al., "Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention", ICML
    2024. The model has V d + L (5 d^2 + 3 d g) + d parameters for g hidden channels, and V d more without tied
    embeddings. The initial standard deviation is not in the paper.

    >>> import torch
    >>> model = TransNormer(16, 8, num_heads=2, num_layers=2, hidden_channels=12)
    >>> model(torch.zeros(3, 10, dtype=torch.long)).shape
    torch.Size([3, 10, 16])
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        *,
        num_heads: int,
        num_layers: int,
        hidden_channels: int,
        decay: str | None = "alibi",
        lrpe: bool = True,
        tie_embeddings: bool = True,
        scale_embedding: bool = True,
        init_std: float = 0.02,
        chunk: int = 64,
    ) -> None:
        check_channels(vocab_size=vocab_size, dim=dim, num_layers=num_layers)
        super().__init__()
        self.scale, self.init_std = math.sqrt(dim) if scale_embedding else 1.0, init_std
        self.embedding = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(
            TransNormerLayer(
                dim, num_heads, hidden_channels=hidden_channels, layer=at, num_layers=num_layers, decay=decay,
                lrpe=lrpe and at == 0, chunk=chunk,
            )
            for at in range(num_layers)
        )  # fmt: skip
        self.norm = SimpleRMSNorm()
        self.head = None if tie_embeddings else nn.Linear(dim, vocab_size, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal embeddings and linear maps, the published angles."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=self.init_std)
            elif isinstance(module, LRPE):
                module.reset_parameters()

    def forward(self, tokens: Tensor, mask: Tensor | None = None, *, state: StackState | None = None) -> Tensor:
        """Scores of the next tokens."""
        integers("tokens", tokens, self.embedding.weight.device)
        if tokens.dim() < 1:
            raise ArgumentError("tokens", "shape [..., N]", f"shape {list(tokens.shape)}")
        mask = token_mask("mask", mask, tokens.shape)
        x = self.embedding(tokens) * self.scale
        for layer, own in zip(self.layers, states_of(state, len(self.layers)), strict=True):
            x = layer(x, mask, state=own)
        x = self.norm(x)
        return nn.functional.linear(x, self.embedding.weight) if self.head is None else self.head(x)
