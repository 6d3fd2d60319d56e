"""Compiles kernels ahead of time, without a GPU, and records the results.

python tests/kernels/ahead.py                     (everything that benchmarks/results/ahead.csv lacks)
python tests/kernels/ahead.py --seconds 500       (as much as that takes; call it again to go on)
python tests/kernels/ahead.py "blocks 64 4 4 64 bfloat16" --out here.csv
python tests/kernels/ahead.py --table             (compiles nothing: the table of kernels/README.md)

What launchers would launch is caught and compiled instead. It takes a process of its own, in which triton is imported
without its interpreter: one process cannot have both. A line of the file says which code it is of (`code`, a digest of
the kernel's source and what it calls, wherever in its file, its constants, options and target), so nothing is compiled
twice and no line outlives a change.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import hashlib
import importlib
import os
import pkgutil
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

_TYPES = {
    "float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64",
    "int8": "i8", "int16": "i16", "uint8": "u8", "int32": "i32", "int64": "i64", "bool": "i1",
}  # fmt: skip


OUT = Path(__file__).parents[2] / "benchmarks/results/ahead.csv"
TARGETS = (80, 90)


@dataclass(frozen=True)
class Built:
    """Properties of a compiled kernel."""

    case: str
    kernel: str
    target: int  # compute capability
    warps: int
    registers: int
    spilled: int  # instructions
    shared: int  # bytes
    wide_loads: int  # of 16 bytes a lane
    other_loads: int
    products: str  # HGMMA or HMMA where tensor cores multiply
    code: str


@contextmanager
def _caught() -> Iterator[list[tuple[Any, tuple[Any, ...], dict[str, Any]]]]:
    """Record launches instead of running them; reading a number back, which syncs with a GPU, is an error."""
    from triton.runtime.jit import JITFunction

    launches: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    _structure()
    _forget_lines()
    with ExitStack() as patches:
        run = lambda self, *args, grid, warmup, **kwargs: launches.append((self, args, kwargs))  # noqa: E731
        patches.enter_context(patch.object(JITFunction, "run", run))
        for name in ("item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__", "__index__"):
            patches.enter_context(patch.object(torch.Tensor, name, _read_back))
        yield launches


@functools.cache
def _forget_lines() -> None:
    """Make kernels independent of their position in the file: triton's digests contain line numbers."""
    from triton.runtime.jit import JITFunction

    import hgraph.kernels

    for module in pkgutil.iter_modules(hgraph.kernels.__path__, "hgraph.kernels."):
        for kernel in vars(importlib.import_module(module.name)).values():
            if isinstance(kernel, JITFunction):
                kernel.starting_line_number = 1


def _read_back(*_: Any, **__: Any) -> None:
    raise AssertionError("a launcher reads numbers back from the device")


def build(case: str, known: dict[str, Built]) -> Iterator[Built]:
    """All launches of a case, compiled for the targets or found in the file by their code."""
    name, *arguments = case.split()
    with _caught() as launches:
        LAUNCHERS[name](*arguments)
    for kernel, args, kwargs in launches:
        for target in TARGETS:
            yield _build(case, kernel, args, kwargs, target, known)


