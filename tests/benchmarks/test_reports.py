"""The pages of results are those of their rows."""

from __future__ import annotations

import pytest

from hgraph.benchmarks import completion, recommendation, records


@pytest.mark.parametrize("suite", [recommendation, completion], ids=["recommendation", "completion"])
def test_the_page_is_made_from_the_rows(suite):
    name = suite.__name__.rpartition(".")[2]
    pytest.importorskip("scipy")  # Student's intervals
    page = (records.RESULTS / f"{name}.md").read_text(encoding="utf-8")
    command = f"python benchmarks/{name}.py --report benchmarks/results/{name}.csv > benchmarks/results/{name}.md"
    assert page == suite.report(records.RESULTS / f"{name}.csv") + "\n", command


def test_differences_are_of_common_seeds():
    def rows(**recall):
        return {int(seed[1:]): {"recall@20": str(value)} for seed, value in recall.items()}

    ours, theirs = rows(s0=0.3, s1=0.5, s2=0.9), rows(s0=0.2, s1=0.2)
    # differences 0.1 and 0.3: deviation 0.1414, Student's quantile of one degree of freedom 12.706
    assert recommendation.paired(ours, theirs) == "+0.2000 ± 1.2706"
    assert recommendation.paired(ours, rows(s2=1.0)) == "-0.1000 (one seed)"
    assert recommendation.paired(ours, rows(s7=1.0)) == ""


def test_the_setting_is_chosen_by_validation_not_by_test():
    def row(seed, l2, validation, recall):
        values = {"seed": str(seed), "lr": "0.1", "l2": l2, "validation": str(validation), "recall@20": str(recall)}
        return {"model": "A", **values}

    rows = [row(0, "0.1", 0.3, 0.9), row(0, "0.2", 0.4, 0.1), row(1, "0.2", 0.2, 0.2)]
    assert recommendation.winners(rows) == {"A": {0: rows[1], 1: rows[2]}}
