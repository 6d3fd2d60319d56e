"""Clauses of structures: one check per clause."""

from __future__ import annotations

import copy
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgraph.data import load
from hgraph.errors import DataError
from hgraph.structure import Structure


def check_equality(structure: Structure) -> None:
    """A structure equals itself, nothing of another type, and no structure with other values."""
    assert _equal(structure, structure), "a structure differs from itself"
    for other in (None, 3, "text", torch.zeros(1)):
        assert not _equal(structure, other), f"a structure equals {other!r}"
    weighted = [t for t in structure.tensors() if t.is_floating_point() and t.numel()]
    if weighted:
        changed = structure._map(lambda t: t + 1 if t.is_floating_point() else t)
        assert not _equal(structure, changed), "structures with different weights are equal"


def check_copies(structure: Structure) -> None:
    """A deep copy and a pickled copy are equal; a deep copy shares no memory."""
    deep = copy.deepcopy(structure)
    _assert_equal(deep, structure, "a deep copy")
    for mine, other in zip(structure.tensors(), deep.tensors(), strict=True):
        assert mine.numel() == 0 or mine.data_ptr() != other.data_ptr(), "a deep copy shares memory with its structure"
    _assert_equal(pickle.loads(pickle.dumps(structure)), structure, "a pickled copy")  # noqa: S301 - our own bytes


def check_file(structure: Structure) -> None:
    """`hgraph.load` reads what ``save`` writes, bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        structure.save(Path(folder) / "structure")
        _assert_equal(load(Path(folder) / "structure"), structure, "a structure from its file")


def check_damaged_file(structure: Structure) -> None:
    """`hgraph.load` rejects a truncated file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "structure"
        structure.save(path)
        content = path.read_bytes()
        for length in (0, 8, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            try:
                load(path)
            except DataError:
                continue
            raise AssertionError(f"load reads a file cut to {length} of {len(content)} bytes")


def check_device(structure: Structure) -> None:
    """``to`` the same device returns the structure itself; to another one it moves every tensor."""
    assert structure.to("cpu") is structure, "structure.to('cpu') is a copy"
    moved = structure.to("meta")
    assert type(moved) is type(structure)
    assert all(t.is_meta for t in moved.tensors()), "some tensors stay on their device"


def check_text(structure: Structure) -> None:
    """``repr`` is one short line with the name of the type, not its tensors."""
    text = repr(structure)
    assert text.startswith(type(structure).__name__), f"repr does not start with the type: {text}"
    assert len(text) < 200, f"repr has {len(text)} characters"
    assert "\n" not in text, "repr has several lines"


def _equal(structure: Any, other: Any) -> bool:
    return bool(structure.equal(other))


def _assert_equal(found: Structure, expected: Structure, what: str) -> None:
    assert type(found) is type(expected), f"{what} is a {type(found).__name__}, expected {type(expected).__name__}"
    assert _equal(found, expected), f"{what} is not equal"
    for mine, other in zip(found.tensors(), expected.tensors(), strict=True):
        assert mine.dtype == other.dtype, f"{what}: a tensor of {mine.dtype}, expected {other.dtype}"
        assert _same_bits(mine, other), f"{what}: a tensor differs"


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


STRUCTURE = (check_equality, check_copies, check_file, check_damaged_file, check_device, check_text)
