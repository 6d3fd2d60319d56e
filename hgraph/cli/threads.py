"""`--threads`: how many CPU threads a training uses, timed before it starts and kept when it resumes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.common import LOG
from hgraph.cli.node_runs import Prepared
from hgraph.errors import ArgumentError
from hgraph.files import write_atomically
from hgraph.schema import parse

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ThreadsOption", "node_step", "training_threads"]

_FILE, _MOST = "threads.json", 4096


def _parse(text: str | int | None) -> int | None:
    """The number of threads, or None for auto."""
    if text is None or text == "auto":
        return None
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= _MOST:
        raise typer.BadParameter(f"expected auto or a whole number, 1 .. {_MOST}, got {text}")
    return count


ThreadsOption = Annotated[
    str | None,
    typer.Option(
        "--threads",
        parser=_parse,
        metavar="auto|COUNT",
        help="CPU threads; auto (default) times a few steps with one thread and with all threads, and uses the faster.",
    ),
]


@contextmanager
def training_threads(count: int | str | None, place: Path, step: Callable[[], object]) -> Iterator[int]:
    """Run a block with the given number of threads, or with the faster of one and all; yields the number.

    The number is saved in the checkpoint folder, since a resumed training gives the same bits only with equal threads.

    Args:
        count: number of threads; None times ``step``.
        place: the checkpoint folder of the run.
        step: one forward and backward pass; it must not change the network.

    Raises:
        ArgumentError: the stopped run used a different number of threads.
    """
    from hgraph.train import fastest_threads
    from hgraph.train.threads import threads

    file = place / _FILE
    before = _saved(file)
    if before is not None and count is not None and before != count:
        hint = f"Pass --threads {before} to resume it, or --overwrite to start over"
        raise ArgumentError("threads", f"{before}, as in the stopped run", count, hint)
    number = count or before or fastest_threads(step)
    del step  # and its copy of the network with it
    if count is None and before is None:
        LOG.info("threads: %d, the faster of one and all for this training", number)
    write_atomically(file, json.dumps({"threads": number}).encode())
    with threads(int(number)):
        yield int(number)


def node_step(network: nn.Module, on: Prepared) -> Callable[[], object]:
    """One training step of a copy of the network, for `training_threads`."""
    from hgraph.train import task_loss, training_view

    made: list[Any] = []

    def step() -> None:
        if not made:  # only where steps are timed
            part = training_view(on.data, on.split, task=on.task)
            inputs = (part.x,) if on.model.data == "features" else (part.x, part.structure)
            made.extend((copy.deepcopy(network).train(), inputs, task_loss(part)[0]))
        trial, arguments, loss = made
        loss(trial(*arguments)).backward()

    return step


def _saved(file: Path) -> int | None:
    try:
        number = parse(file.read_bytes(), file)["threads"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) and 1 <= number <= _MOST else None