def _build(case: str, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], target: int,
           known: dict[str, Built]) -> Built:  # fmt: skip
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    options = {k: v for k, v in kwargs.items() if k not in kernel.arg_names}
    given = dict(zip(kernel.arg_names, args, strict=False)) | {k: v for k, v in kwargs.items() if k not in options}
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    aligned: dict[tuple[int, ...], list[list[Any]]] = {}
    for i, parameter in enumerate(kernel.params):
        value = given[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = "*" + _TYPES[str(value.dtype).removeprefix("torch.")]
            aligned[(i,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        else:
            signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
    source = ASTSource(kernel, signature, constants, aligned)
    text = f"{triton.__version__} {target} {kernel.cache_key} {signature} {constants} {sorted(options.items())}"
    code = hashlib.sha256(text.encode()).hexdigest()[:16]
    if code in known:
        return dataclasses.replace(known[code], case=case)
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    registers, sass = _machine_code(compiled.asm["cubin"])
    spilled = len(re.findall(r"\b(?:STL|LDL)\b", sass))  # local memory: what did not fit into registers
    loads = re.findall(r"\b(?:LDG\.E|LDGSTS)[.\w]*", sass)
    wide = sum(".128" in load for load in loads)
    products = next((p for p in ("HGMMA", "HMMA", "DMMA") if re.search(rf"\b{p}\b", sass)), "")
    warps, shared = options.get("num_warps", 4), compiled.metadata.shared
    return Built(
        case, kernel.__name__, target, warps, registers, spilled, shared, wide, len(loads) - wide, products, code
    )


def _machine_code(cubin: bytes) -> tuple[int, str]:
    """(registers, instructions)."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(cubin)
        result = subprocess.run([tool, "-res-usage", "-sass", binary], capture_output=True, text=True, check=True)
    return max(int(n) for n in re.findall(r"REG:(\d+)", result.stdout + result.stderr)), result.stdout


# ---------------------------------------------------------------------- cases: every line of every table

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


@functools.cache
def _structure() -> Any:
    from hgraph.testing import random_adjacency

    return random_adjacency(64, 64, 1024)


def _reduce(kind: str, width: str, dtype: str, columns: str) -> None:
    from hgraph.kernels.csr_reduce import csr_reduce

    adj, k = _structure(), int(columns)
    weight = None if k == 0 else torch.ones(adj.num_edges, *([k] if k > 1 else []), dtype=_DTYPES[dtype])
    csr_reduce(adj.indptr, adj.indices, adj.target, weight, torch.ones(1, 64, int(width), dtype=_DTYPES[dtype]), kind)


def _dot(heads: str, width: str, dtype: str) -> None:
    from hgraph.kernels.score_dot import score_dot

    adj, x = _structure(), torch.ones(1, 64, int(heads) * int(width), dtype=_DTYPES[dtype])
    score_dot(adj.indices, adj.target, x, x, int(heads), x.dtype)


def _extremum(width: str, dtype: str, columns: str) -> None:
    from hgraph.kernels.csr_extremum import tie_count, tie_flow
    from hgraph.kernels.score_dot import Ties, score_dot

    adj, k = _structure(), int(columns)
    x = torch.ones(1, 64, int(width), dtype=_DTYPES[dtype])
    weight = None if k == 0 else torch.ones(adj.num_edges, *([k] if k > 1 else []), dtype=x.dtype)
    ties = tie_count(adj.indptr, adj.indices, adj.target, weight, x, x)
    tie_flow(adj.t_indptr, adj.t_indices, adj.source, weight, x, x, ties)
    score_dot(adj.indices, adj.target, ties, x, max(k, 1), ties.dtype, Ties(weight, x))


def _softmax(heads: str, dtype: str) -> None:
    from hgraph.kernels.edge_softmax import edge_softmax

    adj = _structure()
    edge_softmax(adj.indptr, adj.target, torch.ones(adj.num_edges, int(heads), dtype=_DTYPES[dtype]))


def _additive(heads: str, width: str, dtype: str) -> None:
    from hgraph.kernels.score_additive import additive_flow, additive_score

    adj, x = _structure(), torch.ones(64, int(heads), int(width), dtype=_DTYPES[dtype])
    grad = additive_score(adj.indices, adj.target, x, x, x[0], 0.2)
    additive_flow(adj.indptr, adj.indices, adj.target, grad, x, x, x[0], 0.2, vector=True)
    additive_flow(adj.t_indptr, adj.t_indices, adj.source, grad, x, x, x[0], 0.2, vector=False)


def _attend(score: str, heads: str, keys: str, width: str, dtype: str, dropout: str) -> None:
    from hgraph.kernels.csr_attend import Inputs, csr_attend
    from hgraph.kernels.csr_attend_grads import csr_attend_grads

    adj, own = _structure(), () if score == "additive" else (int(width),)
    q = torch.ones(64, int(heads), *own, dtype=_DTYPES[dtype])
    k = torch.ones(64, int(keys), *own, dtype=_DTYPES[dtype])
    v, bias = torch.ones(64, int(keys), int(width), dtype=q.dtype), torch.ones(adj.num_edges, 1, dtype=q.dtype)
    chance, seed = float(dropout), torch.zeros(1, dtype=torch.int64)
    slope = 0.2 if score == "additive" else None
    given = Inputs(q, k, v, bias if chance else None, seed if chance else None, chance, 0.3, slope)
    rows, columns = (adj.indptr, adj.indices, adj.target), (adj.t_indptr, adj.t_indices, adj.source)
    out, lse = csr_attend(*rows, given)
    csr_attend_grads(rows, columns, adj.perm, given, lse, lse, out)


def _chunks() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.tensor([0, 64]), torch.tensor([64, 128]), torch.tensor([0, 2])


def _memory(axis: str, width: str, values: str, dtype: str) -> None:
    from hgraph.kernels.chunk_scan import chunk_scan

    q, v = (torch.ones(1, 128, int(n), dtype=_DTYPES[dtype]) for n in (width, values))
    log_a = torch.zeros(1, 128, {"0": 1, "1": int(width), "2": int(values)}[axis])
    chunk_scan(q, q, v, log_a, None, *_chunks(), int(axis))


def _affine(width: str, dtype: str) -> None:
    from hgraph.kernels.affine_scan import affine_scan

    b = torch.ones(1, 128, int(width), dtype=_DTYPES[dtype])
    affine_scan(b, b, b[:, :1], *_chunks())


def _blocks(block: str, heads: str, keys: str, width: str, dtype: str, kind: str = "plain") -> None:
    from hgraph.kernels.block_attend import Inputs, Tiles, block_attend
    from hgraph.kernels.block_attend_grads import block_attend_grads

    b, lists = int(block), torch.zeros(1, 1, 4, 2, dtype=torch.int32)
    part = Tiles(
        lists, lists, torch.full((1, 1, 4), 2, dtype=torch.int32), torch.arange(4, dtype=torch.int32),
        torch.ones(0 if kind == "lists" else 1, b, b // 8, dtype=torch.uint8),
    )  # fmt: skip
    q = torch.ones(1, 4 * b, int(heads), int(width), dtype=_DTYPES[dtype])
    k = torch.ones(1, 4 * b, int(keys), int(width), dtype=_DTYPES[dtype])
    axes, chance = {"plain": (0, 0.0), "lists": (0, 0.0), "dropout": (0, 0.5), "bias": (1, 0.0), "grid": (2, 0.5)}[kind]
    table, place = torch.ones(1, *(9,) * axes), torch.zeros(4 * b, axes, dtype=torch.int64)
    more = (table, place, place) if axes else (None, None, None)
    given = Inputs(q, k, k, *more, torch.zeros(1, dtype=torch.int64) if chance else None, chance, 0.3)
    out, lse = block_attend([part], given)
    block_attend_grads([part], given, lse, lse, out, of_table=axes > 0)


def _cut(*arguments: str) -> None:
    """The same cases with rows and tiles of sources cut into parts."""
    from hgraph.kernels import tile_split

    with patch.object(tile_split, "LEAST", 1), patch.object(tile_split, "FAR", 1):
        _blocks(*arguments)


LAUNCHERS: dict[str, Callable[..., None]] = {
    "reduce": _reduce, "dot": _dot, "extremum": _extremum, "softmax": _softmax, "additive": _additive,
    "attend": _attend, "memory": _memory, "affine": _affine, "blocks": _blocks,
    "cut": _cut,
}  # fmt: skip


FAST = ["reduce sum 64 float32 0", "memory 0 64 64 bfloat16"]
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SLOW = [
    *(f"softmax {h} {t}" for h in (1, 3, 8, 64) for t in ("float32", "bfloat16")),
    *(f"additive {h} {w} {t}" for h, w in ((1, 1), (8, 8), (4, 64), (1, 512)) for t in ("float32", "bfloat16")),
    *(f"attend dot 4 4 {w} {t} 0" for w in (*WIDTHS, 512, 1024) for t in ("float32", "bfloat16")),
    *(f"attend additive 8 8 {w} {t} 0.5" for w in (8, 64, 256) for t in ("float32", "float16")),
    *(f"memory 0 {d} {v} {t}" for d, v in ((16, 16), (64, 128), (256, 64), (40, 5)) for t in ("float16", "float32")),
    *(f"memory {a} {d} 64 {t}" for a in (1, 2) for d in (16, 64, 256) for t in ("bfloat16", "float32")),
    "memory 0 32 32 float64", "affine 64 float32", "affine 5 bfloat16",
    *(f"blocks {b} 4 2 64 {t}" for b in (16, 32, 64, 128, 256) for t in ("bfloat16", "float32")),
    *(f"blocks 128 4 4 {w} {t}" for w in (16, 40, 128, 256) for t in ("float16", "float32")),
    *(f"blocks 16 4 4 {w} {t}" for w in (128, 256) for t in ("bfloat16", "float32")),
    *(f"blocks 128 4 2 {w} bfloat16 {kind}" for w in (64, 128, 256) for kind in ("dropout", "bias", "grid")),
    "blocks 128 4 4 64 float32 grid",
    *(f"blocks 128 4 2 {w} {t} lists" for w in (64, 128, 256) for t in ("bfloat16", "float32")),
    *(f"blocks {b} 4 2 64 bfloat16 lists" for b in (16, 64)),
    *(f"cut {b} 4 2 64 {t}" for b in (16, 64) for t in ("bfloat16", "float32")),
    *(f"cut 128 4 2 {w} {t} {kind}"
      for w in (64, 128, 256) for t in ("bfloat16", "float32") for kind in ("plain", "grid")),
    *(f"attend dot 4 4 {w} float32 0.5" for w in (1, 4, 16)),
    "attend dot 8 2 64 float32 0.5", "attend dot 1 1 64 float64 0",
    "reduce sum 128 bfloat16 4", "reduce mean 64 bfloat16 1", "reduce mean 64 float32 0", "extremum 64 float32 1",
    *(f"reduce {kind} {w} {t} {k}" for w in WIDTHS for t, kind, k in (
        ("float32", "sum", 0), ("float32", "max", 1), ("bfloat16", "sum", 1), ("float64", "sum", 0),
    )),
    *(f"reduce sum {w} float32 {w}" for w in (4, 64)),
    *(f"reduce {kind} {w} float16 2" for kind in ("sum", "min") for w in (64, 256)),
    "reduce sum 1024 float32 0", "reduce sum 257 float32 1", "reduce sum 7 bfloat16 0",
    *(f"dot {h} {w} {t}" for h in (1, 8) for w in WIDTHS for t in ("float32", "bfloat16")),
    "dot 3 5 float64",
    *(f"extremum {w} {t} {k}" for w in (1, 16, 64, 256) for t, k in (("float32", 0), ("bfloat16", 2))
      if k == 0 or w > 1),
]  # fmt: skip


def read(path: Path) -> list[Built]:
    """The lines of the file of an earlier run, if there is one."""
    if not path.exists():
        return []
    kinds = {f.name: int if f.type == "int" else str for f in dataclasses.fields(Built)}
    with path.open(encoding="utf-8", newline="") as file:
        return [Built(**{k: kinds[k](v) for k, v in line.items()}) for line in csv.DictReader(file)]


def write(path: Path, lines: list[Built]) -> None:
    """Write all lines in the order of the cases, at once, so that the file is complete if the process is killed."""
    place = {case: i for i, case in enumerate([*FAST, *SLOW])}
    lines = sorted(lines, key=lambda b: place.get(b.case, -1))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    with draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [f.name for f in dataclasses.fields(Built)], lineterminator="\n")
        table.writeheader()
        table.writerows(dataclasses.asdict(b) for b in lines)
    draft.replace(path)


def table(lines: list[Built]) -> str:
    """The results as a Markdown table, one line per kernel: ranges over its launches, on sm_80 and on sm_90."""
    head = "| kernel | launches | registers | spills | shared memory, KB | loads of 16 bytes | tensor cores |"
    out = [head, "|---|---|---|---|---|---|---|"]
    for name in sorted({b.kernel for b in lines}):
        cells = []
        for target in TARGETS:
            own = [b for b in lines if b.kernel == name and b.target == target]
            registers, wide = [b.registers for b in own], sum(b.wide_loads for b in own)
            percent = 100 * wide / max(wide + sum(b.other_loads for b in own), 1)
            kinds = {k: sum(b.products == k for b in own) for k in ("HMMA", "HGMMA", "DMMA")}
            cells.append((
                f"{min(registers)} to {max(registers)}", str(sum(b.spilled for b in own)),
                f"{max(b.shared for b in own) / 1024:.0f}", f"{percent:.0f} %",
                ", ".join(f"{n} {k}" for k, n in kinds.items() if n) or "none",
            ))  # fmt: skip
        both = " | ".join(a if a == b else f"{a}; {b}" for a, b in zip(*cells, strict=True))
        out.append(f"| `{name}` | {len(own)} | {both} |")
    return "\n".join(out)


def main() -> None:
    """Compile the cases that are missing in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[*FAST, *SLOW], help="a launcher and its arguments; all by default")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after so long")
    parser.add_argument("--table", action="store_true", help="print what the file holds, and compile nothing")
    asked = parser.parse_args()
    if asked.table:
        print(table(read(asked.out)))
        return
    os.environ.pop("TRITON_INTERPRET", None)
    lines: dict[str, list[Built]] = {b.case: [] for b in read(asked.out)}
    for b in read(asked.out):
        lines[b.case].append(b)
    begun, left = time.monotonic(), 0
    for case in asked.cases:
        if time.monotonic() - begun > asked.seconds:
            left += 1
            continue
        before = lines.get(case)
        lines[case] = list(build(case, {b.code: b for own in lines.values() for b in own}))
        if lines[case] != before:
            print(f"{case}: {len(lines[case])} kernels, {sum(b.spilled for b in lines[case])} spills", flush=True)
            write(asked.out, [b for own in lines.values() for b in own])
    print(f"{len(asked.cases) - left} cases are in {asked.out}, {left} are left")


if __name__ == "__main__":
    main()
