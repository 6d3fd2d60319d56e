"""Generated pages are current, fragments of the changelog have valid names, and DESIGN.md describes this tree."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool(name):
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------- pages


def test_generated_pages_are_current(capsys):
    stale = tool("pages").main(["--check"])
    assert not stale, f"run `make pages`: {capsys.readouterr().out}"


def test_the_table_between_the_marks_is_replaced():
    pages = tool("pages")
    text = "before\n<!-- layers: x -->\nold\n<!-- /layers -->\nafter\n"
    filled = pages.filled(text, "layers", "| new |")
    assert filled == "before\n<!-- layers: x -->\n\n| new |\n\n<!-- /layers -->\nafter\n"
    assert pages.filled(filled, "layers", "| new |") == filled
    with pytest.raises(SystemExit, match="expected one pair of marks"):
        pages.filled("nothing", "layers", "| new |")


# ---------------------------------------------------------------------- changelog


def test_fragments_have_names_that_sort_them():
    found = tool("changelog").fragments(ROOT / "changelog.d")
    for paths in found.values():
        for path in paths:
            assert path.read_text(encoding="utf-8").startswith("- "), f"{path.name}: begin with a list item"


@pytest.mark.parametrize("name", ["new.md", "New.added.md", "new.removed.md", "a_b.fixed.md", "new.added.txt"])
def test_other_names_are_refused(tmp_path, name):
    (tmp_path / name).write_text("- x")
    with pytest.raises(SystemExit, match="changelog.d: expected names"):
        tool("changelog").fragments(tmp_path)


def test_fragments_go_under_their_version(tmp_path, monkeypatch):
    changelog = tool("changelog")
    monkeypatch.setattr(changelog, "ROOT", tmp_path)
    page, folder = tmp_path / "CHANGELOG.md", tmp_path / "changelog.d"
    folder.mkdir()
    page.write_text(
        "# Changelog\n\n## [0.1.0] - unreleased\n\n### Added\n\n- one\n\n## [0.0.1] - 2020-01-01\n\n- first\n"
    )
    for name, text in (
        ("b.added.md", "- two\n"),
        ("a.added.md", "- three\n"),
        ("c.fixed.md", "- four\n"),
        ("README.md", "x"),
    ):
        (folder / name).write_text(text)
    changelog.main(["0.1.0"])
    text = re.sub(r"\d{4}-\d\d-\d\d", "DAY", page.read_text())
    assert text == (
        "# Changelog\n\n## [0.1.0] - DAY\n\n### Added\n\n- three\n- two\n- one\n\n### Fixed\n\n- four\n\n"
        "## [0.0.1] - DAY\n\n- first\n"
    )
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    (folder / "d.changed.md").write_text("- five")
    changelog.main(["0.2.0"])
    text = re.sub(r"\d{4}-\d\d-\d\d", "DAY", page.read_text())
    assert text.startswith(
        "# Changelog\n\n## [0.2.0] - DAY\n\n### Changed\n\n- five\n\n## [0.1.0] - DAY\n\n### Added\n"
    )


def test_the_real_changelog_survives():
    changelog = tool("changelog")
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    after = changelog.assembled(text, "0.1.0", {"fixed": ["- new"]}, "2030-01-01")
    lost = set(text.splitlines()) - set(after.splitlines())
    assert all(line.startswith("## [0.1.0]") for line in lost)
    assert "- new\n" in after


# ---------------------------------------------------------------------- documents

PLACES = ("hgraph/", "kernels/", "datasets/", "benchmarks/", "tests/", "tools/", "changelog.d/", "tutorials/")


@pytest.mark.parametrize("name", ["DESIGN.md", "CONTRIBUTING.md", "changelog.d/README.md"])
def test_files_that_documents_name_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = {word for word in re.findall(r"`([\w./-]+)`", text) if word.startswith(PLACES)}
    named |= {word for word in re.findall(r"\]\(([\w./-]+)\)", text)}
    wanted = {word for word in named if not re.search("NAME|KIND|estimators", word)}
    assert not sorted(word for word in wanted if not (ROOT / word).exists())


def test_the_design_has_every_package():
    text = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    table = text[text.index("## Packages") : text.index("## Imports point one way")]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    found = [
        path.stem
        for path in (ROOT / "hgraph").iterdir()
        if (path.suffix == ".py" and not path.stem.startswith("__")) or (path / "__init__.py").exists()
    ]
    assert sorted(listed) == sorted(found)
