"""`complete_triples`: the most probable tails or heads of incomplete triples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models.triples.kge import TripleModel
from hgraph.train.mode import eval_mode

__all__ = ["Completions", "complete_triples"]


class Completions(NamedTuple):
    """The best nodes of each incomplete triple, best first.

    Args:
        nodes: [Q, k] ids of nodes; if fewer than k nodes are left, the rest of the row is -1.
        scores: [Q, k] their scores; -inf where ``nodes`` is -1.

    >>> Completions(torch.tensor([[3, 1]]), torch.tensor([[0.9, 0.5]])).nodes.tolist()
    [[3, 1]]
    """

    nodes: Tensor
    scores: Tensor


def complete_triples(
    model: TripleModel, queries: Tensor, known: Tensor, *, top_k: int = 10, chunk: int = 256
) -> Completions:
    """Find the top_k nodes that best complete each triple, except those that form a known triple.

    Use it to predict missing triples with a trained `TripleModel`.

    Args:
        model: any `TripleModel`.
        queries: [Q, 3] triples in which either the head or the tail is -1: this is the node to find.
        known: [K, 3] triples that are left out, such as `TripleSplit.known`; [0, 3] for none.
        top_k: number of nodes per query, k.
        chunk: queries scored at once.

    Raises:
        ArgumentError: a query with both ends, or with neither; ids out of range; scores that are NaN.
        ArgumentTypeError: ids that are not whole numbers.

    >>> from hgraph.models import DistMult
    >>> model = DistMult(4, 1, dim=2)
    >>> with torch.no_grad():
    ...     _ = model.relation.fill_(1.0), model.entity.copy_(torch.tensor([[1.0], [3.0], [2.0], [0.0]]).expand(4, 2))
    >>> complete_triples(model, torch.tensor([[0, 0, -1]]), torch.tensor([[0, 0, 1]]), top_k=2).nodes
    tensor([[2, 0]])
    """
    whole("top_k", top_k, 1, 10**9)
    whole("chunk", chunk, 1)
    _check(model, queries, known)
    device = model.entity.device
    queries, known, k = queries.to(device), known.to(device), min(top_k, model.num_nodes)
    nodes = torch.full((len(queries), k), -1, device=device)
    found = torch.full((len(queries), k), float("-inf"), device=device)
    with torch.no_grad(), eval_mode(model):
        for given, asked in ((0, 2), (2, 0)):
            codes, order = (known[:, given] * model.num_relations + known[:, 1]).sort()
            ends = known[order, asked]
            for rows in (queries[:, asked] == -1).nonzero().flatten().split(chunk):
                some = queries[rows]
                end, relation = some[:, given], some[:, 1]
                scores = model.score_tails(end, relation) if given == 0 else model.score_heads(relation, end)
                code = end * model.num_relations + relation
                first, last = torch.searchsorted(codes, code), torch.searchsorted(codes, code, right=True)
                count = last - first
                row = torch.arange(len(rows), device=device).repeat_interleave(count)
                at = first[row] + torch.arange(len(row), device=device) - (count.cumsum(0) - count)[row]
                scores = scores.float().index_put(
                    (row, ends[at]), scores.new_tensor(float("-inf"), dtype=torch.float32)
                )
                if bool(scores.isnan().any()):
                    raise ArgumentError("model", "scores that are numbers", "NaN")
                best = scores.topk(k)
                found[rows] = best.values
                nodes[rows] = torch.where(best.values > float("-inf"), best.indices, -1)
    return Completions(nodes, found)


def _check(model: TripleModel, queries: Tensor, known: Tensor) -> None:
    for name, triples in (("queries", queries), ("known", known)):
        if not isinstance(triples, Tensor):
            raise ArgumentTypeError(name, "a tensor of triples [., 3]", type(triples).__name__)
        if triples.is_floating_point() or triples.is_complex() or triples.dtype == torch.bool:
            raise ArgumentTypeError(name, "whole numbers", str(triples.dtype))
        if triples.dim() != 2 or triples.shape[1] != 3:
            raise ArgumentError(name, "shape [., 3]", f"shape {list(triples.shape)}")
    if bool(((queries[:, [0, 2]] == -1).sum(1) != 1).any()):
        raise ArgumentError("queries", "-1 in either the head or the tail of each triple", "both or neither")
    sizes = torch.tensor([model.num_nodes, model.num_relations, model.num_nodes])
    expected = f"ids of {model.num_nodes} nodes and {model.num_relations} relations"
    for name, triples, least in (("queries", queries.cpu(), torch.tensor([-1, 0, -1])), ("known", known.cpu(), 0)):
        if bool((triples >= sizes).any()) or bool((triples < least).any()):
            raise ArgumentError(name, expected, "ids out of range")
