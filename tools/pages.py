"""Regenerate every generated page: PAPERS.md, CHECKS.md, benchmarks/README.md, and the tables of README.md.

python tools/pages.py            # writes them; `make pages` does the same
python tools/pages.py --check    # lists the pages that are out of date; exit code 1 if there are any
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path

from hgraph.benchmarks import page
from hgraph.cli.choices import CLASSIFIERS, RECOMMENDERS, TRIPLES
from hgraph.models.registry import DATA, MODELS
from hgraph.nn.registry import LAYERS
from hgraph.papers import papers, to_markdown

ROOT = Path(__file__).resolve().parents[1]


def checks_page() -> str:
    """CHECKS.md, from the marks of the tests."""
    spec = importlib.util.spec_from_file_location("tools_checks", ROOT / "tools" / "checks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.page())


def layers_table() -> str:
    """The table of layers, from `hgraph.nn.registry`."""
    rows = [
        "| layer | messages flow over | message | modes | also compared with | paper |",
        "|---|---|---|---|---|---|",
    ]
    for entry in LAYERS:
        modes = {"causal": entry.causal, "cross": entry.cross, "decodes": entry.state, "edges": entry.edge_features}
        cells = (
            f"`nn.{entry.name}`",
            entry.structure,
            entry.message,
            ", ".join(name for name, can in modes.items() if can),
            ", ".join(entry.peers),
            _paper(entry.paper),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def models_table() -> str:
    """The table of models, from `hgraph.models.registry`."""
    rows = ["| model | `--model` | task | reads | message | layers | paper |", "|---|---|---|---|---|---|---|"]
    for entry in MODELS:
        cells = (
            f"`models.{entry.class_name}`",
            f"`{entry.name}`" if entry.name in (*CLASSIFIERS, *RECOMMENDERS, *TRIPLES) else "",
            entry.task,
            DATA[entry.data],
            entry.message,
            ", ".join(f"`{name}`" for name in entry.layers),
            _paper(entry.paper),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _paper(number: str | None) -> str:
    found = [paper for paper in papers() if paper["id"] == number]
    return f"[{found[0]['name']}](https://arxiv.org/abs/{found[0]['arxiv']})" if found else ""


def filled(text: str, name: str, table: str) -> str:
    """The text with the part between the marks of that name replaced by the table."""
    marks = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)"
    new, count = re.subn(marks, lambda mark: f"{mark[1]}\n{table}\n\n{mark[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(
            f"README.md: expected one pair of marks <!-- {name}: ... --> and <!-- /{name} -->, got {count}"
        )
    return new


def pages() -> dict[Path, str]:
    """Every generated page, by its path."""
    readme = page.in_readme((ROOT / "README.md").read_text(encoding="utf-8"))
    readme = filled(filled(readme, "layers", layers_table()), "models", models_table())
    return {
        ROOT / "README.md": readme,
        ROOT / "PAPERS.md": to_markdown(),
        ROOT / "CHECKS.md": checks_page(),
        ROOT / "benchmarks" / "README.md": page.page(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a page was out of date and --check was given."""
    parser = argparse.ArgumentParser(description="Regenerate PAPERS.md, CHECKS.md, benchmarks/README.md, README.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; list the pages that are out of date")
    given = parser.parse_args(arguments)
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if not given.check:
            path.write_text(text, encoding="utf-8")
    return int(given.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
