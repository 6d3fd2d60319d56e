"""The pages of results are those of their rows."""

from __future__ import annotations

import pytest

from hgraph.benchmarks import records
from hgraph.benchmarks.studies import completion, published, recommendation


@pytest.mark.parametrize("suite", [recommendation, completion], ids=["recommendation", "completion"])
def test_the_page_is_made_from_the_rows(suite):
    name = suite.__name__.rpartition(".")[2]
    pytest.importorskip("scipy")  # Student's intervals
    page = (records.RESULTS / f"{name}.md").read_text(encoding="utf-8")
    command = (
        f"python benchmarks/studies/{name}.py --report benchmarks/results/{name}.csv > benchmarks/results/{name}.md"
    )
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


def test_what_was_published_stands_beside_the_nearest_of_ours_with_its_source():
    found = [published.Published("AUC", "auc", {"A": "0.8", "B": "0.7"}, "a paper", "Other negatives.")]
    told = published.lines(found, {"auc": {"A": "0.75"}})
    assert told[2:] == ["| A | 0.8 | 0.75 |", "| B | 0.7 | not run |", "", "Source: a paper. Other negatives.", ""]
    for page, sets, models in (
        (published.RECOMMENDATION, recommendation.SETS, recommendation.MODELS),
        (published.COMPLETION, ("wn18rr", "fb15k-237"), completion.MODELS),
    ):
        assert set(page) <= set(sets)
        for one in (one for each in page.values() for one in each):
            assert set(one.values) <= set(models)
            assert one.source
            assert one.protocol.endswith(".")


def test_a_trial_is_of_the_l2_term_or_of_both():
    both = recommendation.SETS["kgrec-book"].trials("FM")
    assert [(trial["lr"], trial["l2"]) for trial in both] == [(0.001, 0.001), (0.003, 0.01), (0.01, 0.1)]
    alone = recommendation.SETS["movielens-100k-kg"]
    assert {trial["lr"] for trial in alone.trials("FM")} == {alone.feature_lr}
    assert [trial["l2"] for trial in alone.trials("KGAT")] == list(alone.l2)
