"""Nothing made from a data set whose terms forbid passing it on lies in the repository."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from hgraph.datasets.download import listed

ROOT = Path(__file__).parents[1]
TEXT = {
    ".py",
    ".cpp",
    ".h",
    ".md",
    ".toml",
    ".tsv",
    ".cfg",
    ".txt",
    ".in",
    ".typed",
    ".json",
    ".csv",
    ".cff",
    ".yml",
    ".yaml",
}
PLAIN = {"LICENSE", "Makefile", ".gitignore", ".ci/run"}
# Those of README.md, which are of a photograph (dany13, CC BY 2.0), of made-up books and of the digits (CC BY 4.0).
PICTURES = {f"docs/images/{name}.png" for name in ("accuracy_latency", "hyperedges", "reasons")}
MOST = 60_000  # bytes of a text: code, reports and tables of results are far smaller than data are
COMPILED = "benchmarks/results/ahead.csv"  # what a compiler says of a thousand kernels: made from no data


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.stdout.split("\0") if name and not (ROOT / name).is_symlink()]


def of_timings(path: Path) -> bool:
    """Whether it is a picture of README.md, or one of the benchmarks beside the numbers that it shows."""
    return path.relative_to(ROOT).as_posix() in PICTURES or (
        path.parent == ROOT / "benchmarks" / "results" and path.suffix == ".png" and path.with_suffix(".csv").exists()
    )


def test_no_figure_checkpoint_or_archive_is_committed(tracked):
    """Pictures, weights and packed data could be made from any set: they are drawn, trained and fetched anew.

    The pictures of the benchmarks' timings may stay, beside the numbers that they are drawn from.
    """
    foreign = [p for p in tracked if p.suffix not in TEXT and p.relative_to(ROOT).as_posix() not in PLAIN]
    assert not [p for p in foreign if not of_timings(p)]


def test_no_text_is_as_large_as_data_are(tracked):
    texts = [p for p in tracked if p.exists() and not of_timings(p) and p != ROOT / COMPILED]
    assert not [p for p in texts if p.stat().st_size > MOST]


def test_no_file_is_one_of_a_published_set(tracked):
    tables = [t for t in (ROOT / "datasets").glob("*.tsv") if t.read_text().startswith("path\tbytes\tsha256")]
    known = {source.sha256 for table in tables for source in listed(table.stem).values()}
    assert len(known) > 100
    ours = [p for p in tracked if p.exists() and p.name != "LICENSE"]  # a set brings the same Apache license
    assert not [p for p in ours if hashlib.sha256(p.read_bytes()).hexdigest() in known]


def test_a_file_that_does_not_belong_would_be_noticed(tmp_path, monkeypatch):
    """The tests above fail on a picture, a large table, and a file of a set."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for name, content in (("digits.png", b"x"), ("rows.csv", b"1\n" * MOST)):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AssertionError):
        test_no_figure_checkpoint_or_archive_is_committed([tmp_path / "digits.png"])
    with pytest.raises(AssertionError):
        test_no_text_is_as_large_as_data_are([tmp_path / "rows.csv"])
