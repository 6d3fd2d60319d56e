"""`Case`: how to build a module and its inputs for the contracts."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError
from hgraph.testing.layouts import tensors_of

__all__ = ["Case", "clause"]

Clause = Callable[["Case"], None]
CLAUSES: set[str] = set()  # names of all clauses, filled by the decorator


@dataclass(frozen=True, eq=False)
class Case:
    """A module and its inputs, for `check_layer` and `check_decoder`.

    Args:
        build: returns the module, in float32.
        inputs: ``inputs(n, seed=0, dtype=torch.float64)`` returns the arguments of the module for about n nodes, a
            tuple of tensors, structures, lists of them, or None. Floating-point tensors have the dtype.
        without: clauses that do not apply, each with the reason; they are skipped with that reason.
        shape: the expected shape of the first output, computed from the inputs. By default, one output row (any width)
            per row of the first input.
        batched: whether dimension 0 of all tensors counts examples. Otherwise batch dimensions are added in front of
            the floating-point tensors.
        scale: standard deviation of the random parameters of the checked module: biases that start at 0
            are random too, so a missing one is detected. None keeps the initial parameters.
        sizes: three values of n; torch.compile must use one graph for all of them. They should differ from numbers of
            channels, which the compiler would identify with them.
        roundings: allowed error in half precision, as a multiple of the rounding unit and of the largest output.
        state: for decoders, ``state(module, n)`` returns an empty decode state for n tokens.

    >>> case = Case(lambda: nn.Linear(3, 2), lambda n, seed=0, dtype=torch.float64: (torch.ones(n, 3, dtype=dtype),))
    >>> case.module(dtype=torch.float64)(*case.inputs(4)).shape
    torch.Size([4, 2])
    """

    build: Callable[[], nn.Module]
    inputs: Callable[..., tuple[Any, ...]]
    without: Mapping[str, str] = field(default_factory=dict)
    shape: Callable[..., tuple[int, ...]] | None = None
    batched: bool = False
    scale: float | None = 0.5
    sizes: tuple[int, int, int] = (6, 8, 12)
    roundings: float = 8.0
    state: Callable[[Any, int], Any] | None = None

    def __post_init__(self) -> None:
        for name, reason in self.without.items():
            if name not in CLAUSES:
                raise ArgumentError("without", f"names of clauses ({', '.join(sorted(CLAUSES))})", repr(name))
            if not reason:
                raise ArgumentError("without", f"the reason why {name} does not apply", "an empty text")

    def module(self, *, seed: int = 0, dtype: torch.dtype = torch.float32, training: bool = False) -> nn.Module:
        """The module with random parameters; the global random state is unchanged."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            module = self.build()
            if self.scale is not None:
                for parameter in trainable(module).values():
                    parameter.normal_(std=self.scale)
                for name, buffer in module.named_buffers():
                    if name.endswith("running_var"):
                        buffer.uniform_(0.5, 1.5)
        return module.to(dtype).train(training)


def clause(check: Clause) -> Clause:
    """Make ``check_<name>`` skip cases that opt out of ``<name>``, with their reason.

    pytest and unittest report `unittest.SkipTest` as a skipped test.
    """
    name = clause_name(check)
    CLAUSES.add(name)

    @functools.wraps(check)
    def run(case: Case) -> None:
        if name in case.without:
            raise unittest.SkipTest(f"{name}: {case.without[name]}")
        check(case)

    return run


def clause_name(check: Callable[..., None]) -> str:
    """The name by which a case opts out of a clause."""
    return check.__name__.removeprefix("check_")


# ---------------------------------------------------------------------- what clauses share


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that get gradients, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def is_floating(x: Any) -> bool:
    """Whether x is a floating-point tensor."""
    return isinstance(x, Tensor) and x.is_floating_point()


def outputs(result: Any) -> list[Tensor]:
    """The floating-point tensors of a result."""
    return [t for t in tensors_of(result) if t.is_floating_point()]


def map_floating(inputs: Iterable[Any], function: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    """Inputs with a function applied to the floating-point tensors."""
    return tuple(function(x) if is_floating(x) else x for x in inputs)


def scalar(result: Any) -> Tensor:
    """A loss of all floating-point outputs, in at least float32."""
    return torch.stack([(t.float() if t.dtype.itemsize < 4 else t).square().mean() for t in outputs(result)]).sum()


def as_function(
    module: nn.Module, inputs: tuple[Any, ...], fixed: Collection[str] = ()
) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """``module(*inputs)`` as a function of its floating-point inputs and parameters, and their values.

    The ``fixed`` parameters are not arguments.
    """
    names = [name for name in trainable(module) if name not in fixed]
    places = [i for i, x in enumerate(inputs) if is_floating(x)]

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        arguments = list(inputs)
        for place, tensor in zip(places, tensors, strict=False):
            arguments[place] = tensor
        parameters = dict(zip(names, tensors[len(places) :], strict=True))
        return tuple(outputs(torch.func.functional_call(module, parameters, tuple(arguments))))

    return call, [*(inputs[i] for i in places), *(trainable(module)[name].detach() for name in names)]
