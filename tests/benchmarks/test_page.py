"""The pages of numbers are those of the files, and the targets name what the suites have."""

from __future__ import annotations

import pytest

from hgraph.benchmarks import attention, memory, models, ops, page, records
from hgraph.benchmarks.targets import TARGETS, Target

ROWS = [
    {"case": "two", "method": "hgraph", "min": "2.0"},
    {"case": "two", "method": "peer", "min": "5.0"},
    {"case": "two", "method": "off", "min": ""},
]


def test_the_pages_are_current():
    hint = "run python -m hgraph.benchmarks.page"
    assert (page.ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8") == page.page(), hint
    readme = (page.ROOT / "README.md").read_text(encoding="utf-8")
    assert page.BEGIN in readme
    assert page.in_readme(readme) == readme, hint


def test_the_table_of_the_readme_is_made_from_the_files(monkeypatch):
    text = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    monkeypatch.setattr(page, "short", lambda: "new")
    assert page.in_readme(text) == f"before\n{page.BEGIN}\n\nnew\n\n{page.END}\nafter\n"
    assert page.in_readme(page.in_readme(text)) == page.in_readme(text)


@pytest.mark.parametrize("suite", [ops, models, attention, memory], ids=lambda m: m.__name__.rsplit(".")[-1])
def test_targets_name_cases_that_there_are(suite):
    name = suite.__name__.rsplit(".")[-1]
    named = {target.case for target in TARGETS if target.suite == name}
    assert named
    assert named <= set(suite.suite("cpu"))


def test_every_group_of_targets_is_there():
    assert {target.number for target in TARGETS} == set(range(1, 13))


@pytest.mark.parametrize(
    ("other", "bound", "at_most", "found", "reached"),
    [
        ("peer", 2.0, False, 2.5, True),
        ("peer", 3.0, False, 2.5, False),
        ("peer", 0.5, True, 0.4, True),
        ("", 1.0, True, 2.0, False),
    ],
)
def test_a_target_is_reached_or_not(other, bound, at_most, found, reached):
    target = Target(1, "ops", "two", other, bound, at_most)
    assert target.found(ROWS) == found
    assert target.reached(found) is reached


def test_what_was_not_measured_is_not_reached():
    assert Target(1, "ops", "two", "off", 1.0, False).found(ROWS) is None
    assert Target(1, "ops", "three", "peer", 1.0, False).found(ROWS) is None


@pytest.mark.parametrize("file", sorted(records.RESULTS.glob("*.csv")), ids=lambda f: f.name)
def test_results_that_the_suites_wrote_have_their_schema(file):
    rows = records.read_csv(file)
    if "suite" in rows[0] and "method" in rows[0]:
        assert tuple(rows[0]) == records.FIELDS
        assert all(row["unit"] and row["torch"] and row["commit"] for row in rows)


def test_pictures_are_drawn_from_the_files(monkeypatch, tmp_path):
    (tmp_path / "growth.csv").write_bytes((records.RESULTS / "growth.csv").read_bytes())
    (tmp_path / "misses.csv").write_bytes((records.RESULTS / "misses.csv").read_bytes())
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    assert page.pictures() == [tmp_path / "growth.png"]
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
