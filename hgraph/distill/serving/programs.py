"""Loads exported students: layers from safetensors, and ONNX programs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hgraph.errors import DataError, MissingPackageError
from hgraph.nn.rows import UnitRows, UnitSums
from hgraph.schema import parse

__all__ = ["Layers", "Onnx"]

_PLAIN: dict[str, type[nn.Module]] = {"ReLU": nn.ReLU, "UnitRows": UnitRows, "UnitSums": UnitSums}


class Layers(nn.Sequential):
    """Linear, ReLU, UnitRows and UnitSums layers from a file written by `export`; needs only torch."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                kinds = parse((file.metadata() or {})["layers"], f"{path}: layers")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file is not a dict
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path}: not a readable file of layers ({error})") from error
        if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
            raise DataError(f"{path}: layers: expected a list of names of layers, got {str(kinds)[:60]}")
        layers: list[nn.Module] = []
        for i, kind in enumerate(kinds):
            weight = tensors.get(f"{i}.weight")
            if kind == "Linear" and weight is not None and weight.dim() == 2:
                layer = nn.utils.skip_init(nn.Linear, *reversed(weight.shape), bias=f"{i}.bias" in tensors)
                layers.append(layer.to(weight.dtype))
            elif kind in _PLAIN:
                layers.append(_PLAIN[kind]())
            else:
                raise DataError(f"{path}: layer {i}: expected a known kind with a weight, got {kind!r}")
        super().__init__(*layers)
        try:
            self.load_state_dict(tensors)
        except RuntimeError as error:
            raise DataError(f"{path}: weights of wrong shapes ({error})") from error
        self.eval().requires_grad_(False)


class Onnx:
    """An ONNX program on the CPU, with as many threads as torch."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError("onnxruntime", "onnx", "running an ONNX student") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the exceptions of onnxruntime have no common base class but Exception
            raise DataError(f"{path}: not an ONNX program that this machine can run ({error})") from error

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [N, C] of features [N, F]."""
        return torch.from_numpy(self._session.run(None, {"x": x.numpy()})[0])
