"""Structures read by `torch.load` are validated once, whatever was changed in the file; copies are not validated."""

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
    """A copy with another tensor at this path of field names."""
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
# Changes that give another valid structure: a large type, other empty rows, other entries of the input.
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
def test_valid_structures_are_loaded(name):
    assert loaded(CASES[name]).equal(CASES[name])
    CASES[name].validate()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "Graph: the fields are not those of this version"),
        ({"adj": 3}, "Graph: adj is int, expected Adjacency"),
        ({"adj": None}, "Graph: adj is NoneType"),
        ({"adj": CASES["Adjacency"], "more": 1}, "Graph: the fields are not those"),
        ([1, 2], "Graph: the fields are not those"),
    ],
)
def test_other_fields_are_refused(state, message):
    with pytest.raises(DataError, match=message):
        object.__new__(Graph).__setstate__(state)


@pytest.mark.parametrize("name", CASES)
def test_copies_are_not_validated(name, monkeypatch):
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


@pytest.mark.parametrize("kind", ["parameter", "meta"])
def test_one_odd_tensor_does_not_hide_the_others(kind):
    """A file may hold parameters, and tensors without values."""
    weight = torch.ones(9) if kind == "parameter" else torch.ones(9, device="meta")
    weight = torch.nn.Parameter(weight) if kind == "parameter" else weight
    adj = tampered(CASES["Adjacency"].with_weight(weight), ["indices"], first_is(2**30))
    with pytest.raises(DataError):
        loaded(adj)


def test_structures_of_another_class_are_refused():
    with pytest.raises(DataError, match="Graph: adj is Names, expected Adjacency"):
        object.__new__(Graph).__setstate__({"adj": CASES["Names"]})
    with pytest.raises(DataError, match="a graph is square"):
        object.__new__(Graph).__setstate__({"adj": CASES["Adjacency"]})
