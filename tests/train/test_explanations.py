"""Negligible paths of explanations are marked in the text and thin in the plot."""

from __future__ import annotations

import pytest
import torch

from hgraph.structure import KnowledgeGraph
from hgraph.train import explain


def graph(*weights):
    """user 0 -> item node 2 by entity 1 and directly; and an unrelated edge of weight 1."""
    kg = KnowledgeGraph.from_triples(head=[0, 1, 0, 3], relation=[0, 1, 0, 1], tail=[1, 2, 2, 1], num_nodes=4,
                                     num_relations=2, node_names=["ann", "genre", "dune", "ubik"])  # fmt: skip
    order = {(0, 1): weights[0], (1, 2): weights[1], (0, 2): weights[2], (3, 1): 1.0}
    values = torch.tensor([order[h, t] for h, _, t in kg.triples.tolist()])
    return kg.with_weight(values) if hasattr(kg, "with_weight") else KnowledgeGraph.complete(
        kg.adj.with_weight(values), kg.relation, 2, node_names=kg.node_names
    )  # fmt: skip


@pytest.mark.checked(
    "explanations", "An explanation marks paths with negligible attention, and says so if all paths are negligible."
)
@pytest.mark.parametrize(("weights", "marks", "all_of_them"), [((0.5, 0.5, 1e-8), [False, True], False),
                                                               ((1e-5, 1e-5, 1e-8), [True, True], True),
                                                               ((0.5, 0.5, 0.5), [False, False], False)])  # fmt: skip
def test_negligible_paths_are_marked(weights, marks, all_of_them):
    found = explain(graph(*weights), 0, 1, num_users=1)
    assert [found.negligible(path) for path in found.paths] == marks
    lines = found.text().splitlines()
    assert ["(negligible)" in line for line in lines[: len(marks)]] == marks
    assert ("All paths are negligible" in found.text()) == all_of_them


@pytest.mark.checked(
    "explanations", "The width of a line is proportional to its weight, relative to the largest weight in the graph."
)
def test_lines_of_negligible_paths_are_thin():
    pytest.importorskip("matplotlib")
    widths = {}
    for name, weights in (("small", (1e-8, 1e-8, 1e-8)), ("mixed", (0.9, 0.9, 0.1))):
        axes = explain(graph(*weights), 0, 1, num_users=1).draw()
        widths[name] = sorted(p.get_linewidth() for p in axes.patches if hasattr(p, "get_connectionstyle"))
    assert max(widths["small"]) == pytest.approx(0.5, abs=0.01)
    assert widths["mixed"] == pytest.approx([0.5 + 3 * 0.1, 0.5 + 3 * 0.9, 0.5 + 3 * 0.9], abs=0.01)
