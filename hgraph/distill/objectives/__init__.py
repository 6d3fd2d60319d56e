r"""Published objectives, as sums of terms like in their equations.

New ones are written in the same way: ``0.3 * Labels() + 0.7 * (SoftLabels() + HighOrder())``.
"""

from __future__ import annotations

from collections.abc import Callable

from hgraph.distill.objectives.activations import MatchSimilarity
from hgraph.distill.objectives.high_order import HighOrder
from hgraph.distill.objectives.lesson import Term
from hgraph.distill.objectives.reliable import NoisyFeatures, ReliableLabels
from hgraph.distill.objectives.soft_labels import Labels, SoftLabels, Variant
from hgraph.errors import ArgumentError

__all__ = ["OBJECTIVES", "glnn", "krd", "lighthgnn", "lighthgnn_plus", "nosmog"]


def lighthgnn(lam: float = 0.0, *, variant: Variant = "paper") -> Term:
    r""":math:`\lambda\,\mathrm{CE} + (1 - \lambda)\,\mathrm{KL}_{soft}`.

    Args:
        lam: weight of the labels; with 0, as published, only the teacher uses labels.
        variant: ``"official"`` computes the divergence as the released code does.

    Source: LightHGNN (Feng et al., ICLR 2024), the loss of LightHGNN.

    >>> lighthgnn()
    Sum(terms=((1.0, SoftLabels(temperature=1.0, variant='paper')),))
    """
    _check_lam(lam)
    return lam * Labels() + (1 - lam) * SoftLabels(variant=variant)


def lighthgnn_plus(lam: float = 0.0, *, noise: float = 1.0, variant: Variant = "paper") -> Term:
    r""":math:`\lambda\,\mathrm{CE} + (1 - \lambda)(\mathrm{KL}_{soft} + \mathrm{KL}_{ho})`.

    Args:
        lam: weight of the labels.
        noise: see `HighOrder`.
        variant: ``"official"`` computes both divergences as the released code does.

    Source: LightHGNN+ (Feng et al., ICLR 2024), the loss of LightHGNN+.

    >>> [type(term).__name__ for _, term in lighthgnn_plus().terms]
    ['SoftLabels', 'HighOrder']
    """
    _check_lam(lam)
    return lam * Labels() + (1 - lam) * (SoftLabels(variant=variant) + HighOrder(noise, variant))


def glnn(lam: float = 0.0, *, temperature: float = 1.0) -> Term:
    r""":math:`\lambda\,\mathrm{CE} + (1 - \lambda)\,T^2\,\mathrm{KL}_{soft}`, for graphs.

    Source: Graph-less Neural Networks (Zhang et al., ICLR 2022).

    >>> [(factor, type(term).__name__) for factor, term in glnn(0.25).terms]
    [(0.25, 'Labels'), (0.75, 'SoftLabels')]
    """
    _check_lam(lam)
    return lam * Labels() + (1 - lam) * SoftLabels(temperature)


def nosmog(lam: float = 0.0, *, epsilon: float = 0.01, noisy: float = 0.5, similarity: float = 0.1) -> Term:
    r""":math:`\lambda\,\mathrm{CE} + (1 - \lambda)(\mathrm{KL}_{soft} + \mu\,\mathrm{KL}_{noisy} + \eta\,\Delta)`.

    The student of NOSMOG also reads where a node is in the structure: `compare` and `distill` take ``positions``.

    Args:
        lam: weight of the labels.
        epsilon: see `NoisyFeatures`.
        noisy: mu, the weight of the term with noisy features.
        similarity: eta, the weight of `MatchSimilarity`, which needs a network as teacher; 0 leaves it out.

    Source: NOSMOG (Tian et al., ICLR 2023).

    >>> [(factor, type(term).__name__) for factor, term in nosmog().terms]
    [(1.0, 'SoftLabels'), (0.5, 'NoisyFeatures'), (0.1, 'MatchSimilarity')]
    """
    _check_lam(lam)
    soft = SoftLabels() + noisy * NoisyFeatures(epsilon)
    return lam * Labels() + (1 - lam) * (soft + similarity * MatchSimilarity())


def krd(lam: float = 0.0, *, noise: float = 1.0) -> Term:
    r""":math:`\lambda\,\mathrm{CE} + (1 - \lambda)\,\mathrm{KL}_{reliable}`.

    Source: reliable knowledge distillation (Wu et al., ICML 2023), in the form described at `ReliableLabels`.

    >>> krd()
    Sum(terms=((1.0, ReliableLabels(noise=1.0)),))
    """
    _check_lam(lam)
    return lam * Labels() + (1 - lam) * ReliableLabels(noise)


OBJECTIVES: dict[str, Callable[..., Term]] = {
    "lighthgnn": lighthgnn,
    "lighthgnn+": lighthgnn_plus,
    "glnn": glnn,
    "nosmog": nosmog,
    "krd": krd,
}


def _check_lam(lam: float) -> None:
    if not 0 <= lam <= 1:
        raise ArgumentError("lam", "a number in 0 .. 1", lam)
