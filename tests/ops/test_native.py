"""The native kernels against the reference in float64: what the verbs' own tests in both ways do not reach."""

from __future__ import annotations

import itertools
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hgraph import Additive, Adjacency, Dot, attend, backend, backends, edge_score, edge_softmax, errors, propagate
from hgraph.kernels import native as kernels
from hgraph.kernels import trust
from hgraph.kernels.huge_pages import HugePages
from hgraph.ops import current_backend
from hgraph.ops.bindings import native
from hgraph.ops.sparse.linear import rows
from hgraph.testing import degenerate_adjacencies

INF = float("inf")
STRUCTURES = degenerate_adjacencies()
# Rows and columns longer than a run of the kernels (2048 edges), and rows longer than a block of scores (64).
LONG = Adjacency.from_coo(
    target=torch.cat([torch.arange(9000) % 3 // 2, torch.arange(5000) % 50, torch.arange(300) % 2 + 7]),
    source=torch.cat([torch.arange(9000) % 40, torch.full((5000,), 41), torch.arange(300) % 37]),
    num_targets=50,
    num_sources=43,
    duplicates="keep",
)
STRUCTURES["long"] = LONG


def leaf(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agree(adj: Adjacency, verb: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> None:
    """Outputs and gradients of float32 inputs, by native kernels and by the reference in float64.

    What rounding may do grows with the root of the number of terms, which is that of the longest row or column.
    """
    longest = max((int(p.diff().max()) for p in (adj.indptr, adj.t_indptr) if len(p) > 1), default=0)
    tolerance = 4e-6 * max(longest, 16) ** 0.5
    results = []
    for name, dtype in (("native", torch.float32), ("torch", torch.float64)):
        with backend(name):
            own = [t.to(torch.float32).to(dtype).requires_grad_() for t in inputs]
            outputs = verb(*own)
            weights = [leaf(*o.shape, seed=i).to(torch.float32).to(dtype) for i, o in enumerate(outputs)]
            finite = [torch.where(o.isfinite(), o, 0.0) for o in outputs]
            grads = torch.autograd.grad(finite, own, weights, allow_unused=True, materialize_grads=True)
            results.append([*outputs, *grads])
    for got, wanted in zip(*([t.detach() for t in found] for found in results), strict=True):
        assert got.dtype == torch.float32
        size = max(float(wanted[wanted.isfinite()].abs().max()), 1.0) if wanted.isfinite().any() else 1.0
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=tolerance * size)


@pytest.fixture(autouse=True)
def present(native_present: None) -> None:
    """The kernels are there."""


# ---------------------------------------------------------------------- the verbs


@pytest.mark.parametrize("kind", ["dot", "additive"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_attention_and_its_gradients(name: str, kind: str) -> None:
    """Grouped heads, masked edges, a masked target, odd widths; through the output and the lse."""
    adj = STRUCTURES[name]
    own = () if kind == "additive" else (5,)
    masked = ((adj.target == 3) | (torch.arange(adj.num_edges) % 7 == 1)).unsqueeze(1)

    def verb(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        score = Dot() if kind == "dot" else Additive(slope=0.3)
        return attend(adj, q, k, v, score=score, bias=bias.masked_fill(masked, -INF), scale=0.6)

    t, s, e = adj.num_targets, adj.num_sources, adj.num_edges
    agree(adj, verb, leaf(t, 6, *own, seed=0), leaf(s, 2, *own, seed=1), leaf(s, 2, 19, seed=2), leaf(e, 6, seed=3))


@pytest.mark.parametrize("kind", ["dot", "additive"])
@pytest.mark.parametrize(("width", "heads"), [(1, 1), (8, 8), (16, 8), (40, 1), (64, 2), (3, 3)])
def test_attention_of_every_width(width: int, heads: int, kind: str) -> None:
    own = () if kind == "additive" else (width,)
    score = Dot() if kind == "dot" else Additive()
    adj = STRUCTURES["odd"]
    q, k, v = leaf(17, heads, *own, seed=0), leaf(13, heads, *own, seed=1), leaf(13, heads, width, seed=2)
    agree(adj, lambda q, k, v: attend(adj, q, k, v, score=score), q, k, v)


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_attention_batches_one_bias_and_dropout(kind: str) -> None:
    adj, own = STRUCTURES["odd"], () if kind == "additive" else (5,)

    def verb(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        score = Dot() if kind == "dot" else Additive()
        generator = torch.Generator().manual_seed(5)
        return attend(adj, q, k, v, score=score, bias=bias, dropout=0.4, generator=generator)

    agree(
        adj,
        verb,
        leaf(3, 17, 4, *own, seed=0),
        leaf(3, 13, 2, *own, seed=1),
        leaf(3, 13, 2, 6, seed=2),
        leaf(61, seed=3),
    )


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 8, 12, 16, 20])
@pytest.mark.parametrize("name", ["odd", "hub", "empty_rows", "no_edges", "nothing", "long"])
def test_softmax_of_every_number_of_heads(name: str, heads: int) -> None:
    adj = STRUCTURES[name]
    masked = ((adj.target == 1) | (torch.arange(adj.num_edges) % 5 == 0)).unsqueeze(1)
    verb = lambda s: (edge_softmax(adj, 5 * s.masked_fill(masked, -INF)),)  # noqa: E731
    agree(adj, verb, leaf(adj.num_edges, heads, seed=0))
    group = adj.indices % 4
    agree(adj, lambda s: (edge_softmax(adj, s, group=group),), leaf(adj.num_edges, heads, seed=0))


@pytest.mark.parametrize(("heads", "width"), [(1, 1), (1, 40), (2, 8), (3, 5), (8, 16)])
@pytest.mark.parametrize("name", STRUCTURES)
def test_sums_and_products_by_heads(name: str, heads: int, width: int) -> None:
    adj = STRUCTURES[name]
    x, weight = leaf(2, adj.num_sources, heads * width, seed=0), leaf(adj.num_edges, heads, seed=1)
    agree(adj, lambda x, w: (propagate(adj, x, weight=w),), x, weight)
    q, k = leaf(adj.num_targets, heads, width, seed=2), leaf(adj.num_sources, heads, width, seed=3)
    agree(adj, lambda q, k: (edge_score(adj, q, k),), q, k)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["odd", "long", "empty_rows"])
def test_sums_of_every_width(name: str, weighted: bool) -> None:
    """By vectors of 1, 4, 8 and 16 numbers, whole and overlapping, in spans of 128."""
    adj = STRUCTURES[name]
    adj = adj.with_weight(leaf(adj.num_edges, seed=1).float() if weighted else None)
    for width in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 112, 127, 128, 129, 140, 144, 256, 300):
        agree(adj, lambda x: (propagate(adj, x),), leaf(adj.num_sources, width, seed=width))


def advised(out: Tensor) -> bool:
    """Whether the kernel reports a request for huge pages for the memory mapping at the middle of a tensor."""
    middle, inside = out.data_ptr() + out.nbytes // 2, False
    for line in Path("/proc/self/smaps").read_text(encoding="ascii", errors="replace").splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= middle < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise AssertionError("the tensor is in no mapping")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the kernel reports no mappings (/proc/self/smaps)")
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the kernel lends no huge pages")
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_outputs_above_32_mib_are_asked_for_in_huge_pages(
    reduce: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller outputs may reuse memory; larger outputs get a separate mapping (glibc)."""
    n, noted = 9000, []  # 34 MiB

    class Pages(HugePages):
        def wanted(self) -> bool:
            return wanted

        def note(self, fast: int, slow: int) -> None:
            noted.append((fast, slow))

    monkeypatch.setattr(kernels, "_HUGE_PAGES", Pages())
    adj = Adjacency.from_coo(target=torch.arange(n), source=torch.arange(n), num_targets=n, num_sources=n)
    x = torch.ones(n, 1000, requires_grad=True)
    assert not advised(x.detach())
    out = propagate(adj, x, reduce=reduce)
    grad = torch.autograd.grad(out, x, torch.ones(n, 1000))[0]
    assert bool(noted) == wanted
    for fast, slow in noted:
        assert fast + slow >= 2
        assert fast + slow in (16, 17) or slow >= 2  # at the second slow one it gives up
    if not wanted or all(slow < 2 for _, slow in noted):
        assert [advised(out.detach()), advised(grad)] == [wanted] * 2


def test_slow_huge_pages_are_tried_less_often() -> None:
    def tried(outputs: int, touched: Callable[[], tuple[int, int]]) -> list[int]:
        found = []
        for i in range(outputs):
            if pages.wanted():
                found.append(i)
                pages.note(*touched())
        return found

    pages = HugePages()
    assert tried(5, lambda: (40, 0)) == [0, 1, 2, 3, 4]
    assert tried(5, lambda: (39, 1)) == [0, 1, 2, 3, 4]
    assert tried(40, lambda: (0, 2)) == [0, 3, 8, 17, 34]
    pages, more = HugePages(), iter(range(100))
    assert tried(8, lambda: (next(more), 2)) == [0, 2, 4, 6]  # each gets further: they are found for good
    pages = HugePages()
    assert len(tried(100_000, lambda: (0, 2))) < 110


def test_outputs_above_32_mib_are_like_others() -> None:
    adj = Adjacency.from_coo(
        target=torch.arange(9000), source=torch.arange(9000).flip(0), num_targets=9000, num_sources=9000
    )
    x = leaf(9000, 1000, seed=0).float().requires_grad_()
    for reduce in ("sum", "max"):
        out = propagate(adj, x, reduce=reduce)
        assert out.equal(x.flip(0))
        assert torch.autograd.grad(out, x, out.detach())[0].equal(x)


@pytest.mark.parametrize("reduce", ["max", "min"])
@pytest.mark.parametrize(("heads", "width"), [(0, 32), (0, 40), (1, 7), (1, 16), (1, 64), (1, 128), (2, 8), (3, 33)])
@pytest.mark.parametrize("name", STRUCTURES)
def test_extrema_and_shared_ties(name: str, heads: int, width: int, reduce: str) -> None:
    """Small whole numbers, so that messages tie and every product is exact."""
    adj = STRUCTURES[name]
    x = leaf(2, adj.num_sources, max(heads, 1) * width, seed=0).mul(2).round()
    if heads == 0:
        agree(adj, lambda x: (propagate(adj, x, reduce=reduce),), x)
    else:
        weight = leaf(adj.num_edges, heads, seed=1).sign()
        agree(adj, lambda x, w: (propagate(adj, x, weight=w, reduce=reduce),), x, weight)


@pytest.mark.parametrize("value", [float("nan"), INF, -INF])
def test_results_for_nonfinite_numbers_equal_the_reference(value: float) -> None:
    adj = STRUCTURES["odd"]
    weight = leaf(adj.num_edges, seed=2).float()
    weight[5] = value
    for width, reduce, by in itertools.product((16, 20, 32, 64, 128), ("max", "min"), (None, weight)):
        x = leaf(13, width, seed=0).float()
        x[4, ::3] = value
        with backend("torch"):
            wanted = propagate(adj, x, weight=by, reduce=reduce)
        assert not math.isnan(value) or wanted.isnan().any()
        torch.testing.assert_close(propagate(adj, x, weight=by, reduce=reduce), wanted, rtol=0, atol=0, equal_nan=True)
    if value != INF:
        score = leaf(61, 4, seed=1).float()
        score[7, 1] = value
        with backend("torch"):
            probability = edge_softmax(adj, score)
        torch.testing.assert_close(edge_softmax(adj, score), probability, equal_nan=True)


@pytest.mark.parametrize("width", [3, 5, 12, 17, 40])
def test_infinite_extrema_have_infinite_gradients_of_weights(width: int) -> None:
    """If the last vector of a row overlaps the one before, counted numbers add nothing, not 0 times infinity."""
    adj = Adjacency.from_coo(target=[0], source=[0], num_targets=1, num_sources=1)
    weight = torch.ones(1, requires_grad=True)
    propagate(adj, torch.full((1, width), INF), weight=weight, reduce="max").backward(torch.ones(1, width))
    assert weight.grad.item() == INF


def test_second_order_runs_through_native_forwards() -> None:
    adj = STRUCTURES["odd"]
    found = []
    for name, dtype in (("native", torch.float32), ("torch", torch.float64)):
        with backend(name):
            q, k, v = (leaf(n, 2, 3, seed=i).to(dtype).requires_grad_() for i, n in enumerate((17, 13, 13)))
            out, lse = attend(adj, q, k, v)
            lse = torch.where(lse.isfinite(), lse, 0.0)
            first = torch.autograd.grad(out.square().sum() + lse.sum(), (q, k, v), create_graph=True)
            found.append(torch.autograd.grad(sum(g.square().sum() for g in first), (q, k, v)))
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=2e-5, atol=2e-5 * float(wanted.abs().max()))


# ---------------------------------------------------------------------- the same bits


def work(adj: Adjacency) -> list[Tensor]:
    t, s, e = adj.num_targets, adj.num_sources, adj.num_edges
    x, w = leaf(s, 24, seed=0).float().requires_grad_(), leaf(e, 3, seed=1).float().requires_grad_()
    found = [propagate(adj, x, weight=w, reduce=reduce) for reduce in ("sum", "max")]
    q, k, v = (leaf(n, 4, 8, seed=i).float().requires_grad_() for i, n in enumerate((t, s, s)))
    found += [*attend(adj, q, k, v), attend(adj, q[..., 0], k[..., 0], v, score=Additive()).out]
    found.append(edge_softmax(adj, w))
    safe = [torch.where(o.isfinite(), o, 0.0) for o in found]
    return [*found, *torch.autograd.grad(safe, (x, w, q, k, v), [torch.ones_like(o) for o in safe])]


@pytest.mark.parametrize("name", ["long", "odd"])
def test_threads_and_index_types_do_not_change_the_bits(name: str, threads: None) -> None:
    adj = STRUCTURES[name]
    wide = Adjacency(**{k: None if t is None else t.long() for k, t in vars(adj).items()})
    runs = []
    for count, structure in itertools.product((1, 2, 3), (adj, wide)):
        torch.set_num_threads(count)
        runs.append(work(structure))
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))


@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("objdump"), reason="needs x86_64 and objdump")
def test_the_compiler_does_not_remove_prefetches() -> None:
    """g++ removes calls of a function that only prefetches, because it sees no effect; this halves the speed."""
    done = subprocess.run(["objdump", "-d", kernels.find()], capture_output=True, text=True, check=True)
    assert done.stdout.count("prefetch") > 100


def test_layouts_do_not_matter_and_fakes_have_the_right_strides() -> None:
    """opcheck compares the strides of the fake implementations with those of the kernels."""
    adj = rows(STRUCTURES["odd"])
    turned = lambda *shape: torch.rand(*shape[::-1]).permute(*range(len(shape))[::-1])  # noqa: E731
    ops, alpha = torch.ops.hgraph, torch.rand(61, 4)
    q, k, v = turned(17, 4, 3), turned(13, 2, 3), turned(13, 2, 5)
    two = turned(17, 4), turned(17, 4)
    cases = [
        (ops.softmax, (turned(61, 4),)),
        (ops.softmax_grads, (alpha, turned(61, 4))),
        (ops.sddmm, (turned(17, 6), turned(13, 6), 2)),
        (ops.spmm, (turned(61, 2), turned(13, 6))),
        (ops.extremum, (turned(61, 2), turned(13, 6), True)),
        (ops.extremum_grads, (turned(61, 2), turned(13, 6), turned(17, 6), turned(17, 6), True, True)),
        (ops.attend, (q, k, v, turned(61, 2), None, 0.0, 0.5, None)),
        (ops.attend_grads, (q, k, v, turned(61, 2), None, 0.0, 0.5, None, *two, turned(17, 4, 5))),
    ]  # fmt: skip
    for operator, arguments in cases:
        torch.library.opcheck(operator.default, (adj, *arguments), test_utils=("test_schema", "test_faketensor"))
        packed = [a.contiguous() if isinstance(a, Tensor) else a for a in arguments]
        pair = [operator(adj, *given) for given in (arguments, packed)]
        pair = [out if isinstance(out, tuple) else (out,) for out in pair]
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


# ---------------------------------------------------------------------- choice and build of the backend


def test_auto_uses_built_kernels_and_backends_lists_them(native_cache: str) -> None:
    assert backends()["native"].startswith(f"available ({native_cache}")
    assert current_backend() == "native"
    assert current_backend("cuda") != "native"
    with backend("torch"):
        assert current_backend() == "torch"


def test_the_native_backend_rejects_unsupported_calls() -> None:
    adj = STRUCTURES["odd"]
    with (
        backend("native"),
        pytest.raises(errors.BackendError, match=r"'native' does not compute 'spmm' for torch.float64"),
    ):
        propagate(adj, leaf(13, 4, seed=0))
    assert propagate(adj, leaf(13, 4, seed=0)).dtype == torch.float64  # auto lets the reference


def test_a_change_of_any_source_needs_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, key = [kernels.SOURCE, *kernels.HEADERS], kernels._key.__wrapped__
    assert {p.name for p in sources} == {p.name for p in kernels.SOURCE.parent.iterdir() if p.suffix in (".cpp", ".h")}
    keys = {key()}
    for changed in sources:
        copies = [tmp_path / p.name for p in sources]
        for source, copy in zip(sources, copies, strict=True):
            copy.write_bytes(source.read_bytes() + b"// changed" * (source == changed))
        monkeypatch.setattr(kernels, "SOURCE", copies[0])
        monkeypatch.setattr(kernels, "HEADERS", copies[1:])
        keys.add(key())
    assert len(keys) == 1 + len(sources)


@pytest.mark.parametrize("asking", ["x", "weight", "both"])
@pytest.mark.parametrize("name", ["odd", "long", "no_edges", "nothing"])
def test_extremum_gradients_of_the_inputs_that_need_them(name: str, asking: str) -> None:
    """The same bits as if both inputs need gradients, for one example and for three."""
    adj = STRUCTURES[name]
    for batch in ((), (3,)):
        x, weight = leaf(*batch, adj.num_sources, 18, seed=0).float(), leaf(adj.num_edges, 2, seed=1).float()
        out = propagate(adj, x, weight=weight, reduce="min")
        given = (rows(adj), weight, x, out, leaf(*out.shape, seed=2).float())
        of_x, of_weight = asking != "weight", asking != "x"
        mine, wanted = (torch.ops.hgraph.extremum_grads(*given, *flags) for flags in ((of_weight, of_x), (True, True)))
        assert torch.equal(mine[0], wanted[0] if of_x else x.new_empty(0))
        assert torch.equal(mine[1], wanted[1] if of_weight else x.new_empty(0))


def test_a_read_only_folder_works(native_cache: str) -> None:
    folder = Path(native_cache)
    before = folder.stat().st_mode
    folder.chmod(0o555)
    try:
        assert native.state().startswith("available")
        assert native.build() == kernels.find()
    finally:
        folder.chmod(before)


def test_without_a_compiler_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HGRAPH_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(errors.BackendError, match=r"no C\+\+ compiler.*apt install g\+\+"):
        native.build()
    monkeypatch.setenv("CXX", "/nonexistent")
    with pytest.raises(errors.BackendError, match=r"\$CXX is /nonexistent, which is not a program here"):
        native.build()
    assert native.state() == "not built: run hgraph kernels build"
    assert current_backend() == "torch"
    with pytest.raises(errors.BackendError, match="'native' cannot run here: not built: run hgraph kernels build"):
        backend("native")


def test_sources_that_change_during_compilation_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HGRAPH_CACHE", str(tmp_path))
    before = kernels._key()
    monkeypatch.setattr(kernels, "_run", lambda command: "" if "--version" in command else Path(command[-2]).touch())
    monkeypatch.setattr(
        kernels, "_opened", lambda path: monkeypatch.setattr(kernels._key, "__wrapped__", lambda: "new")
    )
    with pytest.raises(errors.BackendError, match="the sources changed while they were compiled"):
        native.build()
    assert kernels._key() == before
    assert list(tmp_path.iterdir()) == []


def test_a_failing_compiler_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "cxx"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "native.cpp: no OpenMP" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("HGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(fake))
    with pytest.raises(errors.BackendError, match="failed:\nnative.cpp: no OpenMP"):
        native.build()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HGRAPH_CACHE", str(tmp_path / "file"))
    with pytest.raises(errors.BackendError, match=r"file .*Set HGRAPH_CACHE to another folder"):
        native.build()


def test_a_library_that_cannot_be_loaded_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HGRAPH_CACHE", str(tmp_path))
    library = tmp_path / f"native-{kernels._key()}-0.so"
    library.write_bytes(b"not a library")
    trust.record(library, library)
    assert native.state().startswith("cannot be loaded: ")
    assert current_backend() == "torch"


def test_the_command_prints_what_it_did_and_where(native_cache: str) -> None:
    command = [sys.executable, "-m", "hgraph.cli", "kernels", "build"]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=True)
    assert done.stdout == f"already built: {kernels.find()}\n"
