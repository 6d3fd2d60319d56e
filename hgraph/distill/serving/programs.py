"""Exported students as functions again: layers from safetensors, and ONNX programs."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from hgraph.errors import DataError, MissingPackageError
from hgraph.nn.rows import UnitRows, UnitSums

__all__ = ["Layers", "Onnx"]

_PLAIN: dict[str, type[nn.Module]] = {"ReLU": nn.ReLU, "UnitRows": UnitRows, "UnitSums": UnitSums}


class Layers(nn.Sequential):
    """Linear, ReLU, UnitRows and UnitSums layers read from a file of `export`; needs torch alone."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                kinds = json.loads((file.metadata() or {})["layers"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file is no dict
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path}: no layers that can be read ({error})") from error
        layers: list[nn.Module] = []
        for i, kind in enumerate(kinds):
            weight = tensors.get(f"{i}.weight")
            if kind == "Linear" and weight is not None and weight.dim() == 2:
                layer = nn.utils.skip_init(nn.Linear, *reversed(weight.shape), bias=f"{i}.bias" in tensors)
                layers.append(layer.to(weight.dtype))
            elif kind in _PLAIN:
                layers.append(_PLAIN[kind]())
            else:
                raise DataError(f"{path}: layer {i} is {kind!r}, which is not known or has no weight")
        super().__init__(*layers)
        try:
            self.load_state_dict(tensors)
        except RuntimeError as error:
            raise DataError(f"{path}: weights that do not fit ({error})") from error
        self.eval().requires_grad_(False)


class Onnx:
    """An ONNX program on the CPU; its threads are torch's."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError("onnxruntime", "onnx", "running an ONNX student") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, all straight from Exception
            raise DataError(f"{path}: not an ONNX program that can run here ({error})") from error

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [N, C] of features [N, F]."""
        return torch.from_numpy(self._session.run(None, {"x": x.numpy()})[0])
