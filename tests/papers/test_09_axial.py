"""Axial attention (card 09, checks 1, 2 and 5): lines of a grid."""

from __future__ import annotations

import math

import pytest
import torch

from hgraph import attend, patterns
from hgraph.nn import AxialAttention


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_line(shape, axis, causal):
    cells = torch.stack(torch.unravel_index(torch.arange(math.prod(shape)), shape), 1)
    other = [a for a in range(len(shape)) if a != axis]
    mask = (cells[:, None, other] == cells[None, :, other]).all(-1)
    return mask & (cells[None, :, axis] <= cells[:, None, axis]) if causal else mask


def dense(layer, x, mask):
    """Attention over all cells with a mask, written out; rows that hear nobody are 0."""
    q, k, v = (f(x).unflatten(-1, (layer.query_heads, layer.head_dim)) for f in (layer.query, layer.key, layer.value))
    score = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(layer.head_dim)
    share = score.masked_fill(~mask, -float("inf")).softmax(-1).nan_to_num(0.0)
    return layer.out(torch.einsum("bhts,bshd->bthd", share, v).flatten(2))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((5, 7), 0), ((5, 7), -1), ((3, 4, 5), 1), ((1, 9), 1)])
def test_axialattention_parity(shape, axis, causal):
    layer = AxialAttention(8, 2, ndim=len(shape), axis=axis, causal=causal).double()
    x = numbers(2, *shape, 8)
    mask = same_line(shape, axis % len(shape), causal)
    expected = dense(layer.layers[0], x.flatten(1, -2), mask).view_as(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduce", ["sequential", "sum"])
def test_all_axes(reduce):
    layer, x = AxialAttention(8, 2, reduce=reduce).double(), numbers(2, 5, 7, 8)
    cells = x.flatten(1, 2)
    rows, columns = (same_line((5, 7), axis, False) for axis in range(2))
    first = dense(layer.layers[0], cells, rows)
    second = dense(layer.layers[1], first if reduce == "sequential" else cells, columns)
    expected = second if reduce == "sequential" else first + second
    torch.testing.assert_close(layer(x), expected.view_as(x), rtol=1e-12, atol=1e-12)


def test_one_row_is_full_attention():
    x = numbers(1, 1, 9, 2, 4)[0, 0]
    ours, full = (attend(g, x, x, x).out for g in (patterns.axial((1, 9), 1), patterns.full(9)))
    torch.testing.assert_close(ours, full, rtol=1e-12, atol=1e-12)


def test_padding_hears_nobody_and_is_not_heard():
    layer, x = AxialAttention(8, 2, axis=0).double(), numbers(2, 5, 7, 8)
    mask = torch.ones(2, 5, 7, dtype=torch.bool)
    mask[0, 3:] = mask[1, :, 2] = False  # a cut, and a line that is all padding
    present = mask.flatten(1)
    allowed = same_line((5, 7), 0, False) & present[:, None, :] & present[:, :, None]
    expected = dense(layer.layers[0], x.flatten(1, 2), allowed.unsqueeze(1)).view_as(x)
    torch.testing.assert_close(layer(x, mask), expected, rtol=1e-12, atol=1e-12)


def test_two_layers_reach_every_cell():
    rows, columns = patterns.axial((6, 9), 1), patterns.axial((6, 9), 0)
    assert (rows @ columns).density == 1
    assert (rows.degree() == 9).all()
    assert (columns.degree() == 6).all()


def test_edges_and_exponent():
    """One layer at 64 x 64 has 262,144 edges a head where full attention has 16,777,216; N to the 3/2 in general."""
    assert patterns.axial((64, 64), 0).num_edges == 262_144
    assert patterns.full(64 * 64).num_edges == 16_777_216
    edges = [patterns.axial((side, side), 0).num_edges for side in (16, 64)]
    assert math.log(edges[1] / edges[0]) / math.log((64 / 16) ** 2) == 1.5
    video = patterns.axial((8, 8, 8), 1)
    assert video.num_edges == 512 * 8


def test_axial_attention_is_one_run_a_cell():
    """A line becomes a run once its axis runs fastest: tiles are as many as a block-diagonal graph has."""
    graph = patterns.axial((64, 64), 0)
    assert graph.num_runs == 64 * 64
    assert graph.num_tiles(64) == 64
