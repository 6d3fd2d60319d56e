"""Build CHECKS.md from the marks of the tests: what the library checks, and bug reports of other libraries."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# kind of `pytest.mark.checked` -> its heading, in the order of the page
KINDS = {
    "cells": "Table cells",
    "columns": "Columns and their roles",
    "missing": "Missing cells",
    "numbers": "Numbers with signs and units",
    "categories": "Categories, classes and ids",
    "labels": "Labels and predictions",
    "other data": "New data for a trained network",
    "triples": "Triples and their files",
    "shops": "Users and items",
    "splits": "Splits and conversion",
    "builders": "Builders",
    "degrees": "Degrees",
    "explanations": "Explanations and reports",
    "speed": "Reported speed",
    "new rows": "Student accuracy on unseen rows",
}
_HEAD = """# What the library checks for you

Your own data rarely have the form that a library expects. Each row below is a problem that could otherwise lead to a
wrong result without an error. hgraph handles it correctly, raises an error that names it, or prints a note. The test in
the same row checks this.

`make pages` generates this page from the `checked` and `reported` marks of the tests. Do not edit it by hand.
"""
_REPORTS = """## Bugs reported in other libraries, tested on hgraph

Public bug reports of other libraries, summarized in our words, and what hgraph does in the same case.

| report | problem | hgraph | test |
|---|---|---|---|"""


def marks(name: str) -> list[tuple[tuple[str, ...], str]]:
    """Return (texts, test) for every mark of that name, sorted by file and line."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if f"mark.{name}(" not in text:
            continue
        place = path.relative_to(ROOT).as_posix()
        for node in ast.parse(text).body:
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == name:
                    texts = tuple(str(ast.literal_eval(argument)) for argument in call.args)
                    found.append((texts, f"[{path.stem}]({place})::{node.name}"))
    return found


def page() -> str:
    """Return the text of CHECKS.md."""
    checked: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for (kind, promise), test in marks("checked"):
        if kind not in KINDS:
            raise SystemExit(f"{test}: unknown kind {kind!r}; add it to KINDS in tools/checks.py")
        checked[kind].append(f"| {_cell(promise)} | {test} |")
    lines = [_HEAD]
    for kind, rows in checked.items():
        if rows:
            lines += [f"## {KINDS[kind]}", "", "| what is checked | test |", "|---|---|", *rows, ""]
    lines.append(_REPORTS)
    lines += [f"| {' | '.join(map(_cell, texts))} | {test} |" for texts, test in marks("reported")]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
