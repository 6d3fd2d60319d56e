"""The papers implemented in this library, with their status; ``python -m hgraph.papers`` prints PAPERS.md."""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import Any

__all__ = ["papers", "to_markdown"]

_HEAD = """# Papers

The papers that are or will be implemented, with their status. *planned*: not started. *begun*: see the note. *done*:
the tests cover the equations, limit cases and published properties. Results that were not reproduced are marked.
Generated from `hgraph/papers.toml` by `python -m hgraph.papers > PAPERS.md`.

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
    """PAPERS.md: one row per paper, then results where available."""
    keys = ("id", "name", "arxiv", "status", "structure", "message", "module", "test", "note")
    rows = ("| " + " | ".join(str(paper.get(key, "")) for key in keys) + " |" for paper in papers())
    found = (f"\n## {p['id']} {p['name']}\n\n{p['figures'].strip()}\n" for p in papers() if "figures" in p)
    return _HEAD + "\n".join(rows) + "\n" + "".join(found)


if __name__ == "__main__":
    sys.stdout.write(to_markdown())
