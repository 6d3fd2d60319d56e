"""CHECKS.md: user-data checks of the library, and bug reports of other libraries, from marks in the tests."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# kind of `pytest.mark.checked` -> its heading, in the order of the page
KINDS = {
    "cells": "Cells of tables",
    "columns": "Columns and their roles",
    "missing": "Missing cells",
    "numbers": "Numbers as people write them",
    "categories": "Categories, classes and ids",
    "labels": "Labels and predictions",
    "other data": "Other data for a trained network",
    "triples": "Triples and their files",
    "shops": "Interactions of users and items",
    "splits": "Splits and conversion",
    "builders": "Builders",
    "degrees": "Degrees",
    "explanations": "Explanations and reports",
    "speed": "Reported speed",
    "new rows": "Students on new rows",
}
_HEAD = """# What the library checks for you

User data often differ from what a library expects. Each line below is a problem that could silently give a wrong
result: hgraph handles it, rejects it by name, or reports it. The listed tests verify this.

This page is generated from the marks `checked` and `reported` of the tests by `make pages`; do not edit it by hand.
"""
_REPORTS = """## Bug reports of other libraries, tested here

Public bug reports of other libraries, in our words, and the behavior of hgraph.

| report | problem | hgraph | test |
|---|---|---|---|"""


def marks(name: str) -> list[tuple[tuple[str, ...], str]]:
    """(texts, test) of every mark of that name, by file and line."""
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
    """The complete page."""
    checked: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for (kind, promise), test in marks("checked"):
        if kind not in KINDS:
            raise SystemExit(f"{test}: unknown kind {kind!r}; tools/checks.py lists them")
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
