"""`Report`: parts in order, and nothing from a file can change the page."""

import html
import re

import pytest

from hgraph.report import Report, aligned, escaped, format_value


def test_parts_stand_in_order_with_a_blank_line_between():
    report = Report("a: b").text("one").bullets([]).bullets(["x", "y"]).section("C").picture("d", "e.png")
    assert str(report) == "# a: b\n\none\n\n- x\n- y\n\n## C\n\n![d](e.png)\n"


NAMES = ["a|b", "a\nb", "<script>x</script>", "a\r\n| b |", "\\<script>", "\\|", "[x](javascript:y)", "![x](http://y)",
         "__init__", "_x_", "~~x~~", "1. a", "---", "+ a", "`</code>`", "&lt;", "**a**", "<!--",
         "- a", "# a"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_add_no_columns_lines_or_html(name):
    """Parsed as HTML, each part shows the name as text, and no sign of Markdown or HTML is left."""
    page = Report(name).table([["x", "y"], [name, "1"]]).settings({"dataset": name}).figures({name: 1.0})
    report = str(page.bullets([name]).picture(name, "a.png"))
    lines = report.splitlines()
    plain = Report("a").table([["x", "y"], ["a", "1"]]).settings({"d": "a"}).figures({"f": 1.0})
    assert len(lines) == len(str(plain.bullets(["a"]).picture("a", "a.png")).splitlines())
    assert all(line.count("|") == 3 for line in lines if line.startswith("|"))
    shown = " ".join(name.split())
    assert html.unescape(escaped(name)) == shown
    for line in (lines[0], lines[4], lines[-3], lines[-1]):
        assert escaped(name) in line
    assert not set("<>|[]*~\\") & set(escaped(name))
    assert not re.search(r"(^|\W)_|_(\W|$)|^([-+#=]+|\d+[.)])(\s|$)", escaped(name))


@pytest.mark.parametrize("command", ["hgraph train a", "hgraph train '```\n<b>'", "hgraph train '`````'"])
def test_a_command_does_not_leave_its_box(command):
    box = str(Report("a").command(command)).split("\n\n", 2)[2].rstrip("\n").split("\n")
    assert box[0] == box[-1]
    assert set(box[0]) == {"`"}
    assert box[0] not in "\n".join(box[1:-1])


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
