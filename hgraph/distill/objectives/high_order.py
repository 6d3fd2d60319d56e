"""LightHGNN+: soft labels of hyperedges, sampled by reliability, and the topology score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hgraph.distill.objectives.lesson import Lesson, Loss, Term
from hgraph.distill.objectives.soft_labels import Variant, check_variant, divergence
from hgraph.errors import ArgumentError
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Graph, Hypergraph

__all__ = ["HighOrder", "entropy", "hyperedge_reliability", "reliability", "topology_score"]

_CHUNK_NUMBERS = 2**20  # numbers in memory at once for distances of members to their centers


def entropy(logits: Tensor) -> Tensor:
    r"""Entropy [N] of the class probabilities of each row, :math:`-\sum_c t_c \ln t_c`, in nats.

    >>> entropy(torch.tensor([[0.0, 0.0], [999.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    t = logits.softmax(-1)
    return torch.special.entr(t).sum(-1)


def reliability(before: Tensor, after: Tensor) -> Tensor:
    r"""Reliability [M] of predictions: how little their entropies change under noise.

    .. math:: \rho_i = 1 - \frac{\delta_i}{\max_j \delta_j}, \qquad \delta_i = |E'_i - E_i|

    Args:
        before: E [M] entropies.
        after: E' [M] entropies of the noisy features.

    Returns:
        [M] in 0 .. 1; 0 for the largest change, all 1 if nothing changes.

    Source: LightHGNN+ (Feng et al., ICLR 2024), the reliability of hyperedges.

    >>> reliability(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 3.0])).tolist()
    [0.5, 0.0]
    """
    delta = (after - before).abs()
    largest = delta.max() if len(delta) else delta.sum()
    return torch.where(largest > 0, 1 - delta / largest.clamp(min=torch.finfo(delta.dtype).tiny), 1.0)


def hyperedge_reliability(lesson: Lesson, noise: float = 1.0) -> Tensor:
    r"""Reliability [M] of hyperedges: `reliability` of their mean entropy with noisy features of the teacher.

    .. math:: \tilde X = X \odot (1 + \varepsilon) \cdot \text{noise}, \quad \varepsilon \sim \mathcal N(0, 1)

    One sample of multiplicative noise, as in the released code, which does not change features that are 0. The text of
    the paper takes an expectation over additive noise, which at unit scale dominates features that sum to one.

    Source: LightHGNN+ (Feng et al., ICLR 2024), the reliability of hyperedges.
    """
    members, x = _members(lesson), lesson.teacher_x
    noisy = x * (1 + torch.randn_like(x)) * noise
    both = torch.stack([entropy(lesson.logits), entropy(lesson.ask(noisy))], dim=1)
    return reliability(*propagate(members, both, reduce="mean").unbind(1))


@dataclass(frozen=True)
class HighOrder(Term):
    r"""Divergence between teacher and student mean probabilities per hyperedge, sampled by reliability.

    .. math:: \frac{1}{|K|} \sum_{e \in K} \mathrm{KL}(t_e \,\|\, s_e), \quad
              t_e = \frac{1}{d_e} \sum_{v \in e} t_v, \; s_e = \frac{1}{d_e} \sum_{v \in e} s_v, \;
              e \in K \text{ with probability } \rho_e

    Args:
        noise: scale of the noise in `hyperedge_reliability`; 0 uses every hyperedge.
        variant: ``"official"`` computes the divergence as the released code does, see `divergence`.

    Empty hyperedges are left out; a step without sampled hyperedges adds 0.

    Source: LightHGNN+ (Feng et al., ICLR 2024), the high-order soft-label constraint.

    >>> from hgraph.train import TrainingView
    >>> hg = Hypergraph.from_lists([[0, 1]], num_nodes=2)
    >>> part = TrainingView(hg, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> loss = HighOrder(noise=0).bind(Lesson(part, torch.nn.Identity(), None, torch.eye(2)))
    >>> loss(torch.eye(2).flip(0)).item()  # swapping the nodes does not change the mean
    0.0
    """

    noise: float = 1.0
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_variant(self.variant)
        if not 0 <= self.noise < float("inf"):
            raise ArgumentError("noise", "a finite number, 0 or more", self.noise)

    def bind(self, lesson: Lesson) -> Loss:
        """The divergence of hyperedges; evaluates the teacher once more, on noisy features."""
        members = _members(lesson)
        rho = torch.ones(members.num_targets, device=members.device)
        if self.noise:
            rho = hyperedge_reliability(lesson, self.noise)
        rho = rho * (members.target_degree() > 0)
        target = propagate(members, lesson.logits.double().softmax(-1), reduce="mean")

        def loss(logits: Tensor) -> Tensor:
            sampled = torch.bernoulli(rho.float()).double()
            # float64: the logarithm of a mean of probabilities needs the small ones
            mean = propagate(members, logits.double().softmax(-1), reduce="mean")
            log_s = mean.clamp(min=torch.finfo(torch.float64).tiny).log()
            divergence_sum = (sampled * divergence(log_s, target, self.variant)).sum()
            return (divergence_sum / sampled.sum().clamp(min=1)).to(logits.dtype)

        return loss


def topology_score(z: Tensor, hypergraph: Hypergraph) -> float:
    r"""Mean distance of the members of a hyperedge from their center; higher means less smoothing over the structure.

    .. math:: \frac{1}{M} \sum_e \frac{1}{d_e} \sum_{v \in e} \lVert z_v - z_e \rVert_2, \qquad
              z_e = \frac{1}{d_e} \sum_{v \in e} z_v

    Args:
        z: [N, D] embeddings, the hidden layer in eval mode. Scores of different widths D are not comparable.
        hypergraph: the hypergraph; empty hyperedges are ignored.

    Raises:
        ArgumentError: z does not have one row per node, or every hyperedge is empty.

    Source: LightHGNN (Feng et al., ICLR 2024), the topology-aware metric.

    >>> topology_score(torch.tensor([[0.0], [2.0], [5.0]]), Hypergraph.from_lists([[0, 1], [2]], num_nodes=3))
    0.5
    """
    members = hypergraph.v2e.with_weight(None)
    size = members.target_degree()
    if not bool((size > 0).any()):
        raise ArgumentError("hypergraph", "at least one nonempty hyperedge", hypergraph)
    z = z.detach().double()
    center, distance = propagate(members, z, reduce="mean"), z.new_empty(members.num_edges)
    for part in torch.arange(members.num_edges, device=z.device).split(max(1, _CHUNK_NUMBERS // max(z.shape[1], 1))):
        distance[part] = (z[members.indices[part].long()] - center[members.target[part].long()]).norm(dim=1)
    sums = propagate(members.with_weight(distance), z.new_ones(len(z), 1))[:, 0]
    return float((sums / size.clamp(min=1)).sum() / (size > 0).sum())


def _members(lesson: Lesson) -> Adjacency:
    """The hyperedges as targets of their members, with equal weights."""
    structure = lesson.part.structure
    if isinstance(structure, Graph):
        hint = "Use data with a Hypergraph, such as hgraph.builders.neighborhood_hypergraph(graph)"
        raise ArgumentError("data", "a hypergraph, since the objective has soft labels of hyperedges", "a Graph", hint)
    return structure.v2e.with_weight(None)
