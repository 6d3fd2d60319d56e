"""Compare two commits: the same cases, in alternating processes."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import hgraph
from hgraph.benchmarks import launch, records
from hgraph.errors import ArgumentError

PROCESSES = 3  # per side, alternating


def root() -> Path:
    """The checkout that hgraph is imported from.

    Raises:
        ArgumentError: hgraph is not installed from a checkout.
    """
    folder = Path(hgraph.__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        raise ArgumentError("compare", "hgraph in a git checkout", f"{folder}", "Clone the repository and run it there")
    return folder


def commit_of(revision: str) -> str:
    """The commit of a revision.

    Raises:
        ArgumentError: the revision does not exist.
    """
    command = ["git", "-C", root(), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ArgumentError("compare", "a commit, a branch or a tag of this checkout", repr(revision))
    return done.stdout.strip()


def compare(
    revision: str,
    suites: Sequence[str],
    arguments: Sequence[str],
    *,
    threads: int,
    allocator: str,
    own_suites: bool = False,
) -> list[dict[str, str]]:
    """One row per case: milliseconds of the revision ("then") and of the checkout ("now").

    Both sides run the suites imported here; with ``own_suites`` each runs the suites of its own commit, for
    commits before public names changed, and cases of equal names are compared.

    Raises:
        ArgumentError: the revision or the checkout does not exist.
        RuntimeError: one side could not be measured.
    """
    commit, here = commit_of(revision), root()
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "tree"
        git = ["git", "-C", str(here), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), commit], check=True)
        try:
            found: dict[tuple[str, str, str], dict[str, list[dict[str, str]]]] = {}
            for i in range(PROCESSES):
                for side, folder in (("then", tree), ("now", here)):
                    out = Path(name) / f"{side}-{i}"
                    files = folder / "benchmarks" if own_suites else Path(__file__).resolve().parent
                    command = [*suites, "--own", "--out", str(out), *arguments]
                    if launch.start_on(folder, files, command, threads=threads, allocator=allocator):
                        raise RuntimeError(
                            f"{side} ({folder}): the suite failed, see above. "
                            "If public names differ from this checkout's, add --own-suites"
                        )
                    for file in sorted(out.glob("*.csv")):
                        for row in records.read_csv(file):
                            key = (row["suite"], row["case"], row["method"])
                            found.setdefault(key, {"then": [], "now": []})[side].append(row)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    return [_row(key, sides) for key, sides in found.items() if sides["then"] and sides["now"]]


def _row(key: tuple[str, str, str], sides: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    then, now = ([float(row["min"]) for row in sides[side]] for side in ("then", "now"))
    last = sides["now"][-1]
    copied = ("unit", "threads", "clock", "device", "date", "cpu", "load", "allocator", "python", "torch")
    return {
        **dict(zip(("suite", "case", "method"), key, strict=True)),
        "then_min": f"{min(then):.4f}", "now_min": f"{min(now):.4f}",
        "then_median": f"{statistics.median(then):.4f}", "now_median": f"{statistics.median(now):.4f}",
        "then_over_now": f"{min(then) / max(min(now), 1e-9):.3f}",
        "commit_then": sides["then"][-1]["commit"], "commit_now": last["commit"], "processes": str(len(now)),
        "backend_then": sides["then"][-1]["backend"], "backend_now": last["backend"],
        **{name: last[name] for name in copied},
    }  # fmt: skip


def table(found: list[dict[str, str]]) -> str:
    """The rows as a table: above 1 means faster now."""
    first = found[0]
    lines = [f"{'ms, ' + first['clock']:44}{first['commit_then']:>12}{first['commit_now']:>12}{'then/now':>10}"]
    for row in found:
        name = row["case"] + row["method"].removeprefix("hgraph")
        lines.append(f"{name:44}{float(row['then_min']):12.3f}{float(row['now_min']):12.3f}{row['then_over_now']:>10}")
    if first["backend_then"] != first["backend_now"]:  # one commit has no native kernels
        lines.append(f"then: {first['backend_then']} backend, now: {first['backend_now']}")
    return "\n".join(lines)
