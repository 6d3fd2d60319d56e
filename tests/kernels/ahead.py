"""Compiles kernels ahead of time, for GPUs that are not there, and prints what came out as JSON.

python tests/kernels/ahead.py CASE ...

What launchers would launch is caught and compiled instead. It takes a process of its own, in which triton is imported
without its interpreter: one process cannot have both.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_TYPES = {
    "float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64",
    "int8": "i8", "uint8": "u8", "int32": "i32", "int64": "i64", "bool": "i1",
}  # fmt: skip


@dataclass(frozen=True)
class Built:
    """What a compiled kernel is, in plain data."""

    kernel: str
    target: int
    constants: dict[str, Any]
    registers: int
    spilled: int  # instructions
    shared: int
    loads: dict[str, int]  # instruction -> how often, "LDG.E.128" and so on
    dots: bool  # tensor cores of the target
    wgmma: bool


@contextmanager
def _caught() -> Iterator[list[tuple[Any, tuple[Any, ...], dict[str, Any]]]]:
    """Launches are written down instead of made."""
    from triton.runtime.jit import JITFunction

    launches: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    before = JITFunction.run
    JITFunction.run = lambda self, *args, grid, warmup, **kwargs: launches.append((self, args, kwargs))
    try:
        yield launches
    finally:
        JITFunction.run = before


def build(launcher: Callable[[], Any], targets: tuple[int, ...] = (80, 90)) -> list[Built]:
    """Everything that a call launches, compiled for the targets."""
    with _caught() as launches:
        launcher()
    return [_build(*launch, target) for launch in launches for target in targets]


def _build(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], target: int) -> Built:
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
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    registers, sass = _machine_code(compiled.asm["cubin"])
    spilled = len(re.findall(r"\b(?:STL|LDL)\b", sass))  # local memory: what did not fit into registers
    loads: dict[str, int] = {}
    for name in re.findall(r"\b(LDG\.E[.\w]*|LDGSTS[.\w]*)", sass):
        loads[name] = loads.get(name, 0) + 1
    dots = re.search(r"\b(HMMA|HGMMA|DMMA)\b", sass) is not None
    plain = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in constants.items()}
    wgmma = re.search(r"\bHGMMA\b", sass) is not None
    return Built(kernel.__name__, target, plain, registers, spilled, compiled.metadata.shared, loads, dots, wgmma)


def _machine_code(cubin: bytes) -> tuple[int, str]:
    """(registers, instructions)."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(cubin)
        said = subprocess.run([tool, "-res-usage", "-sass", binary], capture_output=True, text=True, check=True)
    return max(int(n) for n in re.findall(r"REG:(\d+)", said.stdout + said.stderr)), said.stdout


# ---------------------------------------------------------------------- cases: every line of every table

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


def _structure() -> Any:
    from hgraph.testing import random_adjacency

    return random_adjacency(64, 64, 1024)


def _reduce(kind: str, width: str, dtype: str, columns: str) -> None:
    from hgraph.kernels.csr_reduce import csr_reduce

    adj, k = _structure(), int(columns)
    weight = None if k == 0 else torch.ones(adj.num_edges, *([k] if k > 1 else []), dtype=_DTYPES[dtype])
    csr_reduce(adj.indptr, adj.indices, adj.target, weight, torch.ones(1, 64, int(width), dtype=_DTYPES[dtype]), kind)


def _dot(heads: str, width: str, dtype: str) -> None:
    from hgraph.kernels.csr_dot import csr_dot

    adj, x = _structure(), torch.ones(1, 64, int(heads) * int(width), dtype=_DTYPES[dtype])
    csr_dot(adj.indices, adj.target, x, x, int(heads), x.dtype)


def _extremum(width: str, dtype: str, columns: str) -> None:
    from hgraph.kernels.csr_dot import Ties, csr_dot
    from hgraph.kernels.csr_extremum import tie_count, tie_flow

    adj, k = _structure(), int(columns)
    x = torch.ones(1, 64, int(width), dtype=_DTYPES[dtype])
    weight = None if k == 0 else torch.ones(adj.num_edges, *([k] if k > 1 else []), dtype=x.dtype)
    share = tie_count(adj.indptr, adj.indices, adj.target, weight, x, x)
    tie_flow(adj.t_indptr, adj.t_indices, adj.source, weight, x, x, share)
    csr_dot(adj.indices, adj.target, share, x, max(k, 1), share.dtype, Ties(weight, x))


def _softmax(heads: str, dtype: str) -> None:
    from hgraph.kernels.edge_softmax import edge_softmax

    adj = _structure()
    edge_softmax(adj.indptr, adj.target, torch.ones(adj.num_edges, int(heads), dtype=_DTYPES[dtype]))


def _additive(heads: str, width: str, dtype: str) -> None:
    from hgraph.kernels.csr_additive import additive_flow, additive_score

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


def _blocks(block: str, heads: str, keys: str, width: str, dtype: str) -> None:
    from hgraph.kernels.block_attend import Tiles, block_attend, block_attend_grads

    b, lists = int(block), torch.zeros(1, 1, 4, 2, dtype=torch.int32)
    part = Tiles(
        lists, lists, torch.full((1, 1, 4), 2, dtype=torch.int32), torch.arange(4, dtype=torch.int32),
        torch.ones(1, b, b // 8, dtype=torch.uint8),
    )  # fmt: skip
    q = torch.ones(1, 4 * b, int(heads), int(width), dtype=_DTYPES[dtype])
    k = torch.ones(1, 4 * b, int(keys), int(width), dtype=_DTYPES[dtype])
    out, lse = block_attend([part], q, k, k, 0.3, 4 * b)
    block_attend_grads([part], q, k, k, 0.3, lse, lse, out)


LAUNCHERS: dict[str, Callable[..., None]] = {
    "reduce": _reduce, "dot": _dot, "extremum": _extremum, "softmax": _softmax, "additive": _additive,
    "attend": _attend, "memory": _memory, "affine": _affine, "blocks": _blocks,
}  # fmt: skip


def main() -> None:
    """Compile the cases named on the command line, as "launcher argument argument"."""
    os.environ.pop("TRITON_INTERPRET", None)
    out = {}
    for case in sys.argv[1:]:
        name, *arguments = case.split()
        out[case] = [dataclasses.asdict(b) for b in build(lambda n=name, a=arguments: LAUNCHERS[n](*a))]
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
