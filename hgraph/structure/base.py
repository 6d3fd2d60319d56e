"""What every structure can do: move, pin, save; and how derived values are kept."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["Structure", "derived", "moved"]

S = TypeVar("S", bound="Structure")
T = TypeVar("T")


class Structure:
    """Base of the nouns: frozen dataclasses whose fields are tensors, structures or None.

    >>> from hgraph.structure import Graph
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    >>> isinstance(graph, Structure), graph.to("cpu") is graph
    (True, True)
    """

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


# Beside the structures, not in them: so pickles, copies, `.to` and the compiler never see what was derived.
_DERIVED: weakref.WeakKeyDictionary[Structure, dict[Hashable, tuple[list[int], Any]]] = weakref.WeakKeyDictionary()


def derived(structure: Structure, key: Hashable, compute: Callable[[], T]) -> T:
    """``compute()``, remembered for as long as the structure lives and its tensors are not written to.

    Neither reads nor writes its memory while compiling, under `torch.func`, or when gradients must flow
    through the structure's own tensors (see `is_kept`): then it just computes.

    >>> from hgraph.structure import Graph
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    >>> first, again = (derived(graph, "degree", lambda: graph.adj.indptr.diff()) for _ in range(2))
    >>> first is again
    True
    """
    if not is_kept(structure):
        return compute()
    versions = [t._version for t in structure.tensors()]
    kept = _DERIVED.setdefault(structure, {})
    if key not in kept or kept[key][0] != versions:
        with torch.inference_mode(False):  # a value first asked for in inference mode must serve training too
            kept[key] = (versions, compute())
    return kept[key][1]


def is_kept(structure: Structure) -> bool:
    """Whether what is derived from the structure here and now is remembered."""
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return not any(t.requires_grad or t.is_inference() for t in structure.tensors())


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
