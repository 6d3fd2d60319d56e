"""Exports a trained student as files that predict without its source code: program, preprocessing, class names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hgraph.distill.serving.onnx import needs_onnx, onnx_program, silenced
from hgraph.distill.serving.programs import Layers, Onnx
from hgraph.errors import ArgumentError, DataError
from hgraph.files import sorted_metadata, temporary_folder, write_atomically
from hgraph.nn.rows import UnitRows, UnitSums
from hgraph.train import Classification, NodeTask, Regression

__all__ = ["CARD", "FORMATS", "Encodes", "export"]

CARD = "student.json"  # written last, so a folder with it is complete
FORMATS = ("layers", "torch", "onnx", "int8")
_FILES = {"layers": "student.safetensors", "torch": "student.pt2", "onnx": "student.onnx", "int8": "student.int8.onnx"}
_TOLERANCE = 1e-4  # deviation of an exported program from the student, relative to its largest logit


class Encodes(Protocol):
    """Protocol of encoders of raw columns that can be saved, such as `hgraph.datasets.Encoder`."""

    def transform(self, table: Any) -> Tensor:
        """Features [R, F] of the rows of a table."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the encoder's files into a folder."""


def export(
    student: nn.Module,
    folder: str | os.PathLike[str],
    x: Tensor,
    *,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    encoder: Encodes | None = None,
    preprocess: nn.Module | None = None,
    temperature: float = 1.0,
    task: NodeTask | None = None,
    formats: Sequence[str] = ("layers",),
    notes: Sequence[str] = (),
) -> dict[str, float]:
    """Export a trained student to a folder for `Predictor`; every program is run and compared with the student.

    A student with a method ``folded()``, such as `hgraph.models.MLP` (which folds its normalization into the last
    layer), is exported in that form. The folder is written atomically.

    Args:
        student: any module from features [N, F] to logits [N, C].
        folder: a new or empty folder.
        x: example rows [N, F] of the training data, N at least 2, to check the programs.
        class_names: C names of classes or labels; None uses numbers. Not used for regression.
        feature_names: F names of columns without an encoder; None uses numbers.
        encoder: encoder of raw columns; it is saved in the folder, so that raw rows can be predicted.
        preprocess: a module in front of the student, inside the program: ``x`` and later rows are its inputs.
        temperature: divides the logits, inside the program; use `fit_temperature` on validation nodes for calibrated
            probabilities.
        task: the task of the labels, see `hgraph.train.task_of`; None is classification. Predictions of a regression
            are in the unit of its targets: the program undoes their standardization.
        formats: some of ``"layers"`` (weights of a student of Linear, ReLU and row-normalization layers only, for
            `Predictor` without other packages), ``"torch"`` (`torch.export`), ``"onnx"``, ``"int8"`` (ONNX with
            8-bit weights). The last three contain the names of columns and classes too, as JSON: in the ONNX metadata
            ``features`` and ``classes``, and in the extra files ``features.json`` and ``classes.json``.
        notes: what a user of the student should know, one sentence each; saved in the card ``student.json``.

    Returns:
        The largest deviation from the student's logits on ``x``, by format.

    Raises:
        ArgumentError: unknown formats, ``"layers"`` for a student that does not support it, a wrong number of names, or
            a folder that is not empty.
        DataError: the logits of a program differ from the student's.
        MissingPackageError: ``"onnx"`` or ``"int8"`` without the packages of ``hgraph[onnx]``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     deviations = export(nn.Linear(3, 2), f"{folder}/student", torch.eye(3), class_names=["cat", "dog"])
    >>> deviations["layers"] < 1e-5
    True
    """
    target = Path(folder)
    task = Classification() if task is None else task
    program = _program(student, preprocess, temperature, task)
    with torch.no_grad():
        logits = program(x)
    if not task.has_classes:
        class_names = list(task.columns(logits[:0], ()))
    names = [str(c) for c in range(logits.shape[1])] if class_names is None else [str(name) for name in class_names]
    features = [str(i) for i in range(x.shape[1])] if feature_names is None else [str(name) for name in feature_names]
    _check(target, formats, names, features, x, logits, program)
    with temporary_folder(target) as building:
        metadata = {"features": json.dumps(features), "classes": json.dumps(names)}
        deviations = {f: _write(f, program, building / _FILES[f], x, logits, metadata) for f in dict.fromkeys(formats)}
        if encoder is not None:
            encoder.save(building)
        card = {
            "format": "hgraph student",
            "version": 1 if task.kind == "classification" else 2,  # older versions would apply a softmax
            "features": features,
            "classes": names,
            "task": type(task)().settings(),  # the program undoes the standardization
            "encoder": encoder is not None,
            "temperature": temperature,
            "notes": [str(note) for note in notes],
            "programs": {f: _FILES[f] for f in deviations},
            "largest_deviation": deviations,
            "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(building.iterdir())},
            "versions": {"torch": torch.__version__},
        }
        (building / CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")
        os.replace(building, target)
    return deviations


class _Temperature(nn.Module):
    """Logits divided by a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: Tensor) -> Tensor:
        return logits / self.temperature


class _Unscaled(nn.Module):
    """Standardized outputs in the unit of the targets."""

    mean: Tensor
    scale: Tensor

    def __init__(self, task: Regression) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(task.mean))
        self.register_buffer("scale", torch.tensor(task.scale))

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * self.scale + self.mean


def _program(student: nn.Module, preprocess: nn.Module | None, temperature: float, task: NodeTask) -> nn.Sequential:
    """A copy of the student with preprocessing, temperature and unit, as one chain in eval mode on the CPU."""
    import copy

    if not 0 < temperature < float("inf"):
        raise ArgumentError("temperature", "a finite number above 0", temperature)

    folded: Any = getattr(student, "folded", None)
    core = folded() if callable(folded) else copy.deepcopy(student)
    parts = [*core] if isinstance(core, nn.Sequential) else [core]
    if temperature != 1 and isinstance(parts[-1], nn.Linear):
        with torch.no_grad():
            for parameter in parts[-1].parameters():
                parameter.div_(temperature)
    elif temperature != 1:
        parts.append(_Temperature(temperature))
    if isinstance(task, Regression):
        if isinstance(parts[-1], nn.Linear) and parts[-1].bias is not None:
            _unscale(parts[-1], task)
        else:
            parts.append(_Unscaled(task))
    before = [] if preprocess is None else [copy.deepcopy(preprocess)]
    return nn.Sequential(*before, *parts).eval().cpu().requires_grad_(False)


@torch.no_grad()
def _unscale(last: nn.Linear, task: Regression) -> None:
    """Make the last layer give outputs in the unit of the targets."""
    mean, scale = (torch.tensor(v, dtype=torch.float64, device=last.weight.device) for v in (task.mean, task.scale))
    last.weight.copy_(last.weight.double() * scale[:, None])
    last.bias.copy_(last.bias.double() * scale + mean)


def _check(
    target: Path,
    formats: Sequence[str],
    names: list[str],
    features: list[str],
    x: Tensor,
    logits: Tensor,
    program: nn.Sequential,
) -> None:
    unknown = [f for f in formats if f not in FORMATS]
    if unknown or not formats:
        raise ArgumentError("formats", f"some of {list(FORMATS)}", list(formats))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArgumentError(
            "folder", "a new or empty folder", str(target), "Choose another folder, or delete this one first"
        )
    if len(x) < 2:
        raise ArgumentError("x", "at least 2 rows", len(x))
    if len(names) != logits.shape[1] or len(set(names)) != len(names):
        raise ArgumentError("class_names", f"{logits.shape[1]} different names", names)
    if len(features) != x.shape[1] or len(set(features)) != len(features):
        raise ArgumentError(
            "feature_names", f"{x.shape[1]} different names", f"{len(features)}, {len(set(features))} different"
        )
    if "layers" in formats and not all(isinstance(m, (nn.Linear, nn.ReLU, UnitRows, UnitSums)) for m in program):
        hint = "Export the student as 'onnx' or 'torch'"
        kinds = [type(m).__name__ for m in program]
        raise ArgumentError(
            "formats", "'layers' only for a student of Linear, ReLU, UnitRows and UnitSums", kinds, hint
        )


def _write(form: str, program: nn.Sequential, path: Path, x: Tensor, logits: Tensor, metadata: dict[str, str]) -> float:
    writers = {"layers": _write_layers, "torch": _write_torch, "onnx": _write_onnx, "int8": _write_int8}
    found = writers[form](program, path, x, metadata)
    deviation = float((found - logits).abs().max())
    scale = float(logits.abs().max())
    if form == "int8":  # 8-bit weights cannot be exact: their deviation is returned, not checked
        return deviation
    if not deviation <= _TOLERANCE * max(scale, 1.0):
        got = f"a deviation of {deviation:.3g} with logits up to {scale:.3g}"
        raise DataError(f"expected the exported {form!r} program to equal the student, got {got}")
    return deviation


def _write_layers(program: nn.Sequential, path: Path, x: Tensor, metadata: dict[str, str]) -> Tensor:
    from safetensors.torch import save

    tensors = {name: p.contiguous() for name, p in program.state_dict().items()}
    kinds = [type(m).__name__ for m in program]
    write_atomically(path, sorted_metadata(save(tensors, metadata={"layers": json.dumps(kinds), **metadata})))
    return Layers(path)(x)


def _write_torch(program: nn.Sequential, path: Path, x: Tensor, metadata: dict[str, str]) -> Tensor:
    exported = _exported(program, x)
    torch.export.save(exported, path, extra_files={f"{name}.json": text for name, text in metadata.items()})
    return exported.module()(x)


def _write_onnx(program: nn.Sequential, path: Path, x: Tensor, metadata: dict[str, str]) -> Tensor:
    needs_onnx()
    made = onnx_program(_exported(program, x), x, names=("x", "logits"), metadata=metadata)
    with silenced():
        made.save(str(path), external_data=False)
    return Onnx(path)(x)


def _write_int8(program: nn.Sequential, path: Path, x: Tensor, metadata: dict[str, str]) -> Tensor:
    needs_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix(".float.onnx")
    _write_onnx(program, whole, x, metadata)
    with silenced():  # it recommends a step that has no effect for a chain of linear layers
        quantize_dynamic(str(whole), str(path), weight_type=QuantType.QInt8)
    whole.unlink()
    return Onnx(path)(x)


def _exported(program: nn.Sequential, x: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(program, (x,), dynamic_shapes=({0: torch.export.Dim("rows", min=1)},))
