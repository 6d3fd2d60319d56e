"""`SoftAdjacency` and `SoftHypergraph`: dense participation."""

import copy
import math
import pickle

import pytest
import torch

from hgraph import SoftAdjacency, SoftHypergraph, load, propagate
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.choice import topk_mask


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (torch.ones(3), ArgumentError, r"weight: expected shape \[..., T, S\], got shape \[3\]"),
        (torch.ones(3, 3).long(), ArgumentTypeError, r"weight: expected a floating-point tensor, got torch.int64"),
        ([[1.0]], ArgumentTypeError, r"weight: expected a floating-point tensor, got list"),
    ],
)
def test_wrong_arguments_are_named(weight, error, message):
    with pytest.raises(error, match=message):
        SoftAdjacency.from_weight(weight)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 5, 3, 4), (0, 4), (3, 0)])
def test_shape_and_transpose(shape):
    soft = SoftAdjacency.from_weight(torch.rand(shape))
    assert soft.shape == shape[-2:]
    assert soft.transpose().shape == shape[-2:][::-1]
    assert torch.equal(soft.transpose().weight, soft.weight.mT)
    assert soft.transpose().transpose().equal(soft)


def test_masked_sources_have_weight_0_and_no_gradient():
    weight = torch.rand(2, 3, 4, requires_grad=True)
    keep = torch.tensor([[True, True, False, True], [False, True, True, True]])
    soft = SoftAdjacency.from_weight(weight).masked(keep)
    assert torch.equal(soft.weight, weight * keep[:, None])
    soft.weight.sum().backward()
    assert torch.equal(weight.grad, keep[:, None].expand(2, 3, 4).float())


@pytest.mark.parametrize(
    ("keep", "error", "got"),
    [
        (torch.ones(4), ArgumentTypeError, "torch.float32"),
        ([True] * 4, ArgumentTypeError, "list"),
        (torch.ones(3, dtype=torch.bool), ArgumentError, r"shape \[3\]"),
        (torch.tensor(True), ArgumentError, r"shape \[\]"),
    ],
)
def test_masked_refuses(keep, error, got):
    with pytest.raises(error, match=rf"keep: expected a boolean mask \[..., 4\], got {got}"):
        SoftAdjacency.from_weight(torch.rand(3, 4)).masked(keep)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(3, 4), ArgumentTypeError, "mask: expected a boolean tensor, got torch.float32"),
        (torch.ones(3, 3, dtype=torch.bool), ArgumentError, r"mask: expected a shape that broadcasts to \[3, 4\]"),
        (torch.ones(2, 3, 4, dtype=torch.bool), ArgumentError, r"got shape \[2, 3, 4\]"),
    ],
)
def test_a_mask_of_the_wrong_shape_is_rejected(mask, error, message):
    with pytest.raises(error, match=message):
        SoftAdjacency.from_weight(torch.rand(3, 4), mask=mask)


def test_masks_are_intersected_and_transposed_with_the_structure():
    weight, g = torch.rand(2, 3, 4), torch.Generator().manual_seed(0)
    edges, sources = torch.rand(2, 3, 4, generator=g) > 0.3, torch.tensor([True, True, True, False])
    soft = SoftAdjacency.from_weight(weight, mask=edges).masked(sources)
    assert torch.equal(soft.weight, weight * (edges & sources))
    assert torch.equal(soft.transpose().mask, (edges & sources).mT)
    assert torch.equal(soft.transpose().weight, soft.weight.mT)
    top = soft.topk(2)
    assert torch.equal(top.mask & ~soft.mask, torch.zeros_like(edges))  # what is no edge does not come back
    assert repr(soft) == "SoftAdjacency([2, 3, 4], masked, float32, cpu)"


def test_topk_does_not_count_padding_among_the_largest():
    soft = SoftAdjacency.from_weight(torch.tensor([[-1.0, -2.0, 0.0]]), mask=torch.tensor([True, True, False]))
    assert soft.topk(1).weight.tolist() == [[-1.0, 0.0, 0.0]]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_topk_keeps_the_largest(k):
    weight = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    top = SoftAdjacency.from_weight(weight).topk(k).weight
    for b in range(2):
        for t in range(3):
            least = sorted(weight[b, t].tolist())[-k]
            assert top[b, t].tolist() == [w if w >= least else 0 for w in weight[b, t].tolist()]
    top.sum().backward()
    assert torch.equal(weight.grad, (top != 0).float())


@pytest.mark.parametrize("k", range(6))
def test_masks_of_the_largest(k):
    """Against a loop, with ties, infinities and NaN."""
    rows = [
        [1.0, 3.0, 2.0, 3.0, 1.0],
        [0.0, 0.0, 0.0, -0.0, 0.0],
        [-math.inf, math.inf, math.inf, -math.inf, 1.0],
        [math.nan, 1.0, 2.0, math.nan, math.inf],
    ]
    for row, found in zip(rows, topk_mask(torch.tensor(rows), k).tolist(), strict=True):
        worth = [math.inf if math.isnan(value) else value for value in row]
        best = sorted(range(5), key=lambda i: (not math.isnan(row[i]), -worth[i], i))
        assert found == [i in best[:k] for i in range(5)]


