"""`Checkpoint`: everything a training needs to go on as if it had never stopped, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError, DataError
from hgraph.structure.io import write_atomically

__all__ = ["Checkpoint"]

_FORMAT = "hgraph training"


class Checkpoint:
    """The file of one training: model, optimiser, best state, random states and history, written atomically.

    Nothing in it is executed when it is read. A process killed at any moment leaves the last whole file.

    Args:
        path: the file; None keeps nothing.
        settings: what must be the same for the training to go on; a file of other settings is refused, not replaced.

    Raises:
        ArgumentError: the file is of another training.
        DataError: it is no checkpoint, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.settings = dict(settings)
        self._found = self._read()

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None, devices: Iterable[torch.device]
    ) -> dict[str, Any]:
        """Put model, optimiser and random states back; returns what `save` was given as ``progress``, or nothing."""
        if self._found is None:
            return {}
        header, tensors = self._found
        try:
            model.load_state_dict(_named(tensors, "model."))
            if optimizer is not None:
                optimizer.load_state_dict(_unflatten(header["optimizer"], _named(tensors, "optimizer.")))
            torch.set_rng_state(tensors["random.cpu"])
            for device in _cuda(devices):
                torch.cuda.set_rng_state(tensors[f"random.{device}"], device)
            best = _named(tensors, "best.")
            own = model.state_dict()
            return header["progress"] | {
                "best_state": {k: v.to(own[k].device) for k, v in best.items()} if header["has_best"] else None
            }
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{self.path}: not of this model and optimiser ({error}). Delete it to begin anew"
            ) from error

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        devices: Iterable[torch.device],
        best_state: Mapping[str, Tensor] | None,
        progress: Mapping[str, Any],
    ) -> None:
        """Replace the file by the present state; ``progress`` is plain numbers and lists."""
        if self.path is None:
            return
        from safetensors.torch import save

        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in (best_state or {}).items()}
        tensors["random.cpu"] = torch.get_rng_state()
        for device in _cuda(devices):
            tensors[f"random.{device}"] = torch.cuda.get_rng_state(device)
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
        write_atomically(self.path, save(content, metadata={_FORMAT: json.dumps(header)}))

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        if self.path is None or not self.path.exists():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.path), framework="pt") as file:
                header = json.loads((file.metadata() or {})[_FORMAT])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            known = header["settings"]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{self.path}: no checkpoint that can be read ({error}). Delete it to begin anew"
            ) from error
        ours = json.loads(json.dumps(self.settings))
        other = sorted(k for k in known.keys() | ours.keys() if known.get(k) != ours.get(k))
        if other:
            name = other[0]
            hint = "Give the same settings, another checkpoint, or delete the file"
            raise ArgumentError(name, f"{known.get(name)!r}, as in {self.path}", repr(ours.get(name)), hint)
        return header, tensors


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _cuda(devices: Iterable[torch.device]) -> list[torch.device]:
    return sorted({d for d in devices if d.type == "cuda"}, key=str)


def _flatten(state: Any, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """A nest of dicts and lists with its tensors taken out: ``{"tensor": path}`` stands in their place.

    Keys that are numbers (an optimiser's parameters) are kept as pairs, since JSON would turn them into texts.
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
