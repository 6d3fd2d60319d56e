"""papers.toml, PAPERS.md and the code say the same."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from hgraph.papers import papers, to_markdown

ROOT = Path(__file__).resolve().parent.parent


def test_papers_md_is_made_from_papers_toml() -> None:
    assert (ROOT / "PAPERS.md").read_text(encoding="utf-8") == to_markdown(), "python -m hgraph.papers > PAPERS.md"


def test_every_paper_is_listed_once() -> None:
    assert [p["id"] for p in papers()] == [f"{i:02}" for i in range(1, 41)]
    assert all(p["status"] in ("planned", "begun", "done") for p in papers())


@pytest.mark.parametrize("paper", [p for p in papers() if p["status"] != "planned"], ids=lambda p: p["id"])
def test_what_is_named_exists(paper: dict[str, str]) -> None:
    for dotted in paper["module"].split(", "):
        module, name = dotted.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), name)
    assert all((ROOT / folder).exists() for folder in paper["test"].split(", "))
