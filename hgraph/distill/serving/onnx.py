"""What writing ONNX takes: its packages, and an exporter that keeps its messages to itself."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hgraph.errors import MissingPackageError

__all__ = ["hushed", "needs_onnx", "onnx_program"]


def needs_onnx() -> None:
    """Refuse before any work where a package is missing.

    Raises:
        MissingPackageError: onnx, onnxscript or onnxruntime.
    """
    from importlib.util import find_spec

    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "onnx", "exporting to ONNX")


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Inside the ``with`` block no warning, no log below errors and nothing printed: exporters say a lot."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def onnx_program(
    program: torch.export.ExportedProgram, example: Tensor, *, names: tuple[str, str], facts: Mapping[str, str]
) -> torch.onnx.ONNXProgram:
    """The same program as ONNX; ``names`` are those of its input and output, ``facts`` go into its metadata."""
    with hushed():
        made = torch.onnx.export(program, (example,), dynamo=True, input_names=names[:1], output_names=names[1:])
    assert made is not None  # noqa: S101 - dynamo=True returns a program
    made.model.metadata_props.update(facts)
    return made
