"""`SoftAdjacency`: dense participation."""

import copy
import pickle

import pytest
import torch

from hgraph import SoftAdjacency
from hgraph.errors import ArgumentError, ArgumentTypeError


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


def test_masked_sources_weigh_nothing_and_get_no_gradient():
    weight = torch.rand(2, 3, 4, requires_grad=True)
    keep = torch.tensor([[True, True, False, True], [False, True, True, True]])
    soft = SoftAdjacency.from_weight(weight).masked(keep)
    assert torch.equal(soft.weight, weight * keep[:, None])
    soft.weight.sum().backward()
    assert torch.equal(weight.grad, keep[:, None].expand(2, 3, 4).float())


@pytest.mark.parametrize("keep", [torch.ones(4), torch.ones(3, dtype=torch.bool)])
def test_masked_refuses(keep):
    with pytest.raises(ArgumentError, match=r"keep: expected a boolean mask \[..., 4\], got torch"):
        SoftAdjacency.from_weight(torch.rand(3, 4)).masked(keep)


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


@pytest.mark.parametrize("k", [0, 5])
def test_topk_refuses(k):
    with pytest.raises(ArgumentError, match=f"k: expected 1 .. 4, got {k}"):
        SoftAdjacency.from_weight(torch.rand(3, 4)).topk(k)


def test_equal_copies_and_text():
    soft = SoftAdjacency.from_weight(torch.rand(3, 4))
    assert copy.deepcopy(soft).equal(soft)
    assert pickle.loads(pickle.dumps(soft)).equal(soft)
    assert not soft.equal(SoftAdjacency.from_weight(soft.weight + 1))
    assert not soft.equal(soft.weight)
    assert repr(soft) == "SoftAdjacency([3, 4], float32, cpu)"
