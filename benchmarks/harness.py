"""Fair timing of several methods that compute the same result.

- Results are compared first; only methods that return equal results are timed.
- Methods are interleaved round by round in one process, so drift of the machine affects all equally.
- One thread is timed by CPU time of the process (other programs do not count), more threads by wall time, CUDA by its
  own events.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import hgraph
from hgraph.ops.dispatch.backend import current_backend

Method = Callable[[], Any]
_SLOW = 300.0  # milliseconds
PEERS = {"take part": True}  # False with --own: then no other library is imported


@dataclass(frozen=True)
class Case:
    """One computation by several methods that must agree, and limits that compute something else.

    Args:
        name: its name in tables.
        methods: by name; ratios are relative to "hgraph".
        limits: timed without comparing results; they do less work (a lower bound) or more work (noted in the name).
        expected: the expected result; None uses the result of hgraph.
        checks: functions whose results are compared instead (a training epoch changes its weights).
        rtol: largest allowed difference, relative to the largest value.
        flops: useful floating-point operations, if meaningful.
    """

    name: str
    methods: Mapping[str, Method]
    limits: Mapping[str, Method] = field(default_factory=dict)
    expected: Method | None = None
    checks: Mapping[str, Method] = field(default_factory=dict)
    rtol: float = 1e-4
    flops: float | None = None


@dataclass(frozen=True)
class Found:
    """Numbers that were measured in separate processes: memory, and growth of time."""

    values: Mapping[str, list[float]]
    unit: str
    note: str = ""


class DifferenceError(Exception):
    """The result of hgraph is wrong, so nothing is timed."""


class NotHereError(Exception):
    """A case needs a package or a feature that is missing."""


@dataclass(frozen=True)
class Setting:
    """Options of a run; see ``hgraph bench --help``."""

    threads: int = 1
    rounds: int = 15
    seconds: float = 1.5
    device: str = "cpu"
    own: bool = False

    @property
    def clock(self) -> str:
        if self.device.startswith("cuda"):
            return "CUDA events"
        return "process CPU time" if self.threads == 1 else "wall time"


@dataclass(frozen=True)
class Measured:
    """The result of a case: milliseconds of every round; reasons for excluded methods."""

    case: Case
    times: dict[str, list[float]]
    left_out: dict[str, str]
    load: float


def run(case: Case, setting: Setting) -> Measured:
    """Check all methods, then time those that agree.

    Raises:
        DifferenceError: the result of hgraph is wrong.
    """
    load = os.getloadavg()[0]
    methods, left_out, took = agreeing(case, setting)
    for name, limit in case.limits.items():
        if not setting.own:
            took[name] = _milliseconds(limit, 1, setting)
            methods[name] = limit
    return Measured(case, interleaved(methods, took, setting), left_out, load)


def agreeing(case: Case, setting: Setting) -> tuple[dict[str, Method], dict[str, str], dict[str, float]]:
    """The methods with the expected result, the reasons to exclude the others, and milliseconds of the first calls."""
    own = {name: method for name, method in case.methods.items() if name.startswith("hgraph")}
    methods = own if setting.own else dict(case.methods)
    checks = {**methods, **{name: check for name, check in case.checks.items() if name in methods}}
    expected = (case.expected or checks["hgraph"])()
    agree: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    took: dict[str, float] = {}
    for name, method in methods.items():
        try:
            off = difference(checks[name](), expected)
        except (RuntimeError, TypeError, ValueError, NotImplementedError, ImportError, AttributeError) as error:
            if name in own:
                raise
            left_out[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            continue
        if not off <= case.rtol:
            left_out[name] = f"differs by {off:.2g}"
            if name in own:
                raise DifferenceError(f"{case.name}: {name} differs from the expected result by {off:.2g}")
            continue
        took[name] = _milliseconds(method, 1, setting)
        agree[name] = method
    return agree, left_out, took


def difference(result: Any, expected: Any) -> float:
    """Largest difference of two tensors (or tuples of them) relative to the largest value; NaN if there is one."""
    if not isinstance(expected, Tensor):
        return max(difference(one, other) for one, other in zip(result, expected, strict=True))
    result, expected = result.detach().double(), expected.detach().double()
    if result.shape != expected.shape:
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    size = expected.abs().max().clamp(min=1e-30)
    return float((result - expected).abs().max() / size)


def interleaved(methods: Mapping[str, Method], took: Mapping[str, float], setting: Setting) -> dict[str, list[float]]:
    """Milliseconds of every round of every method; slow methods stop after their time budget, with at least two rounds.

    Each round has a seeded random order: the state of caches and of the allocator left by the previous method
    affects all methods in turn. ``took`` is the time of one call: for a slow method it is the first round. Calls of
    a few milliseconds or less are averaged.
    """
    rounds, repeat = {}, {}
    for name in methods:
        repeat[name] = max(1, min(100, int(10 / max(took[name], 1e-3))))
        rounds[name] = max(2, min(setting.rounds, int(setting.seconds * 1e3 / max(took[name] * repeat[name], 1e-3))))
    times = {name: [took[name]] if took[name] > _SLOW else [] for name in methods}
    order, draw = list(methods), random.Random(0)
    for _ in range(max(rounds.values())):
        draw.shuffle(order)
        for name in order:
            if len(times[name]) < rounds[name]:
                times[name].append(_milliseconds(methods[name], repeat[name], setting))
    return times


def _milliseconds(method: Method, repeat: int, setting: Setting) -> float:
    """Milliseconds of one call, averaged over ``repeat`` calls."""
    if setting.device.startswith("cuda"):
        return _cuda_milliseconds(method, repeat)
    clock = time.process_time if setting.threads == 1 else time.perf_counter
    start = clock()
    for _ in range(repeat):
        method()
    return (clock() - start) / repeat * 1e3


def _cuda_milliseconds(method: Method, repeat: int) -> float:
    """The same with CUDA events, flushing the L2 cache before each call. Not yet run on a GPU."""
    flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")
    total = 0.0
    for _ in range(repeat):
        flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        method()
        end.record()
        torch.cuda.synchronize()
        total += start.elapsed_time(end)
    return total / repeat


# ---------------------------------------------------------------------- shared by many cases


@dataclass(frozen=True)
class OnReference:
    """A method on hgraph's reference backend."""

    call: Method

    def __call__(self) -> Any:
        with hgraph.backend("torch"):
            return self.call()


def own(call: Method, device: str = "cpu") -> dict[str, Method]:
    """hgraph with its default backend, and with the reference backend if that differs."""
    if current_backend(device) == "torch":
        return {"hgraph": call}
    return {"hgraph": call, "hgraph (torch)": OnReference(call)}


def without_gradient(method: Method) -> Method:
    def call() -> Any:
        with torch.no_grad():
            return method()

    return call


def gradient(method: Method, inputs: list[Tensor], grad: Tensor) -> Method:
    """Forward and backward on one backend: gradients of ``inputs`` for the output gradient ``grad``."""
    if isinstance(method, OnReference):
        return OnReference(gradient(method.call, inputs, grad))

    def both() -> tuple[Tensor, ...]:
        output = method()
        return torch.autograd.grad(output[0] if isinstance(output, tuple) else output, inputs, grad)

    return both


def present(makers: Mapping[str, Callable[[], Method]]) -> dict[str, Method]:
    """The methods of installed packages."""
    found: dict[str, Method] = {}
    for name, make in makers.items() if PEERS["take part"] else ():
        with contextlib.suppress(ImportError, OSError):  # OSError: built for another torch
            found[name] = make()
    return found
