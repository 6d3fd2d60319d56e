"""What is timed beside KGAT computes the same, and epochs are made of their steps."""

from __future__ import annotations

import sys

import pytest

from hgraph.benchmarks.studies import kgat


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("form", kgat.FORMS)
def test_every_form_is_measured_and_checked(form, monkeypatch):
    if form == "PyG":
        pytest.importorskip("torch_geometric")
    found = kgat.measure("400", form, 1, form == "hgraph", "cpu")  # raises where the forms disagree
    assert set(kgat.STEPS) <= set(found["found"])
    assert (kgat.LIMIT in found["found"]) == (form == "hgraph")
    assert found["steps"] == {"ranking": 1, "triples": 1}
    if form == "plain":
        monkeypatch.setattr(kgat.Plain, "gather", lambda self, x, weight: 0 * x)
        with pytest.raises(AssertionError):
            kgat.measure("400", form, 1, False, "cpu")


def test_epochs_are_steps_times_a_step():
    found = {"ranking step": (0.5, 30.0), "step on triples": (0.25, 20.0), "attention refresh": (2.0, 90.0)}
    assert kgat.epochs(found, {"ranking": 10, "triples": 4}) == {
        "ranking epoch, 10 steps": (5.0, 30.0),
        "epoch on triples, 4 steps": (1.0, 20.0),
        "whole epoch": (8.0, 90.0),
    }
