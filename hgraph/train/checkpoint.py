"""`Checkpoint`: the full state of a training in one safetensors file, so that it can be resumed bit for bit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.data.io import digest_of
from hgraph.errors import ArgumentError, DataError
from hgraph.files import write_atomically
from hgraph.schema import parse

__all__ = ["Checkpoint", "state_digest", "stopwatch"]

_FORMAT = "hgraph training"
_SECONDS = 30.0  # largest time between checkpoints, if epochs are long


class Checkpoint:
    """The file of one training: model, optimizer, best state, random states and history, written atomically.

    Reading it executes no code. If the process is killed, the last complete file remains.

    Args:
        path: the file; None saves nothing.
        settings: settings that must be the same to resume; a file with other settings is an error and is not replaced.
        fabric: with several processes, the first one writes the random states of all; None is one process.

    Raises:
        ArgumentError: the file belongs to a training with other settings.
        DataError: the file is not a checkpoint, or is damaged.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: Mapping[str, Any], fabric: Any = None) -> None:
        self.path = None if path is None else Path(path)
        self.fabric = None if fabric is None or fabric.world_size == 1 else fabric
        processes = {} if self.fabric is None else {"processes": self.fabric.world_size}
        self.settings = dict(settings) | processes
        self._found = self._read()
        self._written = time.monotonic()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.fabric is None or self.fabric.is_global_zero

    @property
    def overdue(self) -> bool:
        """Whether the last write is 30 s ago; never true with several processes, because their clocks differ."""
        return self.fabric is None and time.monotonic() - self._written >= _SECONDS

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None, devices: Iterable[torch.device]
    ) -> dict[str, Any]:
        """Restore model, optimizer and random states; returns the ``progress`` that `save` got, or an empty dict."""
        if self._found is None:
            return {}
        header, tensors = self._found
        try:
            model.load_state_dict(_named(tensors, "model."))
            if optimizer is not None:
                optimizer.load_state_dict(_unflatten(header["optimizer"], _named(tensors, "optimizer.")))
            torch.set_rng_state(self._state_of_process(tensors["random.cpu"]))
            for i, device in enumerate(_cuda(devices)):
                torch.cuda.set_rng_state(self._state_of_process(tensors[f"random.cuda.{i}"]), device)
            best = _named(tensors, "best.")
            current = model.state_dict()
            return header["progress"] | {
                "best_state": {k: v.to(current[k].device) for k, v in best.items()} if header["has_best"] else None
            }
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{self.path}: does not match this model and optimizer ({error}). Delete it to start over"
            ) from error

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        devices: Iterable[torch.device],
        best_state: Mapping[str, Tensor] | None,
        progress: Mapping[str, Any],
    ) -> None:
        """Replace the file with the current state; ``progress`` contains plain numbers and lists."""
        if self.path is None:
            return
        from safetensors.torch import save

        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in (best_state or {}).items()}
        tensors["random.cpu"] = self._gather_states(torch.get_rng_state())
        for i, device in enumerate(_cuda(devices)):  # numbered: each process may have another device
            tensors[f"random.cuda.{i}"] = self._gather_states(torch.cuda.get_rng_state(device))
        if not self.is_first:
            return
        plain, parts = _flatten({} if optimizer is None else optimizer.state_dict())
        tensors |= {f"optimizer.{name}": value for name, value in parts.items()}
        header = {
            "settings": self.settings,
            "optimizer": plain,
            "has_best": best_state is not None,
            "progress": dict(progress),
        }
        # Copies: safetensors refuses tensors that share memory, as tied weights and views do.
        content = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        text = json.dumps(header)
        write_atomically(self.path, save(content, metadata={_FORMAT: text, "sha256": digest_of(content, text)}))
        self._written = time.monotonic()

    def _gather_states(self, state: Tensor) -> Tensor:
        """The random states of all processes, one per row; with one process, its state unchanged."""
        return state if self.fabric is None else self.fabric.all_gather(state.to(self.fabric.device)).cpu()

    def _state_of_process(self, states: Tensor) -> Tensor:
        # a copy: torch reads a generator's state from the start of the storage
        return states if self.fabric is None else states[self.fabric.global_rank].clone()

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        if self.path is None or not self.path.exists():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.path), framework="pt") as file:
                metadata = file.metadata() or {}
                header = parse(metadata[_FORMAT], self.path)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            if metadata["sha256"] != digest_of(tensors, metadata[_FORMAT]):
                raise ValueError("its checksum is wrong")
            known = header["settings"]
            if not isinstance(known, dict):
                raise TypeError(f"its settings are {type(known).__name__}")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{self.path}: not a readable checkpoint ({error}). Delete it to start over") from error
        current = json.loads(json.dumps(self.settings))
        other = sorted(k for k in known.keys() | current.keys() if known.get(k) != current.get(k))
        if other:
            name = other[0]
            hint = "Use the same value, choose another checkpoint, or delete the file"
            raise ArgumentError(name, f"{known.get(name)!r}, as in {self.path}", repr(current.get(name)), hint)
        return header, tensors


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def state_digest(model: nn.Module) -> str:
    """SHA-256 of the state of a model in hexadecimal."""
    return digest_of(model.state_dict())


def _cuda(devices: Iterable[torch.device]) -> list[torch.device]:
    return sorted({d for d in devices if d.type == "cuda"}, key=str)


def weights_file(model: nn.Module) -> bytes:
    """The safetensors file of a model's parameters and buffers."""
    from safetensors.torch import save

    return save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})


def _flatten(state: Any, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Replace the tensors in nested dicts and lists with ``{"tensor": path}``; returns the result and the tensors.

    Dicts become lists of pairs, because JSON would turn numeric keys (parameters of an optimizer) into strings.
    """
    if isinstance(state, Tensor):
        return {"tensor": path}, {path: state}
    if isinstance(state, (dict, list, tuple)):
        pairs = list(state.items() if isinstance(state, dict) else enumerate(state))
        plain: list[Any] = []
        tensors: dict[str, Tensor] = {}
        for key, value in pairs:
            inner, found = _flatten(value, f"{path}/{key}")
            plain.append([key, inner])
            tensors |= found
        return {"dict" if isinstance(state, dict) else "list": plain}, tensors
    return {"value": state}, {}


def _unflatten(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    if "tensor" in plain:
        return tensors[plain["tensor"]]
    if "dict" in plain:
        return {key: _unflatten(value, tensors) for key, value in plain["dict"]}
    return [_unflatten(value, tensors) for _, value in plain["list"]] if "list" in plain else plain["value"]


def stopwatch(seconds: float, cpu_seconds: float) -> Callable[[], tuple[float, float]]:
    """A function that returns the wall and CPU time of a training, including the time before it was stopped.

    >>> wall, cpu = stopwatch(60.0, 50.0)()
    >>> wall >= 60 and cpu >= 50
    True
    """
    wall, cpu = time.perf_counter() - seconds, time.process_time() - cpu_seconds
    return lambda: (time.perf_counter() - wall, time.process_time() - cpu)
