"""`Report`: parts in order, and nothing from a file can change the page."""

import pytest

from hgraph.report import Report, aligned, format_value


def test_parts_stand_in_order_with_a_blank_line_between():
    report = Report("a: b").text("one").bullets([]).bullets(["x", "y"]).section("C").picture("d", "e.png")
    assert str(report) == "# a: b\n\none\n\n- x\n- y\n\n## C\n\n![d](e.png)\n"


@pytest.mark.parametrize("name", ["a|b", "a\nb", "<script>x</script>", "a\r\n| b |"])
def test_names_add_no_columns_lines_or_html(name):
    report = str(Report(name).table([["x", "y"], [name, "1"]]).settings({"dataset": name}).figures({name: 1.0}))
    lines = report.splitlines()
    plain = Report("a").table([["x", "y"], ["a", "1"]]).settings({"d": "a"}).figures({"f": 1.0})
    assert len(lines) == len(str(plain).splitlines())
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines if line.startswith("|"))
    assert "<script>" not in report.replace("\\<", "")


def test_settings_that_are_none_are_left_out():
    assert "hidden" not in str(Report("t").settings({"hidden": None, "lr": 0.1}))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.00999, "0.00999"), (-0.5, "-0.5000"), (1e5, "1e+05"), (True, "True"), (10**6, "1,000,000")],
)
def test_numbers(value, text):
    assert format_value(value) == text


def test_columns_are_aligned():
    assert aligned([["a", "bb"], ["ccc", "d"]]) == "a    bb\n---  --\nccc   d"
