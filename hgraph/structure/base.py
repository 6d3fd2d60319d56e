"""What every structure can do: move, pin, save."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from hgraph._torch import ordinary_tensors

__all__ = ["Structure", "moved"]

S = TypeVar("S", bound="Structure")


class Structure:
    """Base of the nouns: frozen dataclasses whose fields are tensors, structures or None.

    >>> from hgraph.structure import Graph
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    >>> isinstance(graph, Structure), graph.to("cpu") is graph
    (True, True)
    """

    def __post_init__(self) -> None:
        """Copy tensors of `torch.inference_mode`, with which nobody could train, into ordinary ones."""
        if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
            return
        with ordinary_tensors():
            for name, value in list(vars(self).items()):
                if isinstance(value, Tensor) and value.is_inference():
                    object.__setattr__(self, name, value.clone())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the fields of a copy or of a pickle."""
        vars(self).update(state)
        Structure.__post_init__(self)

    def tensors(self) -> list[Tensor]:
        """Every tensor held, those of nested structures included."""
        found: list[Tensor] = []
        for value in vars(self).values():
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, Structure):
                found.extend(value.tensors())
        return found

    def to(self: S, device: torch.device | str, *, non_blocking: bool = False) -> S:
        """The same structure on another device; itself where it is there already, with all that was derived from it."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self: S) -> S:
        """The same structure in page-locked memory, for asynchronous copies to a GPU."""
        return self._map(Tensor.pin_memory)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the structure to one safetensors file, atomically; :func:`hgraph.load` reads it back."""
        from hgraph.data.io import save

        save(self, path)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
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


def moved(record: Any, device: torch.device | str) -> Any:
    """A record of structures, tensors, mappings and records, on another device; what is not such stays."""
    done: dict[int, Any] = {}  # what splits and data share stays shared, so nothing is copied twice

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
