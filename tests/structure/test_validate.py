"""What `torch.load` brings from a file is looked at once, whatever was changed in it; copies are not."""

from __future__ import annotations

import copy
import io
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch import Tensor

from hgraph.errors import DataError
from hgraph.structure import Graph
from hgraph.structure.base import Structure
from tests.structure.cases import CASES


def tampered(structure, path, change):
    """A copy in which the tensor at that path of field names is another."""
    other = copy.copy(structure)
    name, *rest = path
    value = vars(structure)[name]
    vars(other)[name] = tampered(value, rest, change) if rest else change(value)
    return other


def paths(structure, so_far=()):
    for name, value in vars(structure).items():
        if isinstance(value, Tensor):
            yield (*so_far, name)
        elif isinstance(value, Structure):
            yield from paths(value, (*so_far, name))


def at(structure, path):
    for name in path:
        structure = vars(structure)[name]
    return structure


def loaded(structure):
    file = io.BytesIO()
    torch.save(structure, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def first_is(value):
    def change(t):
        t = t.clone()
        t.view(-1)[0] = value
        return t

    return change


CHANGES = {
    "negative": first_is(-5),
    "far away": first_is(2**31 - 2),
    "shorter": lambda t: t[..., :-1],
    "longer": lambda t: torch.cat([t, t[..., -1:]], -1),
    "floats": lambda t: t.double(),
    "another shape": lambda t: t.unsqueeze(0),
}
# Changes that make another whole structure: a large type, other empty rows, other entries of the input.
LEGAL = {
    "node_type": {"far away"},
    "index": {"far away"},  # of a pool that the structure does not know
    "input_order": {"shorter", "longer"},
    **{key: {"shorter", "longer"} for key in ("indptr", "t_indptr", "relation_indptr")},
}
INTEGERS = [
    pytest.param(name, path, id=f"{name}-{'.'.join(path)}")
    for name, structure in CASES.items()
    for path in paths(structure)
    if at(structure, path).numel() and at(structure, path).dtype in (torch.int32, torch.int64)
]


@pytest.mark.parametrize(("name", "path"), INTEGERS)
def test_integers_that_were_changed_are_refused(name, path):
    for kind, change in CHANGES.items():
        if kind in LEGAL.get(path[-1], ()):
            continue
        with pytest.raises(DataError):
            loaded(tampered(CASES[name], path, change))
            pytest.fail(kind)


@pytest.mark.parametrize("name", CASES)
def test_tensors_of_another_shape_are_refused(name):
    for path in paths(CASES[name]):
        if path[-1] in ("text", "mask") or at(CASES[name], path).dim() > 1:  # a shorter text is one; B, H may be more
            continue
        with pytest.raises(DataError):
            loaded(tampered(CASES[name], path, CHANGES["another shape"]))


@pytest.mark.parametrize("name", CASES)
def test_what_is_whole_is_loaded(name):
    assert loaded(CASES[name]).equal(CASES[name])
    CASES[name].validate()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "Graph: the fields are not those of this version"),
        ({"adj": 3}, "Graph: adj is int, not Adjacency"),
        ({"adj": None}, "Graph: adj is NoneType"),
        ({"adj": CASES["Adjacency"], "more": 1}, "Graph: the fields are not"),
        ([1, 2], "Graph: the fields are not"),
    ],
)
def test_other_fields_are_refused(state, message):
    with pytest.raises(DataError, match=message):
        object.__new__(Graph).__setstate__(state)


@pytest.mark.parametrize("name", CASES)
def test_copies_are_not_looked_at(name, monkeypatch):
    structure, looks = CASES[name], []
    for kind in {type(structure), *(type(v) for v in vars(structure).values() if isinstance(v, Structure))}:
        monkeypatch.setattr(kind, "check_fields", lambda self: looks.append(self))
    sent = pickle.loads(ForkingPickler.dumps(structure))
    for other in (copy.copy(structure), copy.deepcopy(structure), sent):
        assert other.equal(structure)
        assert type(other) is type(structure)
    assert not looks
    pickle.loads(pickle.dumps(structure))
    assert looks
