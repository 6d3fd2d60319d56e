"""The README's Python blocks run and print what they say; the table of the demo names the columns of today."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from hgraph.distill import report

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_print_what_they_say() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "README.md", "README.md", 0)
    assert len(test.examples) >= 10
    log: list[str] = []
    failed = doctest.DocTestRunner(verbose=False).run(test, out=log.append).failed
    assert not failed, "".join(log)


def test_the_printed_table_has_the_columns_of_the_report() -> None:
    header = next(line for line in README.splitlines() if line.startswith("model  "))
    assert re.split(r"\s{2,}", header) == ["model", "test accuracy", *report._HEADER]


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).exists()
