"""The native CPU kernels of native.cpp: built on request, loaded with ctypes, called with float32 tensors.

`build` compiles once per source (including headers), flags, processor and compiler into ``$HGRAPH_CACHE``, else the
platform's cache folder; nothing else ever runs a compiler. `load` finds the library built for this source and
processor, possibly in a read-only folder, if `hgraph.kernels.trust` accepts it. Launchers check nothing:
shapes are documented at the operators of hgraph.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from ctypes import c_float, c_int, c_int32, c_int64, c_uint64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from hgraph.kernels import trust
from hgraph.kernels.huge_pages import HugePages
from hgraph.kernels.scratch import remove_abandoned, scratch_folder

__all__ = ["BuildError", "build", "compiler", "find", "folder", "is_trusted", "load"]

SOURCE = Path(__file__).with_name("native.cpp")
HEADERS = sorted(SOURCE.parent.glob("native_*.h"))
FLAGS = ("-O3", "-march=native", "-fopenmp", "-std=c++17", "-fPIC", "-shared")


class BuildError(RuntimeError):
    """The kernels cannot be built here; the message says what to do."""


# ---------------------------------------------------------------------- build


def folder() -> Path:
    """The folder of built kernels: ``$HGRAPH_CACHE``, else the platform's cache folder."""
    if os.environ.get("HGRAPH_CACHE"):
        return Path(os.environ["HGRAPH_CACHE"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hgraph"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hgraph"


def compiler() -> str | None:
    """The C++ compiler: ``$CXX``, else g++, clang++ or c++."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def build() -> Path:
    """Compile the kernels if needed; returns the library's path.

    The library is moved into place when it is complete, so interrupted or concurrent builds leave no partial
    file and need not wait for each other.

    Raises:
        BuildError: no compiler, a failed compilation, or a folder that cannot be written.
    """
    cxx = compiler()
    if cxx is None:
        if given := os.environ.get("CXX"):
            raise BuildError(f"$CXX is {given}, which is not a program here. Unset it, or set it to a C++ compiler")
        raise BuildError("no C++ compiler (g++, clang++, c++). Install one: apt install g++, dnf install gcc-c++")
    version = _run([cxx, "--version"])
    path = folder() / f"native-{_key()}-{_digest(os.path.realpath(cxx), version)}.so"
    remove_abandoned(path.parent)
    if is_trusted(path):
        return path
    try:
        trust.secure(path.parent)
        with scratch_folder(path.parent) as place:
            made = place / path.name
            _run([cxx, *FLAGS, "-o", str(made), str(SOURCE)])
            _opened(made)
            if _key.__wrapped__() != _key():  # the sources were upgraded meanwhile
                raise BuildError("the sources changed while they were compiled: run it again in a new process")
            trust.record(made, path)
            made.replace(path)
    except trust.UntrustedError as error:
        raise BuildError(f"{error}. Set HGRAPH_CACHE to another folder") from error
    except OSError as error:
        raise BuildError(f"{path.parent} ({error.strerror or error}). Set HGRAPH_CACHE to another folder") from error
    return path


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's own compiler
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def _key() -> str:
    """Key of the source, flags and processor that a library must match."""
    sources = [path.read_bytes() for path in (SOURCE, *HEADERS)]
    return _digest(*sources, " ".join(FLAGS), _processor())


def _processor() -> str:
    """The processor with its instruction sets: ``-march=native`` compiles for exactly these."""
    lines = [platform.machine(), platform.processor()]
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if not line.strip():  # the first processor's part is over
                    break
                if line.startswith(("model name", "flags", "Features", "CPU part")):
                    lines.append(line.strip())
    except OSError:
        pass
    return "\n".join(lines)


# ---------------------------------------------------------------------- load


def find() -> Path | None:
    """The library built for this source and processor, the newest if several compilers built one.

    Raises:
        UntrustedError: there are libraries, but none may be loaded.
    """
    try:
        built = sorted(folder().glob(f"native-{_key()}-*.so"), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return None
    if built and not any(map(is_trusted, built)):
        trust.check(built[0])
    return next(filter(is_trusted, built), None)


def is_trusted(path: Path) -> bool:
    """Whether a library exists and may be loaded."""
    try:
        trust.check(path)
    except OSError:
        return False
    return True


@functools.cache
def _opened(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, kinds in _INTERFACE.items():
        function = getattr(library, name, None)
        if function is None:
            raise OSError(f"{path} has no function {name}: remove it, then build it again")
        function.argtypes, function.restype = [_KINDS[kind] for kind in kinds], None
    return library


def load() -> ctypes.CDLL | None:
    """The library, or None if it has not been built.

    Raises:
        OSError: it exists but cannot, or must not, be loaded.
    """
    path = find()
    return None if path is None else _opened(trust.check(path))


# Arguments by letter: i int, p pointer, n int64, u uint64.
_KINDS = {"i": c_int, "p": c_void_p, "n": c_int64, "u": c_uint64}
_INTERFACE = {
    "hgraph_in_huge_pages": "pnip",
    "hgraph_spmm": "ipppppnnni",
    "hgraph_sddmm": "ipppppnnni",
    "hgraph_extremum": "ipppppnnnii",
    "hgraph_extremum_rows": "ippppppppnnni",
    "hgraph_extremum_columns": "ipppppppnnni",
    "hgraph_softmax": "ipppnni",
    "hgraph_softmax_grads": "ippppnni",
    "hgraph_attend": "ipppppn",
    "hgraph_attend_columns": "ippppppppppn",
    "hgraph_attend_rows": "ipppppppn",
    "hgraph_sample": "ippppnnui",
}


class _Attention(ctypes.Structure):
    """The struct ``Attention`` of native_attend.h, field by field."""

    _fields_ = [
        *((name, c_void_p) for name in ("q", "k", "v", "bias")),
        *((name, c_int64) for name in ("heads", "key_heads", "dim", "channels", "columns")),
        *((name, c_uint64) for name in ("seed", "threshold")),
        *((name, c_float) for name in ("scale", "slope", "kept")),
        *((name, c_int32) for name in ("additive", "threads")),
    ]


# ---------------------------------------------------------------------- launch


def _call(name: str, indices: tuple[Tensor, ...], *arguments: object) -> None:
    """Call a kernel: passes tensors as pointers and keeps them alive until it returns."""
    library = _library()
    # A slice of a longer index tensor is allowed, but it must be contiguous.
    held = [t.contiguous() for t in indices]
    pointers = [t.data_ptr() for t in held]
    wide = held[0].dtype == torch.int64
    getattr(library, name)(wide, *pointers, *(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


@functools.cache
def _library() -> ctypes.CDLL:
    """The library used by this process."""
    library = load()
    if library is None:
        raise BuildError("the native kernels are not built: run hgraph kernels build")
    return library


# From here on the C library allocates each tensor from the system, and returns it when it is freed.
_LARGE = 32 * 2**20
_HUGE_PAGES = HugePages()


def _made(like: Tensor, *shape: int) -> Tensor:
    """Allocate an output, in huge pages if it is large.

    With small pages the page faults cost half of the sum that fills it, and later each gathered row needs
    an address lookup.
    """
    out = like.new_empty(shape)
    size = 4 * out.numel()
    if size > _LARGE and _HUGE_PAGES.wanted():
        touched = (c_int64 * 2)()
        _library().hgraph_in_huge_pages(out.data_ptr(), size, torch.get_num_threads(), touched)
        _HUGE_PAGES.note(*touched)
    return out


def spmm(indptr: Tensor, indices: Tensor, weight: Tensor | None, x: Tensor) -> Tensor:
    """[T, D]: row sums of weights ([E], [E, H] or none) times x [S, D]; column h weights the h-th block."""
    weight, x = None if weight is None else weight.contiguous(), x.contiguous()
    out = _made(x, indptr.shape[0] - 1, x.shape[1])
    heads = 1 if weight is None or weight.dim() == 1 else weight.shape[1]
    sizes = (out.shape[0], heads, x.shape[1] // heads, torch.get_num_threads())
    _call("hgraph_spmm", (indptr, indices), weight, x, out, *sizes)
    return out


def sddmm(target: Tensor, source: Tensor, a: Tensor, b: Tensor, heads: int, out: Tensor) -> None:
    """Add to ``out`` [E, H] the inner products of rows of a [T, D] and b [S, D], per head."""
    a, b = a.contiguous(), b.contiguous()
    sizes = (len(out), heads, a.shape[1] // heads, torch.get_num_threads())
    _call("hgraph_sddmm", (target, source), a, b, out, *sizes)


def extremum(indptr: Tensor, indices: Tensor, weight: Tensor | None, x: Tensor, *, largest: bool) -> Tensor:
    """[T, D]: the maximum or minimum of each row's messages; weights [E, H] or None, x [S, D]."""
    x, weight = x.contiguous(), None if weight is None else weight.contiguous()
    out, heads = _made(x, len(indptr) - 1, x.shape[1]), 1 if weight is None else weight.shape[1]
    sizes = (len(out), heads, x.shape[1] // heads, largest, torch.get_num_threads())
    _call("hgraph_extremum", (indptr, indices), weight, x, out, *sizes)
    return out


def extremum_share(
    rows: tuple[Tensor, Tensor], weight: Tensor | None, x: Tensor, out: Tensor, grad: Tensor, grad_weight: Tensor | None
) -> Tensor:
    """[T, D]: the gradient divided by the number of ties; adds the gradient of weights to ``grad_weight`` [E, H]."""
    x, out, grad = x.contiguous(), out.contiguous(), grad.contiguous()
    weight = None if weight is None else weight.contiguous()
    share, heads = _made(grad, *grad.shape), 1 if weight is None else weight.shape[1]
    sizes = (len(out), heads, x.shape[1] // heads, torch.get_num_threads())
    _call("hgraph_extremum_rows", rows, weight, x, out, grad, share, grad_weight, *sizes)
    return share


def extremum_flow(
    columns: tuple[Tensor, Tensor], weight: Tensor | None, x: Tensor, out: Tensor, share: Tensor
) -> Tensor:
    """[S, D]: the gradient of x. Weights in the order of the columns, ``share`` from `extremum_share`."""
    x, out, weight = x.contiguous(), out.contiguous(), None if weight is None else weight.contiguous()
    grad_x, heads = _made(x, *x.shape), 1 if weight is None else weight.shape[1]
    sizes = (len(x), heads, x.shape[1] // heads, torch.get_num_threads())
    _call("hgraph_extremum_columns", columns, weight, x, out, share, grad_x, *sizes)
    return grad_x


def softmax(indptr: Tensor, score: Tensor) -> Tensor:
    """[E, H]: softmax of scores over each row."""
    score = score.contiguous()
    out = _made(score, *score.shape)
    if out.numel():
        _call("hgraph_softmax", (indptr,), score, out, len(indptr) - 1, score.shape[1], torch.get_num_threads())
    return out


def softmax_grads(indptr: Tensor, alpha: Tensor, grad: Tensor) -> Tensor:
    """[E, H]: gradient of scores whose softmax is ``alpha``."""
    alpha, grad = alpha.contiguous(), grad.contiguous()
    out, sizes = _made(alpha, *alpha.shape), (len(indptr) - 1, alpha.shape[1], torch.get_num_threads())
    if out.numel():
        _call("hgraph_softmax_grads", (indptr,), alpha, grad, out, *sizes)
    return out


class Attended:
    """The operands of one attention in the layout of the kernels."""

    def __init__(
        self,
        q: Tensor | None,
        k: Tensor | None,
        v: Tensor,
        bias: Tensor | None,
        seed: Tensor | None,
        dropout: float,
        scale: float,
        slope: float | None,
    ) -> None:
        self.tensors = [None if t is None else t.contiguous() for t in (q, k, v, bias)]
        given = bias if q is None else q
        assert given is not None  # noqa: S101 - with neither there is nothing to take a softmax of
        self.heads, self.key_heads, self.channels = given.shape[1], v.shape[1], v.shape[2]
        dim = 1 if q is None or q.dim() == 2 else q.shape[2]
        self.struct = _Attention(
            *(None if t is None else t.data_ptr() for t in self.tensors),
            *(self.heads, self.key_heads, dim, self.channels, 1 if bias is None else bias.shape[1]),
            *(0 if seed is None else int(seed), 0 if seed is None else round(dropout * 2**32)),
            *(scale, slope or 0.0, 1 / (1 - dropout), slope is not None, torch.get_num_threads()),
        )

    @property
    def pointer(self) -> int:
        """Pointer to the operands."""
        return ctypes.addressof(self.struct)


def attend(rows: tuple[Tensor, Tensor], given: Attended) -> tuple[Tensor, Tensor]:
    """out [T, H, V] and lse [T, H]."""
    targets, v = len(rows[0]) - 1, given.tensors[2]
    assert v is not None  # noqa: S101 - values there are always
    out, lse = _made(v, targets, given.heads, given.channels), v.new_empty((targets, given.heads))
    if given.heads:  # without heads all outputs are empty
        _call("hgraph_attend", rows, given.pointer, out, lse, targets)
    return out, lse


def attend_grads(
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    given: Attended,
    lse: Tensor,
    delta: Tensor,
    grad: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v and the biases; empty for missing inputs. ``rows`` ends in inv_perm."""
    lse, delta, grad = lse.contiguous(), delta.contiguous(), grad.contiguous()
    q, k, v, bias = (_made(grad, *((0,) if t is None else t.shape)) for t in given.tensors)
    if not given.heads:
        return q, k, v, bias.zero_()
    flow = _made(grad, len(rows[1]), given.heads)
    _call("hgraph_attend_columns", columns, given.pointer, lse, delta, grad, flow, k, v, len(columns[0]) - 1)
    if given.tensors[0] is not None or given.tensors[3] is not None:
        wanted = None if given.tensors[3] is None else bias
        _call("hgraph_attend_rows", rows, given.pointer, flow, q, wanted, len(rows[0]) - 1)
    return q, k, v, bias


def sample(indptr: Tensor, rows: Tensor, first: Tensor, fanout: int, seed: int) -> Tensor:
    """[E'] edges: at most ``fanout`` of each given row, the i-th row's from ``first[i]`` to ``first[i + 1]``."""
    chosen = torch.empty(int(first[-1]), dtype=torch.int64)
    sizes = (len(rows), fanout, seed, torch.get_num_threads())
    _call("hgraph_sample", (indptr,), rows.contiguous(), first.contiguous(), chosen, *sizes)
    return chosen
