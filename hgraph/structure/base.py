"""Base class of all structures: move, pin, copy, pickle, save."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import torch
from torch import Tensor

from hgraph._torch import is_eager, ordinary_tensors
from hgraph.errors import DataError

__all__ = ["Structure", "moved"]

S = TypeVar("S", bound="Structure")


class Structure:
    """Base of all structures: frozen dataclasses whose fields are tensors, structures or None.

    >>> from hgraph.structure import Graph
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    >>> isinstance(graph, Structure), graph.to("cpu") is graph
    (True, True)
    """

    def __post_init__(self) -> None:
        """Clone `torch.inference_mode` tensors, which cannot be used in training, to ordinary ones."""
        if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
            return
        with ordinary_tensors():
            for name, value in list(vars(self).items()):
                if isinstance(value, Tensor) and value.is_inference():
                    object.__setattr__(self, name, value.clone())

    def tensors(self) -> list[Tensor]:
        """All tensors, including those of nested structures."""
        found: list[Tensor] = []
        for value in vars(self).values():
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, Structure):
                found.extend(value.tensors())
        return found

    def to(self: S, device: torch.device | str, *, non_blocking: bool = False) -> S:
        """The same structure on another device; returns itself, with everything cached, if it is already there."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self: S) -> S:
        """Return a copy in page-locked memory, for asynchronous copies to a GPU."""
        return self._map(Tensor.pin_memory)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the structure atomically to a safetensors file; :func:`hgraph.load` loads it."""
        from hgraph.data.io import save

        save(self, path)

    def validate(self) -> None:
        """Check that the fields are consistent, including those of nested structures.

        Raises:
            DataError: the fields are inconsistent.
        """
        for value in vars(self).values():
            if isinstance(value, Structure):
                value.validate()
        self.check_fields()

    def check_fields(self) -> None:
        """Check that the fields are consistent, without nested structures.

        Raises:
            DataError: the fields are inconsistent.
        """

    # ------------------------------------------------------------------ copies

    def __init_subclass__(cls, **options: Any) -> None:
        """Let DataLoader workers and other child processes send structures without checking them again."""
        super().__init_subclass__(**options)
        ForkingPickler.register(cls, _sent)

    def __setstate__(self, state: Any) -> None:
        """Restore from a pickle or `torch.load`; checks the fields, because they may come from a file."""
        _fill(self, state)
        Structure.__post_init__(self)
        if is_eager():  # fake tensors, which a mode makes of files, have no values to check
            for tensor in self.tensors():
                if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.is_meta:
                    kind = "a meta tensor" if tensor.is_meta else type(tensor).__name__
                    raise DataError(f"{type(self).__name__}: expected tensors with values, got {kind}")
            self.check_fields()

    def __copy__(self: S) -> S:
        """A shallow copy with the same tensors."""
        return _received(type(self), vars(self))

    def __deepcopy__(self: S, memo: dict[int, Any]) -> S:
        """A deep copy with cloned tensors."""
        return _received(type(self), {name: copy.deepcopy(value, memo) for name, value in vars(self).items()})

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.tensors()[0].device

    def _map(self: S, function: Callable[[Tensor], Tensor]) -> S:
        changed: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                changed[name] = function(value)
            elif isinstance(value, Structure):
                changed[name] = value._map(function)
        if all(getattr(self, name) is value for name, value in changed.items()):
            return self
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]


def _sent(structure: Structure) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return _received, (type(structure), vars(structure))


def _received(kind: type[S], fields: Mapping[str, Any]) -> S:
    structure = object.__new__(kind)
    vars(structure).update(fields)
    Structure.__post_init__(structure)
    return structure


def _fill(structure: Structure, state: Any) -> None:
    """Set the fields after checking their names and types.

    Raises:
        DataError: missing, unknown or mistyped fields.
    """
    name = type(structure).__name__
    fields = dataclasses.fields(structure)  # type: ignore[arg-type]
    if not isinstance(state, dict) or set(state) != {f.name for f in fields}:
        raise DataError(f"{name}: the fields are not those of this version of hgraph")
    for f in fields:
        value, annotation = state[f.name], str(f.type)
        fits = isinstance(value, Tensor) if "Tensor" in annotation else _is_named(type(value), annotation)
        if not fits and not (value is None and "None" in annotation):
            raise DataError(f"{name}: {f.name} is {type(value).__name__}, expected {annotation}")
    vars(structure).update(state)


def _is_named(kind: type, annotation: str) -> bool:
    """Whether a class, or one that it is derived from, is the one of an annotation."""
    return any(base.__name__ in re.findall(r"\w+", annotation) for base in kind.__mro__)


def moved(record: Any, device: torch.device | str) -> Any:
    """Move a record of structures, tensors, mappings and records to another device; other values are unchanged."""
    done: dict[int, Any] = {}  # objects that splits and data share are moved once and stay shared

    def move(value: Any) -> Any:
        if id(value) not in done:
            done[id(value)] = move_once(value)
        return done[id(value)]

    def move_once(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: move(v) for k, v in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, (type, Structure)):
            fields = {f.name: move(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return dataclasses.replace(value, **fields)
        return value.to(device) if hasattr(value, "to") else value

    return move(record)
