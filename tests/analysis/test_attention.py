"""What the graph view of attention says, against dense matrices."""

from __future__ import annotations

import math

import pytest
import torch
from matplotlib.figure import Figure

from hgraph import analysis, nn, patterns
from hgraph.errors import ArgumentError

N, H = 12, 4


@pytest.fixture
def recorded():
    torch.manual_seed(0)
    layer = nn.SelfAttention(8, H, causal=True, num_kv_heads=2)
    x = torch.randn(3, N, 8)
    with nn.record_attention(layer) as records:
        layer(x)
    q, k = layer.query(x).unflatten(-1, (H, 2)), layer.key(x).unflatten(-1, (2, 2)).repeat_interleave(2, 2)
    score = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(2)
    share = score.masked_fill(torch.ones(N, N).triu(1).bool(), -float("inf")).softmax(-1).detach()
    return records[""][0], share


def test_column_mass_is_the_mean_of_columns(recorded):
    record, share = recorded
    torch.testing.assert_close(analysis.column_mass(record), share.mean((0, 2)), rtol=1e-5, atol=1e-6)


def test_targets_that_do_not_listen_do_not_count():
    layer, x = nn.SelfAttention(8, H), torch.randn(1, N, 8)
    mask = torch.ones(N, H, dtype=torch.bool)
    mask[1:, 0] = False
    with nn.record_attention(layer) as records:
        layer(x, head_mask=mask)
    torch.testing.assert_close(analysis.column_mass(records[""][0]).sum(1), torch.ones(H))


def test_mass_by_type_adds_up(recorded):
    record, share = recorded
    near, first = patterns.sliding_window(N, 3, causal=True), patterns.sinks(N, 1)
    types = {"near": near, "first": first - near, "rest": patterns.causal(N) - near - first}
    masses = analysis.mass_by_type(record, types)
    torch.testing.assert_close(sum(masses.values()), torch.ones(H), rtol=1e-5, atol=1e-5)
    for name, graph in types.items():
        expected = (share * graph.adjacency().dense()).sum((2, 3)).mean(0) / N
        torch.testing.assert_close(masses[name], expected, rtol=1e-5, atol=1e-6)
    ax = analysis.draw_mass_by_type(masses, Figure().subplots())
    ax.figure.canvas.draw()
    assert len(ax.patches) == 3 * H


def test_sinks_stand_out(recorded):
    record, share = recorded
    mass = share.mean((0, 2))
    expected = [[s for s in range(N) if mass[h, s] > 2 * mass[h].mean()] for h in range(H)]
    assert [sorted(s) for s in analysis.sinks(record, times=2.0)] == expected
    assert any(expected)
    analysis.draw_column_mass(mass, Figure().subplots()).figure.canvas.draw()


def test_receptive_fields_by_layer():
    power, window = patterns.power(64), patterns.sliding_window(64, 5, causal=True)
    fields = analysis.receptive_fields([power, window, power])
    loops = patterns.sliding_window(64, 1)
    assert fields[0].equal(power | loops)
    assert fields[1].equal((window | loops) @ (power | loops))
    assert fields[2].equal((power | loops) @ (window | loops) @ (power | loops))
    assert analysis.receptive_fields([power] * 3)[2].equal(power.reach(3))
    assert analysis.receptive_fields([]) == []


def test_head_importance_is_leaving_one_out():
    torch.manual_seed(0)
    layer, x = nn.SelfAttention(8, H), torch.randn(2, N, 8)
    with torch.no_grad():
        layer.out.weight[:, 2:4] = 0  # head 1 says nothing
    target = torch.randn(2, N, 8)

    def loss(mask):
        return (layer(x, head_mask=mask) - target).square().mean()

    found = analysis.head_importance(loss, H)
    assert found[1] == 0
    for h in (0, 2, 3):
        mask = torch.ones(1, H, dtype=torch.bool)
        mask[0, h] = False
        torch.testing.assert_close(found[h], (loss(mask) - loss(torch.ones(1, H, dtype=torch.bool))).detach())
    with pytest.raises(ArgumentError, match="loss: expected a scalar"):
        analysis.head_importance(lambda mask: torch.zeros(3), H)
