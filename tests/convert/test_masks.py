"""Masks of other libraries become splits, also without a validation part; nodes without a label are left out."""

from __future__ import annotations

import pytest
import torch

from hgraph import Graph
from hgraph.convert import Converted
from hgraph.errors import ArgumentError

PATH = Graph.from_edge_index([[0, 1, 2], [1, 2, 3]], num_nodes=4, directed=False)


def mask(*ids):
    out = torch.zeros(4, dtype=torch.bool)
    out[list(ids)] = True
    return out


def data(y=(0, 1, 0, 1), **masks):
    return Converted(PATH, x=torch.eye(4), y=torch.tensor(y), node_attrs=masks).data()


@pytest.mark.checked(
    "splits", "Masks without a validation part make a split; a training mask without a test mask is an error."
)
def test_masks_without_validation_make_a_split():
    split = data(train_mask=mask(0, 1), test_mask=mask(2, 3)).split()
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0, 1], [], [2, 3])
    split = data(train_mask=mask(0), valid_mask=mask(1), test_mask=mask(2)).split()
    assert split.val.tolist() == [1]
    assert not data().splits
    assert not data(val_mask=mask(1)).splits
    with pytest.raises(ArgumentError, match=r"train_mask and test_mask.*got \['train_mask'\]"):
        data(train_mask=mask(0))


@pytest.mark.checked("labels", "Unlabeled nodes in a mask are left out of the split, with a note.")
@pytest.mark.parametrize("y", [(0, -1, 0, -1), ((0,), (-1,), (0,), (-1,))])
def test_nodes_without_a_label_leave_the_masks(y, caplog):
    split = data(y, train_mask=mask(0, 1), test_mask=mask(2, 3)).split()
    assert (split.train.tolist(), split.test.tolist()) == ([0], [2])
    assert "2 nodes without a label" in caplog.text
    several = data(y, train_mask=torch.stack([mask(0), mask(1, 2)], 1), test_mask=mask(3)).splits
    assert several["1"].train.tolist() == [2]
