"""Plain C++ row loops as references, compiled on first use; unavailable without a compiler."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from hgraph.kernels import native, trust
from hgraph.structure import Adjacency

SOURCE = Path(__file__).resolve().parent / "reference.cpp"
# Sums may be reordered, as with -ffast-math; that flag itself would make the whole process flush subnormal numbers.
FREE = ("-fassociative-math", "-freciprocal-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")
FLAGS = ("-O3", "-march=native", *FREE, "-std=c++17", "-shared", "-fPIC")

WIDTHS = (7, 16, 40, 64, 128)  # feature widths with compiled loops


@functools.cache
def library() -> ctypes.CDLL | None:
    """The loops, or None without a C++ compiler."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None
    what = SOURCE.read_bytes() + " ".join((compiler, *FLAGS, platform.processor())).encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hgraph"
    path = cache / f"benchmarks-{hashlib.sha256(what).hexdigest()[:16]}.so"
    if not native.is_trusted(path):
        trust.secure(cache)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / "reference.so"
            done = subprocess.run([compiler, *FLAGS, SOURCE, "-o", made], capture_output=True, text=True, check=False)
            if done.returncode:
                return None
            trust.record(made, path)
            made.replace(path)
    return ctypes.CDLL(str(path))


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def reduce_rows(adj: Adjacency, x: Tensor, *, largest: bool = False, out: Tensor | None = None) -> Tensor:
    """Weighted sum (or maximum) of each row's sources, into ``out`` if given."""
    loops = library()
    assert loops is not None
    assert adj.indptr.dtype == torch.int32
    assert x.is_contiguous()
    assert x.dtype == torch.float32
    out = x.new_empty(adj.num_targets, x.shape[1]) if out is None else out
    call = loops.row_max if largest else loops.row_sum
    weight = None if adj.weight is None else adj.weight.contiguous()
    rest = (_address(adj.indptr), _address(adj.indices), _address(weight), _address(x), _address(out))
    if call(ctypes.c_int64(adj.num_targets), ctypes.c_int64(x.shape[1]), *rest):
        raise NotImplementedError(f"no loop for {x.shape[1]} features")
    return out


def softmax_rows(adj: Adjacency, score: Tensor) -> Tensor:
    """Softmax [E, H] over each target's edges."""
    loops = library()
    assert loops is not None
    out = torch.empty_like(score)
    sizes = (ctypes.c_int64(adj.num_targets), ctypes.c_int64(score.shape[1]))
    if loops.row_softmax(*sizes, _address(adj.indptr), _address(score), _address(out)):
        raise NotImplementedError(f"no loop for {score.shape[1]} heads")
    return out
