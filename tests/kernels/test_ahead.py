"""Without a GPU: every launch compiles for sm_80 and sm_90 without spills, and gathers 16 bytes per lane."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

_SPEC = importlib.util.spec_from_file_location("ahead", Path(__file__).with_name("ahead.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
ahead = sys.modules["ahead"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(ahead)

# For each launcher that gathers rows, where a case has their width.
GATHERS = {"reduce": 1, "dot": 1, "extremum": 0, "softmax": 0, "additive": 1, "attend": 3}
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}  # bytes that a block may have
Compiled = Callable[[str], list[Any]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The compiled form of a case; code that is unchanged since the committed file is not compiled again."""
    out = tmp_path_factory.mktemp("ahead") / "ahead.csv"
    if ahead.OUT.exists():
        out.write_bytes(ahead.OUT.read_bytes())

    @functools.cache
    def built(cases: tuple[str, ...]) -> list[Any]:
        command = [sys.executable, Path(__file__).with_name("ahead.py"), "--out", out, *cases]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return ahead.read(out)

    # one process per kind, because it has to import torch and triton
    return lambda case: [b for b in built(tuple(ahead.FAST if case in ahead.FAST else ahead.SLOW)) if b.case == case]


@pytest.mark.parametrize("case", ahead.FAST)
def test_compiles(case: str, compiled: Compiled) -> None:
    check(case, compiled(case))


@pytest.mark.slow
@pytest.mark.parametrize("case", ahead.SLOW)
def test_every_line_of_the_tables_compiles(case: str, compiled: Compiled) -> None:
    check(case, compiled(case))


def test_the_readme_has_the_table() -> None:
    text = (Path(__file__).parents[2] / "kernels/README.md").read_text(encoding="utf-8")
    assert ahead.table(ahead.read(ahead.OUT)) in text, "python tests/kernels/ahead.py --table prints it"


def test_the_file_has_every_case_and_no_spill() -> None:
    lines = ahead.read(ahead.OUT)
    assert {b.case for b in lines} == {*ahead.FAST, *ahead.SLOW}
    assert not [b for b in lines if b.spilled]


def check(case: str, kernels: list[Any]) -> None:
    assert {k.target for k in kernels} == set(ahead.TARGETS)
    for k in kernels:
        assert k.spilled == 0, k
        assert k.shared <= SHARED_MEMORY[k.target], k
    name, *arguments = case.split()
    if name in ("blocks", "cut"):
        block, _, _, width, dtype, *_ = arguments
        outer = [k for k in kernels if k.kernel.startswith("_attend")]
        assert all(k.products for k in outer)
        if int(block) >= 64 and dtype != "float32":  # products of 64 rows
            # sums [64, 256] of keys and values do not fit into registers together
            outer = [k for k in outer if k.kernel != "_attend_keys" or int(width) <= 128]
            assert all(k.products == "HGMMA" for k in outer if k.target == 90)
    if name == "memory" and arguments[0] == "0" and case.endswith(("float16", "bfloat16")):
        outer = [k for k in kernels if k.kernel in ("_gains", "_read")]
        assert outer
        assert all(k.products for k in outer)
        outer = [k for k in outer if k.kernel == "_read" or int(arguments[1]) > 32]  # 64 keys a product
        assert all(k.products == "HGMMA" for k in outer if k.target == 90)
    if name in GATHERS and row_bytes(case) >= 16:
        gathers = [k for k in kernels if "combine" not in k.kernel]
        assert gathers
        for k in gathers:
            assert k.wide_loads > 0, k


def row_bytes(case: str) -> int:
    """The longest run of bytes per edge that always starts at a multiple of 16."""
    name, *arguments = case.split()
    size = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[next(a for a in arguments if "float" in a)]
    run = int(arguments[GATHERS[name]]) * size
    return run if run % 16 == 0 else 0
