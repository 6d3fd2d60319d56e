"""Helpers for ONNX export: check of its packages, and export without messages."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hgraph.errors import MissingPackageError

__all__ = ["needs_onnx", "onnx_program", "silenced"]


def needs_onnx() -> None:
    """Check that the packages for ONNX export are installed.

    Raises:
        MissingPackageError: onnx, onnxscript or onnxruntime is missing.
    """
    from importlib.util import find_spec

    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "onnx", "exporting to ONNX")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Context without warnings, logs below errors and output, since exporters print many messages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def onnx_program(
    program: torch.export.ExportedProgram, example: Tensor, *, names: tuple[str, str], metadata: Mapping[str, str]
) -> torch.onnx.ONNXProgram:
    """Convert a program to ONNX, with ``names`` of its input and output, and with ``metadata``."""
    with silenced():
        made = torch.onnx.export(program, (example,), dynamo=True, input_names=names[:1], output_names=names[1:])
    assert made is not None  # noqa: S101 - dynamo=True returns a program
    made.model.metadata_props.update(metadata)
    return made
