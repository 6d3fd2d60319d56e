"""The registration of every operator (schema, fake, autograd, compile), checked by `torch.library.opcheck`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hgraph.ops.sparse.linear import rows
from hgraph.testing import random_adjacency

T, S, E, H, K, D, V = 5, 4, 12, 4, 2, 3, 2
ROWS = rows(random_adjacency(T, S, E, seed=3))


def leaf(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


def attend(q: Tensor | None, k: Tensor | None, bias: Tensor | None, slope: float | None) -> tuple[object, ...]:
    return ROWS, q, k, leaf(S, K, V), bias, torch.tensor([7]), 0.3, 0.5, slope


def grads(*given: object) -> tuple[object, ...]:
    arguments = attend(*given)  # type: ignore[arg-type]
    plain = [a.detach() if isinstance(a, Tensor) else a for a in arguments]
    return *plain, torch.zeros(T, H), torch.ones(T, H), torch.ones(T, H, V)


ATTENTION = {
    "dot": (leaf(T, H, D), leaf(S, K, D), leaf(E, 2), None),
    "additive": (leaf(T, H), leaf(S, K), None, 0.2),
    "biases": (None, None, leaf(E, H), None),
}
CASES: dict[str, Callable[[], tuple[object, ...]]] = {
    "spmm": lambda: (ROWS, leaf(E, 2), leaf(S, 6)),
    "mean": lambda: (ROWS, leaf(E, 2), leaf(S, 6)),
    "sddmm": lambda: (ROWS, leaf(T, 6), leaf(S, 6), 2),
    "additive": lambda: (ROWS, leaf(T, H, D), leaf(S, H, D), leaf(H, D), 0.2),
    "additive_grads": lambda: (ROWS, *(t.detach() for t in (leaf(T, H, D), leaf(S, H, D), leaf(H, D))), 0.2,
                               torch.ones(E, H)),
    "extremum": lambda: (ROWS, leaf(E, 2), leaf(S, 6), True),
    **{f"extremum_grads {flags}": lambda flags=flags: (ROWS, None, torch.ones(S, 6), *(torch.ones(T, 6),) * 2, *flags)
       for flags in ((True, False), (False, True), (True, True))},
    **{f"extremum_grads by {shape}": lambda shape=shape: (ROWS, torch.ones(E, *shape), torch.ones(S, 6),
                                                          *(torch.ones(T, 6),) * 2, True, True)
       for shape in ((), (2,), (6,))},
    "softmax": lambda: (ROWS, leaf(E, H)),
    "softmax_grads": lambda: (ROWS, torch.rand(E, H), torch.ones(E, H)),
    **{f"attend {kind}": lambda given=given: attend(*given) for kind, given in ATTENTION.items()},
    **{f"attend_grads {kind}": lambda given=given: grads(*given) for kind, given in ATTENTION.items()},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_opcheck(case: str) -> None:
    operator = getattr(torch.ops.hgraph, case.split()[0]).default
    checks = torch.library.opcheck(operator, CASES[case]())
    assert set(checks.values()) == {"SUCCESS"}


def test_every_operator_over_rows_of_edges_is_checked() -> None:
    given = torch._C._jit_get_all_schemas()
    names = {
        s.name.removeprefix("hgraph::") for s in given if s.name.startswith("hgraph::") and "Tensor[] adj" in str(s)
    }
    elsewhere = {"block_attend", "block_attend_grads"}  # tests/ops/test_tokens.py
    assert {case.split()[0] for case in CASES} == names - elsewhere
