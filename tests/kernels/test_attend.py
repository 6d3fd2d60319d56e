"""Attention on the Triton backend against the oracle; its gradients and dropout against the reference in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import Additive, Adjacency, Dot, attend, backend
from hgraph.kernels import split
from hgraph.testing import attend_oracle, degenerate_adjacencies, pairwise

STRUCTURES = degenerate_adjacencies()
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INF = float("inf")
COVER = pairwise(
    name=list(STRUCTURES),
    kind=["dot", "additive", "vector"],
    dtype=DTYPES,
    heads=[(1, 1), (4, 2), (3, 1), (3, 3)],
    width=[(3, 5), (16, 1), (1, 8)],
    bias=[None, "edge", "heads", "masked"],
    dropout=[0.0, 0.4],
    cut=[True, False],
)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 2


def inputs(adj: Adjacency, kind: str, heads: tuple[int, int], width: tuple[int, int], bias: str | None) -> list[Tensor]:
    """q, k, v, then a and the bias, if there are any."""
    own = () if kind == "additive" else (width[0],)
    given = [draw(adj.num_targets, heads[0], *own, seed=0), draw(adj.num_sources, heads[1], *own, seed=1)]
    given.append(draw(adj.num_sources, heads[1], width[1], seed=2))
    if kind == "vector":
        given.append(draw(heads[0], width[0], seed=3))
    if bias is not None:
        given.append(draw(adj.num_edges, *([] if bias == "edge" else [heads[0]]), seed=4))
    if bias == "masked":
        given[-1][::3] = -INF
        given[-1][adj.target == 1] = -INF
    return given


def run(
    adj: Adjacency, kind: str, given: list[Tensor], bias: bool, dropout: float, flows: list[Tensor]
) -> list[Tensor]:
    """out, lse and the gradients of all inputs, through both."""
    leaves = [t.detach().requires_grad_() for t in given]
    score = {"dot": Dot(), "additive": Additive()}.get(kind) or Additive(leaves[3])
    out, lse = attend(
        adj, *leaves[:3], score=score, bias=leaves[-1] if bias else None, scale=0.7, dropout=dropout,
        generator=torch.Generator(adj.device).manual_seed(5),
    )  # fmt: skip
    grads = torch.autograd.grad([out, lse.masked_fill(lse == -INF, 0.0)], leaves, flows)
    return [out.detach(), lse.detach(), *grads]


def close(got: Tensor, want: Tensor, dtype: torch.dtype, adj: Adjacency, rounded: float = 0.0) -> None:
    """Check within rounding errors, relative to 1 or to the largest number of the tensor.

    Scores up to size 4 shift an exponential by 4 roundings; sums of E terms add E of them; half types round once more
    at the end. ``rounded``: by how much delta, made of an output in a half type, shifts the gradient of a score.
    """
    assert got.shape == want.shape
    if got.numel() == 0:
        return
    finite = want.masked_fill(want.isinf(), 0).abs()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    bound = (adj.num_edges + 32) * torch.finfo(wide).eps * max(1.0, float(finite.max())) + rounded
    bound = bound + (2 * torch.finfo(dtype).eps * finite if dtype != wide else 0)
    off = torch.where(got.double() == want, 0.0, (got.double() - want).abs())
    assert (off <= bound).all(), f"off by {off.max():.3g}"


@pytest.mark.parametrize(("name", "kind", "dtype", "heads", "width", "bias", "dropout", "cut"), COVER)
def test_pairs(
    name: str, kind: str, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], bias: str | None,
    dropout: float, cut: bool, device: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if cut:
        monkeypatch.setattr(split, "LONGEST", 8)
    check(name, kind, dtype, heads, width, bias, dropout, device)


def check(
    name: str, kind: str, dtype: torch.dtype, heads: Any, width: Any, bias: str | None, dropout: float, device: str
) -> None:
    adj = STRUCTURES[name]
    given = [t.to(dtype) for t in inputs(adj, kind, heads, width, bias)]
    flows = [draw(adj.num_targets, heads[0], width[1], seed=6), draw(adj.num_targets, heads[0], seed=7)]
    lse_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    typed = [flows[0].to(dtype).to(device), flows[1].to(lse_dtype).to(device)]
    here = [t.to(device) for t in given]
    got = run(adj.to(device), kind, here, bias is not None, dropout, typed)
    if device != "cpu" or split.LONGEST == 8:  # the interpreter is quick enough for where rows are cut
        again = run(adj.to(device), kind, here, bias is not None, dropout, typed)
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))  # bit for bit
    with backend("torch"):
        wide = [t.double() for t in given]
        want = run(adj, kind, wide, bias is not None, dropout, [t.cpu().double() for t in typed])
    if dropout == 0:
        score = {"dot": Dot(), "additive": Additive()}.get(kind) or Additive(wide[3])
        oracle = attend_oracle(adj, *wide[:3], score=score, bias=None if bias is None else wide[-1], scale=0.7)
        for a, b in zip(want[:2], oracle, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    delta = float((flows[0] * want[0]).abs().sum(-1).max()) if want[0].numel() else 0.0
    rounded = delta * torch.finfo(dtype).eps if dtype != lse_dtype else 0.0
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        # alpha sums to 1 over a row; a column gets at most one from each target, times q or k of size 2
        close(a.cpu(), b, a.dtype, adj, rounded * 2 * max(adj.num_targets, 1) if i > 1 else 0.0)


# With chunks of eight edges, the third row begins within one chunk and ends in another, where the fourth begins.
STRUCTURES["long rows anywhere"] = Adjacency.from_coo(
    target=[0] * 3 + [1] * 2 + [2] * 21 + [3] * 9 + [5] * 8, source=[*range(43)], num_targets=7, num_sources=43
)


@pytest.mark.parametrize(("kind", "dropout"), [("dot", 0.0), ("additive", 0.4)])
def test_long_rows_begin_anywhere(kind: str, dropout: float, device: str, short_stretches: None) -> None:
    check("long rows anywhere", kind, torch.float32, (4, 2), (3, 5), "heads", dropout, device)


def test_more_numbers_than_int32_counts(device: str) -> None:
    """Read the last row of a table of 4 GB, of which only these pages are allocated."""
    from hgraph.kernels.csr_attend import Inputs, csr_attend

    width, last = 64, 2**25 + 1
    v = torch.empty((last + 1, 1, width), dtype=torch.bfloat16, device=device)
    v[last], v[1] = 1.0, 0.0
    indptr, indices, target = (torch.tensor(t, dtype=torch.int32, device=device) for t in ([0, 2], [1, last], [0, 0]))
    q = torch.full((1, 1, width), 0.5, dtype=torch.bfloat16, device=device)
    out, lse = csr_attend(indptr, indices, target, Inputs(q, v, v, None, None, 0.0, 1 / 32, None))
    probability = torch.tensor([0.0, 1.0]).softmax(0)[1]  # of scores 0 and width / 2 / 32
    torch.testing.assert_close(out.float().cpu(), probability.expand(1, 1, width), rtol=0.01, atol=0)
    torch.testing.assert_close(lse.cpu(), torch.tensor([[0.0, 1.0]]).logsumexp(1, keepdim=True))


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_addresses_in_int64_give_the_same_bits(
    kind: str, device: str, monkeypatch: pytest.MonkeyPatch, short_stretches: None
) -> None:
    adj = STRUCTURES["hub"]
    given = [t.to(device) for t in inputs(adj, kind, (2, 1), (4, 3), "heads")]
    flows = [draw(adj.num_targets, 2, 3, seed=6).to(device), draw(adj.num_targets, 2, seed=7).to(device)]
    narrow = run(adj.to(device), kind, given, True, 0.2, flows)
    monkeypatch.setattr(split, "WIDE_FROM", 0)
    assert split.wide(given[0])
    assert all(
        torch.equal(a, b) for a, b in zip(narrow, run(adj.to(device), kind, given, True, 0.2, flows), strict=True)
    )


@pytest.mark.parametrize("width", [1, 31, 65, 256, 700, 1024])
def test_widths(width: int, device: str) -> None:
    check("duplicates", "dot", torch.float32, (2, 2), (width, width), None, 0.0, device)


def test_batches_are_folded_into_heads(device: str, short_stretches: None) -> None:
    adj = STRUCTURES["odd"].to(device)
    q, k, v = (draw(2, n, h, 4, seed=i).to(device) for i, (n, h) in enumerate([(17, 2), (13, 1), (13, 1)]))
    both, single = attend(adj, q, k, v), attend(adj, q[1], k[1], v[1])
    assert torch.equal(both.out[1], single.out)
    assert torch.equal(both.lse[1], single.lse)


def test_large_scores_neither_overflow_nor_vanish(device: str, short_stretches: None) -> None:
    adj = Adjacency.from_coo(target=[0] * 20, source=range(20), num_targets=1, num_sources=20).to(device)
    q, k = torch.full((1, 1, 1), 1e4), torch.arange(20.0).view(20, 1, 1)
    v = torch.arange(20.0).view(20, 1, 1)
    out, lse = attend(adj, q.to(device), k.to(device), v.to(device), scale=1.0)
    assert out.item() == 19.0
    assert lse.item() == 19e4
