"""`Report`: the Markdown page of a run, built from its parts in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Report", "aligned", "escaped", "format_value"]

# Characters that begin HTML, a column, a link or emphasis in Markdown -> HTML references, which are shown as text.
# Backticks are not replaced: what they enclose is text, too.
_SIGNS = str.maketrans({sign: f"&#{ord(sign)};" for sign in "&<>|[]*\\"})


class Report:
    """A Markdown page; each method appends a part and returns the report.

    Use it when a command writes ``report.md``. Names and values from files are escaped, so that they cannot add
    columns, lines or HTML.

    Args:
        title: the title of the page.

    >>> print(Report("cora: GCN").figures({"test_accuracy": 0.813}).command("hgraph train cora --model gcn"))
    # cora: GCN
    <BLANKLINE>
    | metric | value |
    |---|---:|
    | test accuracy | 0.8130 |
    <BLANKLINE>
    ## Reproduce
    <BLANKLINE>
    ```
    hgraph train cora --model gcn
    ```
    <BLANKLINE>
    """

    def __init__(self, title: str) -> None:
        self.parts = [f"# {escaped(title)}"]

    def text(self, *paragraphs: str) -> Report:
        """Paragraphs of Markdown; use `escaped` for what comes from a file."""
        self.parts += paragraphs
        return self

    def section(self, title: str) -> Report:
        """A second-level heading."""
        return self.text(f"## {title}")

    def bullets(self, items: Iterable[str], *, markdown: bool = False) -> Report:
        """A bullet list of strings, or of Markdown lines; an empty list adds nothing."""
        lines = [f"- {item if markdown else escaped(item)}" for item in items]
        return self.text("\n".join(lines)) if lines else self

    def picture(self, caption: str, file: str) -> Report:
        """A picture from the run folder."""
        return self.text(f"![{escaped(caption)}]({file})")

    def table(self, rows: Sequence[Sequence[str]], *, align: str = "right", links: bool = False) -> Report:
        """A table.

        Args:
            rows: the cells, header first.
            align: alignment of all columns but the first, ``"right"`` for numbers or ``"left"`` for text.
            links: whether the header has Markdown links, which are not escaped.
        """
        header, *rest = rows
        lines = [_line(header if links else map(escaped, header))]
        lines += ["|---" + ("|---:" if align == "right" else "|---") * (len(header) - 1) + "|"]
        return self.text("\n".join([*lines, *(_line(map(escaped, row)) for row in rest)]))

    def figures(self, values: Mapping[str, Any]) -> Report:
        """A table of metrics, formatted by `format_value`."""
        rows = [[name.replace("_", " "), format_value(value)] for name, value in values.items()]
        return self.table([["metric", "value"], *rows])

    def settings(self, config: Mapping[str, Any], *, omit: Sequence[str] = ("command",)) -> Report:
        """A section with the settings of a run, except those that are None."""
        given = {name: value for name, value in config.items() if name not in omit and value is not None}
        rows = [[name.replace("_", " "), _setting(value)] for name, value in given.items()]
        return self.section("Settings").table([["setting", "value"], *rows], align="left")

    def command(self, command: str, title: str = "## Reproduce") -> Report:
        """A command in a code block, below its title."""
        longest = max((len(run) for run in re.findall("`+", command)), default=0)
        fence = "`" * max(3, longest + 1)  # a shorter run of backticks does not end the block
        return self.text(title, f"{fence}\n{command}\n{fence}")

    def __str__(self) -> str:
        """The whole page."""
        return "\n\n".join(self.parts) + "\n"


def escaped(text: str) -> str:
    """Text on one line, escaped so that Markdown shows every character as it is.

    >>> escaped("<b>|[x](y)")
    '&#60;b&#62;&#124;&#91;x&#93;(y)'
    """
    return " ".join(str(text).translate(_SIGNS).split())


def format_value(value: Any) -> str:
    """Format a number: four decimals, or four significant digits if it is very small or large; None becomes ``-``.

    >>> [format_value(value) for value in (0.5, 0.001, 12345, 1.5e9, None, "adam")]
    ['0.5000', '0.001', '12,345', '1.5e+09', '-', 'adam']
    """
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 1e5 else f"{value:.4g}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Format rows, header first, as plain text: the first column left-aligned, the others right-aligned.

    >>> print(aligned([["model", "accuracy"], ["GCN", "0.81"]]))
    model  accuracy
    -----  --------
    GCN        0.81
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        return "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])

    return "\n".join([line(rows[0]), "  ".join("-" * w for w in widths), *(line(row) for row in rows[1:])])


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_setting(v)}" for name, v in value.items() if v is not None)
    return str(value)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
