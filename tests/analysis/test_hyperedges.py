"""Recording and drawing soft hyperedges."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from hgraph import SoftHypergraph
from hgraph.analysis import draw_hyperedges, record_hyperedges
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import C3AH, SoftHGNN, SoftHGNNSeS


def test_recorded_are_the_hyperedges_of_the_last_forward():
    torch.manual_seed(0)
    model = nn.ModuleDict({"one": SoftHGNN(8, 3, 2), "two": C3AH(8, 16, 4)}).eval()
    x, image = torch.randn(2, 6, 8), torch.randn(2, 8, 3, 5)
    with record_hyperedges(model) as found:
        assert found == {}
        model["one"](torch.randn(2, 4, 8))
        out = model["one"](x)
        model["two"](image)
    assert list(found) == ["one.edge_generator", "two.m.hgnn.edge_generator"]
    assert found["one.edge_generator"].equal(model["one"].edge_generator(x))
    assert found["two.m.hgnn.edge_generator"].num_nodes == 15
    assert not found["one.edge_generator"].participation.requires_grad
    assert torch.equal(model["one"](x), out)  # the layer is as it was
    assert len(found) == 2
    assert "hyperedges" not in vars(model["one"].edge_generator)


def test_of_a_selection_the_chosen_ones():
    layer = SoftHGNNSeS(8, 5, 2, 3, 2).eval()
    with record_hyperedges(layer) as found:
        layer(torch.randn(2, 6, 8))
    assert found["edge_generator"].num_hyperedges == 5


def test_the_layer_is_as_it_was_after_an_error():
    layer = SoftHGNN(8, 3, 2)
    with pytest.raises(ZeroDivisionError), record_hyperedges(layer):
        1 / 0
    assert "hyperedges" not in vars(layer.edge_generator)
    with pytest.raises(ArgumentError, match="model: expected a model with SoftHyperedges, got Linear"):
        with record_hyperedges(nn.Linear(1, 1)):
            pass


def participation(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).softmax(-2)


def test_a_panel_shows_times_the_uniform_share():
    a = participation(2, 12, 3)
    figure = draw_hyperedges(SoftHypergraph.from_participation(a), torch.rand(3, 30, 40), grid=(3, 4), sample=1)
    panels = figure.axes[:-1]  # the last are the colors
    assert [p.get_title().split(":")[0] for p in panels] == ["image", "hyperedge 0", "hyperedge 1", "hyperedge 2"]
    for m, panel in enumerate(panels[1:]):
        shown = np.asarray(panel.images[1].get_array())
        np.testing.assert_allclose(shown, np.maximum(12 * a[1, :, m].view(3, 4).numpy(), 1), rtol=1e-6)
        assert panel.images[0].get_extent() == panel.images[1].get_extent()  # the cells lie on their pixels
    figure.savefig(io.BytesIO())


def test_where_a_hyperedge_is():
    """All of its weight in one cell of a hundred, and half of it in five."""
    a = torch.zeros(100, 2)
    a[7, 0], a[:10, 1] = 1.0, 0.1
    figure = draw_hyperedges(SoftHypergraph.from_participation(a), torch.rand(20, 20), names=["one", "ten"])
    assert [p.get_title() for p in figure.axes[1:3]] == ["one: half in 1 %", "ten: half in 5 %"]
    assert np.asarray(figure.axes[1].images[1].get_array()).argmax() == 7


@pytest.mark.parametrize("shape", [(16, 3), (1, 16, 3), (1, 2, 16, 3)])
@pytest.mark.parametrize("image", [(3, 8, 8), (1, 8, 8), (8, 8)])
def test_batches_heads_and_kinds_of_images(shape, image):
    soft = SoftHypergraph.from_participation(participation(*shape))
    assert len(draw_hyperedges(soft, torch.rand(image), columns=2).axes) in (5, 6)


def test_uniform_and_empty_hyperedges_are_drawn():
    for a in (torch.full((16, 2), 1 / 16), torch.zeros(16, 2), torch.zeros(16, 0)):
        draw_hyperedges(SoftHypergraph.from_participation(a), torch.rand(8, 8)).savefig(io.BytesIO())


SOFT = SoftHypergraph.from_participation(participation(2, 12, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: draw_hyperedges(SOFT, torch.rand(8, 8)), ArgumentError, "grid: expected rows and columns of 12 cells"),
        (lambda: draw_hyperedges(SOFT, torch.rand(2, 8, 8), grid=(3, 4)), ArgumentError, r"image: expected shape \[3"),
        (lambda: draw_hyperedges(SOFT, np.zeros((8, 8)), grid=(3, 4)), ArgumentTypeError, "got ndarray"),
        (lambda: draw_hyperedges(SOFT, torch.rand(8, 8), grid=(3, 4), sample=2), ArgumentError, "sample: expected"),
        (lambda: draw_hyperedges(SOFT, torch.rand(8, 8), grid=(3, 4), columns=0), ArgumentError, "columns: expected 1"),
        (lambda: draw_hyperedges(SOFT, torch.rand(8, 8), grid=(3, 4), names=["a"]), ArgumentError, "names: expected 3"),
        (lambda: draw_hyperedges(torch.rand(3), torch.rand(8, 8)), ArgumentTypeError, "soft: expected a Soft"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
