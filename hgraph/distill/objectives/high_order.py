"""LightHGNN+: soft labels of whole hyperedges, the reliable ones more often; and what it is measured by."""

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

_CHUNK_NUMBERS = 2**20  # numbers held at once for member-to-centre distances


def entropy(logits: Tensor) -> Tensor:
    r"""[N]: the entropy of each row's class probabilities, :math:`-\sum_c t_c \ln t_c`, in nats.

    >>> entropy(torch.tensor([[0.0, 0.0], [999.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    t = logits.softmax(-1)
    return torch.special.entr(t).sum(-1)


def reliability(before: Tensor, after: Tensor) -> Tensor:
    r"""How little entropies moved under noise.

    .. math:: \rho_i = 1 - \frac{\delta_i}{\max_j \delta_j}, \qquad \delta_i = |E'_i - E_i|

    Args:
        before: E [M] entropies.
        after: E' [M] entropies of the noisy features.

    Returns:
        [M] in 0 .. 1; the one that moved most has 0. All 1 where nothing moved.

    Source: card 04, eq. 5 and check 3.

    >>> reliability(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 3.0])).tolist()
    [0.5, 0.0]
    """
    delta = (after - before).abs()
    largest = delta.max() if len(delta) else delta.sum()
    return torch.where(largest > 0, 1 - delta / largest.clamp(min=torch.finfo(delta.dtype).tiny), 1.0)


def hyperedge_reliability(lesson: Lesson, noise: float = 1.0) -> Tensor:
    r"""[M]: `reliability` of every hyperedge's mean entropy when the teacher sees noisy features.

    .. math:: \tilde X = X \odot (1 + \varepsilon) \cdot \text{noise}, \quad \varepsilon \sim \mathcal N(0, 1)

    One draw of multiplicative noise, as in the released code; it leaves absent words absent. The paper's text takes
    an expectation over additive noise, which at unit scale drowns features that sum to one.

    Source: card 04, eq. 5.
    """
    members, x = _members(lesson), lesson.part.x
    noisy = x * (1 + torch.randn_like(x)) * noise
    both = torch.stack([entropy(lesson.logits), entropy(lesson.ask(noisy))], dim=1)
    return reliability(*propagate(members, both, reduce="mean").unbind(1))


@dataclass(frozen=True)
class HighOrder(Term):
    r"""Divergence between the mean probabilities of hyperedges; each hyperedge counts in a step with its reliability.

    .. math:: \frac{1}{|K|} \sum_{e \in K} \mathrm{KL}(t_e \,\|\, s_e), \quad
              t_e = \frac{1}{d_e} \sum_{v \in e} t_v, \; s_e = \frac{1}{d_e} \sum_{v \in e} s_v, \;
              e \in K \text{ with probability } \rho_e

    Args:
        noise: scale of the noise that `hyperedge_reliability` tries the teacher with; 0 keeps every hyperedge.
        variant: ``"official"`` computes the divergence as the released code does, see `divergence`.

    Empty hyperedges are left out; a step that keeps none adds 0.

    Source: LightHGNN+ (ICLR 2024), card 04, eq. 5 and 6.

    >>> from hgraph.train import TrainingView
    >>> hg = Hypergraph.from_lists([[0, 1]], num_nodes=2)
    >>> part = TrainingView(hg, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> loss = HighOrder(noise=0).bind(Lesson(part, torch.nn.Identity(), None, torch.eye(2)))
    >>> loss(torch.eye(2).flip(0)).item()  # the nodes changed places, the mean did not
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
        """The divergence of hyperedges; the teacher is asked once more, with noise."""
        members = _members(lesson)
        rho = torch.ones(members.num_targets, device=members.device)
        if self.noise:
            rho = hyperedge_reliability(lesson, self.noise)
        rho = rho * (members.target_degree() > 0)
        target = propagate(members, lesson.logits.double().softmax(-1), reduce="mean")

        def loss(logits: Tensor) -> Tensor:
            kept = torch.bernoulli(rho.float()).double()
            # float64: the logarithm of a mean of probabilities needs the small ones
            mean = propagate(members, logits.double().softmax(-1), reduce="mean")
            log_s = mean.clamp(min=torch.finfo(torch.float64).tiny).log()
            total = (kept * divergence(log_s, target, self.variant)).sum()
            return (total / kept.sum().clamp(min=1)).to(logits.dtype)

        return loss


def topology_score(z: Tensor, hypergraph: Hypergraph) -> float:
    r"""How far members of a hyperedge lie from their mean: higher is less smoothed over the structure.

    .. math:: \frac{1}{M} \sum_e \frac{1}{d_e} \sum_{v \in e} \lVert z_v - z_e \rVert_2, \qquad
              z_e = \frac{1}{d_e} \sum_{v \in e} z_v

    Args:
        z: [N, D] embeddings, the hidden layer in eval mode. Of different widths D, scores do not compare.
        hypergraph: its hyperedges that are not empty count.

    Raises:
        ArgumentError: z has not one row a node, or every hyperedge is empty.

    Source: card 04, eq. 7.

    >>> topology_score(torch.tensor([[0.0], [2.0], [5.0]]), Hypergraph.from_lists([[0, 1], [2]], num_nodes=3))
    0.5
    """
    members = hypergraph.v2e.with_weight(None)
    size = members.target_degree()
    if not bool((size > 0).any()):
        raise ArgumentError("hypergraph", "at least one hyperedge with a member", hypergraph)
    z = z.detach().double()
    centre, distance = propagate(members, z, reduce="mean"), z.new_empty(members.num_edges)
    for part in torch.arange(members.num_edges, device=z.device).split(max(1, _CHUNK_NUMBERS // max(z.shape[1], 1))):
        distance[part] = (z[members.indices[part].long()] - centre[members.target[part].long()]).norm(dim=1)
    sums = propagate(members.with_weight(distance), z.new_ones(len(z), 1))[:, 0]
    return float((sums / size.clamp(min=1)).sum() / (size > 0).sum())


def _members(lesson: Lesson) -> Adjacency:
    """The hyperedges as targets of their members, each member counting the same."""
    structure = lesson.part.structure
    if isinstance(structure, Graph):
        hint = "Give the data a Hypergraph: of a graph, its edges and neighbourhoods make one"
        raise ArgumentError("data", "a hypergraph, whose hyperedges have soft labels too", "a Graph", hint)
    return structure.v2e.with_weight(None)
