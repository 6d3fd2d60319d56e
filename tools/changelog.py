"""Move the fragments of changelog.d/ into CHANGELOG.md at a release.

python tools/changelog.py 0.2.0    # under "## [0.2.0] - today"; uses an existing heading of that version
"""

from __future__ import annotations

import argparse
import datetime
import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("added", "changed", "fixed")  # sections of a version, in this order
NAME = re.compile(rf"[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md")


def fragments(folder: Path) -> dict[str, list[Path]]:
    """The fragments of a folder by kind, each kind in the order of names."""
    files = sorted(path for path in folder.iterdir() if path.name != "README.md")
    if wrong := [path.name for path in files if not NAME.fullmatch(path.name)]:
        kinds = ", ".join(f"NAME.{kind}.md" for kind in KINDS)
        raise SystemExit(f"changelog.d: expected names such as {kinds} (lower case, digits, hyphens), got {wrong}")
    return {kind: [path for path in files if path.name.endswith(f".{kind}.md")] for kind in KINDS}


def assembled(text: str, version: str, entries: Mapping[str, list[str]], date: str) -> str:
    """CHANGELOG.md with the entries under the version, whose heading gets the date."""
    heading = re.compile(rf"^## \[{re.escape(version)}\][^\n]*\n", re.MULTILINE)
    if not heading.search(text):
        first = re.search(r"^## \[", text, re.MULTILINE)
        at = first.start() if first else len(text)
        text = f"{text[:at]}## [{version}] - {date}\n\n{text[at:]}"
    begin = heading.search(text)
    assert begin is not None
    after = re.compile(r"^## \[", re.MULTILINE).search(text, begin.end())
    end = after.start() if after else len(text)
    preamble, *found = re.split(r"^### (\w+)\n+", text[begin.end() : end], flags=re.MULTILINE)
    sections: dict[str, str] = {}
    for title, content in zip(found[::2], found[1::2], strict=True):  # a title that occurs twice is one section
        sections[title] = "\n".join(filter(None, (sections.get(title), content.strip())))
    for kind in KINDS:
        if entries.get(kind):
            title = kind.capitalize()
            old = [sections[title]] if title in sections else []
            sections[title] = "\n".join([*entries[kind], *old])
    order = sorted(sections, key=lambda title: KINDS.index(title.lower()) if title.lower() in KINDS else len(KINDS))
    body = "\n\n".join(f"### {title}\n\n{sections[title]}" for title in order)
    body = "\n\n".join(filter(None, (preamble.strip(), body)))
    return f"{text[: begin.start()]}## [{version}] - {date}\n\n{body}\n" + (f"\n{text[end:]}" if after else "")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Move the fragments of changelog.d/ into CHANGELOG.md.")
    parser.add_argument("version", help="version, such as 0.2.0")
    version = parser.parse_args(arguments).version
    found = fragments(ROOT / "changelog.d")
    entries = {kind: [path.read_text(encoding="utf-8").strip() for path in paths] for kind, paths in found.items()}
    page = ROOT / "CHANGELOG.md"
    page.write_text(
        assembled(page.read_text(encoding="utf-8"), version, entries, datetime.date.today().isoformat()),
        encoding="utf-8",
    )
    for paths in found.values():
        for path in paths:
            path.unlink()


if __name__ == "__main__":
    main()
