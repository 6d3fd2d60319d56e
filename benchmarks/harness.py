"""Timing of several ways to compute one thing, fair to all of them.

- Results are compared first; a method that computes something else is not timed.
- Methods are interleaved round by round in one process, so drift of the machine meets all alike.
- One thread is timed by CPU time of the process (other programs do not count), more threads by the wall, CUDA by its
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
PEERS = {"take part": True}  # False with --own: then nobody else is imported either


@dataclass(frozen=True)
class Case:
    """One thing to compute by several methods that must agree, beside limits that compute something else.

    Args:
        name: what the table calls it.
        methods: by name; "hgraph" is the measure of the others.
        limits: what is timed beside them without comparing results: less work (a limit), or more (said in the name).
        expected: the result that all are held against, hgraph's too; None takes hgraph's own.
        checks: what is compared of methods whose own result cannot be (an epoch changes its weights).
        rtol: largest difference allowed, relative to the largest number.
        flops: useful floating-point operations, where they are worth saying.
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
    """Numbers that were measured in processes of their own: memory, and time that grows."""

    values: Mapping[str, list[float]]
    unit: str
    note: str = ""


class DifferenceError(Exception):
    """hgraph computes something else than what is expected: nothing is timed."""


class NotHereError(Exception):
    """A case needs what this machine or this version lacks."""


@dataclass(frozen=True)
class Setting:
    """How a suite is run; see ``hgraph bench --help``."""

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
    """What came of a case: milliseconds of every round; why methods were left out."""

    case: Case
    times: dict[str, list[float]]
    left_out: dict[str, str]
    load: float


def run(case: Case, setting: Setting) -> Measured:
    """Check all methods, then time those that agree.

    Raises:
        DifferenceError: hgraph's own result is not the expected one.
    """
    load = os.getloadavg()[0]
    methods, left_out, took = agreeing(case, setting)
    for name, limit in case.limits.items():
        if not setting.own:
            took[name] = _milliseconds(limit, 1, setting)
            methods[name] = limit
    return Measured(case, interleaved(methods, took, setting), left_out, load)


def agreeing(case: Case, setting: Setting) -> tuple[dict[str, Method], dict[str, str], dict[str, float]]:
    """The methods that compute what is expected, why the others are left out, and milliseconds of their first call."""
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
                raise DifferenceError(f"{case.name}: {name} differs from what is expected by {off:.2g}: nothing timed")
            continue
        took[name] = _milliseconds(method, 1, setting)
        agree[name] = method
    return agree, left_out, took


def difference(result: Any, expected: Any) -> float:
    """Largest difference of two tensors (or tuples of them) relative to the largest number; NaN if there is one."""
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
    """Milliseconds of every round of every method; a slow one sits out once it has had its time, two rounds at least.

    Each round has an order of its own, drawn by seed: what the method before leaves in caches and in the allocator
    helps or harms everybody in turn. ``took`` is what one call took: of a slow method that is its first round. Calls of
    a few milliseconds and less are averaged over some.
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
    """Of one call, averaged over ``repeat`` of them."""
    if setting.device.startswith("cuda"):
        return _cuda_milliseconds(method, repeat)
    clock = time.process_time if setting.threads == 1 else time.perf_counter
    start = clock()
    for _ in range(repeat):
        method()
    return (clock() - start) / repeat * 1e3


def _cuda_milliseconds(method: Method, repeat: int) -> float:
    """The same by CUDA events, what the second-level cache held flushed before each call. Never run on a GPU so far."""
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


# ---------------------------------------------------------------------- ways that many cases share


@dataclass(frozen=True)
class OnReference:
    """A method on hgraph's reference backend."""

    call: Method

    def __call__(self) -> Any:
        with hgraph.backend("torch"):
            return self.call()


def own(call: Method, device: str = "cpu") -> dict[str, Method]:
    """hgraph as it comes, and on its reference backend where that is another one."""
    if current_backend(device) == "torch":
        return {"hgraph": call}
    return {"hgraph": call, "hgraph (torch)": OnReference(call)}


def without_gradient(method: Method) -> Method:
    def call() -> Any:
        with torch.no_grad():
            return method()

    return call


def gradient(method: Method, inputs: list[Tensor], grad: Tensor) -> Method:
    """Forward and backward, both on one backend: gradients of ``inputs`` for the output's gradient ``grad``."""
    if isinstance(method, OnReference):
        return OnReference(gradient(method.call, inputs, grad))

    def both() -> tuple[Tensor, ...]:
        output = method()
        return torch.autograd.grad(output[0] if isinstance(output, tuple) else output, inputs, grad)

    return both


def present(makers: Mapping[str, Callable[[], Method]]) -> dict[str, Method]:
    """The methods of those packages that are installed."""
    found: dict[str, Method] = {}
    for name, make in makers.items() if PEERS["take part"] else ():
        with contextlib.suppress(ImportError, OSError):  # OSError: built for another torch
            found[name] = make()
    return found
