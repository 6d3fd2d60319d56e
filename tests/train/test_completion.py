"""`complete_triples` against a loop over all nodes, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models import DistMult
from hgraph.train import complete_triples, seeded

N, R = 7, 2


@pytest.fixture
def model():
    with seeded(0):
        return DistMult(N, R, dim=4)


KNOWN = torch.tensor([[0, 1, 2], [0, 1, 3], [4, 0, 0], [5, 1, 2]])
QUERIES = torch.tensor([[0, 1, -1], [-1, 1, 2], [6, 0, -1]])


@pytest.mark.parametrize("chunk", [1, 2, 256])
@pytest.mark.parametrize("top_k", [1, 4, 20])
def test_as_a_loop_over_all_nodes(model, chunk, top_k):
    found = complete_triples(model, QUERIES, KNOWN, top_k=top_k, chunk=chunk)
    known = {tuple(triple) for triple in KNOWN.tolist()}
    for row, (head, relation, tail) in enumerate(QUERIES.tolist()):
        scored = []
        for node in range(N):
            triple = (head, relation, node) if tail == -1 else (node, relation, tail)
            if triple not in known:
                head_id, relation_id, tail_id = (torch.tensor([i]) for i in triple)
                scored.append((model.score_tails(head_id, relation_id)[0, tail_id].item(), node))
        best = [node for _, node in sorted(scored, reverse=True)][:top_k]
        assert found.nodes[row, : len(best)].tolist() == best
        assert (found.nodes[row, len(best) :] == -1).all()
        assert (found.scores[row, len(best) :] == float("-inf")).all()


@pytest.mark.parametrize(
    ("queries", "known", "options", "error", "message"),
    [
        ([[0, 1, -1]], [[0, 0, -1]], {}, ArgumentError, "known: expected ids"),
        ([[0, 1, -1]], [[0, 2, 3]], {}, ArgumentError, "known: expected ids"),
        ([[0, 1, -1]], [[0, 0, 9]], {}, ArgumentError, "known: expected ids"),
        ([[9, 1, -1]], [[0, 0, 1]], {}, ArgumentError, "queries: expected ids"),
        ([[0, 2, -1]], [[0, 0, 1]], {}, ArgumentError, "queries: expected ids"),
        ([[0, 1, 2]], [[0, 0, 1]], {}, ArgumentError, "either the head or the tail"),
        ([[-1, 1, -1]], [[0, 0, 1]], {}, ArgumentError, "either the head or the tail"),
        ([[0.0, 1.0, -1.0]], [[0, 0, 1]], {}, ArgumentTypeError, "queries: expected whole numbers"),
        ([[0, 1, -1]], [[0.0, 0.0, 1.0]], {}, ArgumentTypeError, "known: expected whole numbers"),
        ([[0, 1, -1]], [[0, 0, 1]], {"chunk": 0}, ArgumentError, "chunk"),
        ([[0, 1, -1]], [[0, 0, 1]], {"top_k": 0}, ArgumentError, "top_k"),
    ],
)
def test_errors(model, queries, known, options, error, message):
    with pytest.raises(error, match=message):
        complete_triples(model, torch.tensor(queries), torch.tensor(known), **options)


def test_scores_that_are_no_numbers_are_refused(model):
    with torch.no_grad():
        model.entity.fill_(float("nan"))
    with pytest.raises(ArgumentError, match="scores that are numbers"):
        complete_triples(model, QUERIES, KNOWN)