@pytest.mark.parametrize("k", [0, 5])
def test_topk_refuses(k):
    with pytest.raises(ArgumentError, match=f"k: expected 1 .. 4, got {k}"):
        SoftAdjacency.from_weight(torch.rand(3, 4)).topk(k)


def test_equality_of_masks_and_text():
    soft = SoftAdjacency.from_weight(torch.rand(3, 4))
    assert not soft.equal(soft.masked(torch.tensor([True, True, True, False])))
    assert soft.equal(SoftAdjacency.from_weight(soft.weight, mask=torch.ones(1, 4, dtype=torch.bool)))
    assert repr(soft) == "SoftAdjacency([3, 4], float32, cpu)"


# ---------------------------------------------------------------------- SoftHypergraph


def participation(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 4, 5, 3), (2, 0, 3), (2, 5, 0)])
def test_both_directions_are_one_participation(shape):
    a = participation(*shape)
    soft = SoftHypergraph.from_participation(a)
    assert (soft.num_nodes, soft.num_hyperedges) == shape[-2:]
    assert torch.equal(soft.participation, a)
    x = torch.randn(*shape[:-1], 2, dtype=torch.float64)
    y = propagate(soft.v2e, x)
    torch.testing.assert_close(y, a.mT @ x)
    torch.testing.assert_close(propagate(soft.e2v, y), a @ (a.mT @ x))


def test_padded_nodes_neither_send_nor_receive():
    a, mask = participation(2, 4, 3), torch.tensor([[True, True, False, False], [True, True, True, True]])
    soft = SoftHypergraph.from_participation(a, mask=mask)
    x = torch.randn(2, 4, 2, dtype=torch.float64)
    out = propagate(soft.e2v, propagate(soft.v2e, x))
    single = SoftHypergraph.from_participation(a[:1, :2])
    torch.testing.assert_close(out[:1, :2], propagate(single.e2v, propagate(single.v2e, x[:1, :2])))
    assert not out[0, 2:].any()


def test_select_gathers_each_samples_hyperedges():
    a, index = participation(2, 5, 4), torch.tensor([[3, 0], [1, 1]])
    soft = SoftHypergraph.from_participation(a, mask=torch.rand(2, 5) > 0.2)
    chosen = soft.select(index)
    for b in range(2):
        assert torch.equal(chosen.participation[b], soft.participation[b][:, index[b]])
        assert torch.equal(chosen.e2v.weight[b], soft.e2v.weight[b][:, index[b]])
    assert torch.equal(chosen.v2e.mask, soft.v2e.mask)
    assert torch.equal(chosen.index, index)
    again = chosen.select(torch.tensor([[1], [0]]))  # numbers of the selection, remembered as numbers of the pool
    assert torch.equal(again.index, torch.tensor([[0], [1]]))
    assert torch.equal(again.participation[0, :, 0], soft.participation[0, :, 0])


def test_select_passes_gradients_only_to_the_selected():
    a = participation(1, 3, 4).requires_grad_()
    SoftHypergraph.from_participation(a).select(torch.tensor([[2, 0]])).participation.sum().backward()
    assert a.grad.sum(1).tolist() == [[3.0, 0.0, 3.0, 0.0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.select(torch.rand(2, 1)), ArgumentTypeError, "index: expected an integer tensor"),
        (lambda s: s.select(torch.tensor([1])), ArgumentError, r"index: expected shape \[2, K\], got shape \[1\]"),
        (lambda s: SoftHypergraph.from_participation(torch.ones(3)), ArgumentError, r"participation: expected shape"),
        (lambda s: SoftHypergraph.from_participation([[1]]), ArgumentTypeError, "floating-point tensor, got list"),
    ],
)  # fmt: skip
def test_wrong_arguments_of_a_soft_hypergraph_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(SoftHypergraph.from_participation(participation(2, 4, 3)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("selected", [False, True])
def test_soft_hypergraph_copies_files_and_text(masked, selected, tmp_path):
    mask = torch.tensor([True, True, False, True]) if masked else None
    soft = SoftHypergraph.from_participation(participation(2, 4, 3), mask=mask)
    soft = soft.select(torch.tensor([[2, 0], [1, 2]])) if selected else soft
    soft.save(tmp_path / "soft.safetensors")
    for other in (copy.deepcopy(soft), pickle.loads(pickle.dumps(soft)), load(tmp_path / "soft.safetensors")):
        assert other.equal(soft)
    assert not soft.equal(SoftHypergraph.from_participation(participation(2, 4, 3, seed=1)))
    assert repr(soft) == f"SoftHypergraph(batch [2], 4 nodes, {2 if selected else 3} hyperedges, float64, cpu)"
