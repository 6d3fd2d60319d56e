"""The papers that live in this library, and how far each is; ``python -m hgraph.papers`` prints PAPERS.md."""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import Any

__all__ = ["papers", "to_markdown"]

_HEAD = """# Papers

What is to live here, and how far each is. *planned*: nothing yet. *begun*: the note says what works. *done*: its test
file holds parity with a naive formula, the limit cases, and the checks of its card. A number that was not reached
stands here as not reached. Made from `hgraph/papers.toml` by `python -m hgraph.papers > PAPERS.md`.

| no. | paper | arXiv | status | structure | message | module | tests | note |
|---|---|---|---|---|---|---|---|---|
"""


def papers() -> list[dict[str, Any]]:
    """Every entry of papers.toml.

    >>> papers()[0]["name"]
    'KGAT'
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((files("hgraph") / "papers.toml").read_text(encoding="utf-8"))["paper"]


def to_markdown() -> str:
    """PAPERS.md: a row a paper, then the figures of those that have some."""
    keys = ("id", "name", "arxiv", "status", "structure", "message", "module", "test", "note")
    rows = ("| " + " | ".join(str(paper.get(key, "")) for key in keys) + " |" for paper in papers())
    found = (f"\n## {p['id']} {p['name']}\n\n{p['figures'].strip()}\n" for p in papers() if "figures" in p)
    return _HEAD + "\n".join(rows) + "\n" + "".join(found)


if __name__ == "__main__":
    sys.stdout.write(to_markdown())
