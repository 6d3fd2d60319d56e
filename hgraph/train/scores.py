"""The structure of a trained recommender, and its scores of all items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.data import Interactions
from hgraph.models.recommend.base import Recommender
from hgraph.structure import KnowledgeGraph
from hgraph.train.mode import eval_mode

__all__ = ["scorer", "structure_of"]


def structure_of(model: Recommender, data: Interactions, *, trained: bool = True) -> KnowledgeGraph:
    """The structure over which the messages of a trained model flow (``trained=False``: of an untrained model).

    Use it when `recommend`, `explain` or `scorer` is called often, so that it is computed only once.

    >>> from hgraph.models import BPRMF
    >>> kg = KnowledgeGraph.from_names([("Dune", "is like", "Ubik")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=2)
    >>> structure_of(BPRMF(1, 2), data)
    KnowledgeGraph(3 nodes, 4 triples, 4 relations, cpu)
    """
    structure = model.structure(data).to(next(model.parameters()).device)
    first = model.start(structure)
    return model.refresh(first) if trained else first


def scorer(model: Recommender, structure: KnowledgeGraph) -> Any:
    """A function from users [B] to scores of all items [B, I], in eval mode; embeddings are computed once.

    Use it when scores of many users are needed, so that embeddings are computed only once.

    >>> from hgraph.models import BPRMF
    >>> kg = KnowledgeGraph.from_names([("Dune", "is like", "Ubik")])
    >>> score = scorer(BPRMF(3, 2), kg)
    >>> score(torch.tensor([0, 2])).shape
    torch.Size([2, 2])
    """
    device = next(model.parameters()).device
    with torch.no_grad(), eval_mode(model):
        z = model(structure)

    @torch.no_grad()
    def score(users: Tensor) -> Tensor:
        with eval_mode(model):  # some models have dropout in their scores
            return model.score(z, users.to(device))

    return score
