"""Contracts of layers, decoders and structures, as lists of checks.

Each clause is a function ``check_*(case)`` that raises `AssertionError`. A test file is a few lines::

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    @pytest.mark.parametrize("clause", contracts.LAYER)
    def test_layers(clause, case):
        clause(case)
"""

from __future__ import annotations

import unittest
from collections.abc import Iterable

from hgraph.structure import Structure
from hgraph.testing.case import Case, Clause, clause_name
from hgraph.testing.compile_clauses import check_compile, check_compile_gradients, check_inductor, check_recompile
from hgraph.testing.decoder_clauses import DECODER
from hgraph.testing.layer_clauses import (
    check_batch,
    check_empty,
    check_gradients,
    check_layouts,
    check_output,
    check_parameter_gradients,
    check_permutation,
    check_second_gradients,
    check_single,
)
from hgraph.testing.precision_clauses import check_autocast, check_float64, check_half
from hgraph.testing.state_clauses import (
    check_caches,
    check_deepcopy,
    check_determinism,
    check_inference_mode,
    check_reset,
    check_state_dict,
)
from hgraph.testing.structure_clauses import STRUCTURE

__all__ = ["DECODER", "LAYER", "STRUCTURE", "Case", "check_decoder", "check_inductor", "check_layer", "check_structure"]

LAYER = (
    check_output,
    check_empty,
    check_single,
    check_gradients,
    check_second_gradients,
    check_parameter_gradients,
    check_layouts,
    check_half,
    check_autocast,
    check_float64,
    check_state_dict,
    check_deepcopy,
    check_reset,
    check_determinism,
    check_inference_mode,
    check_caches,
    check_batch,
    check_permutation,
    check_compile,
    check_recompile,
    check_compile_gradients,
)


def check_layer(case: Case) -> dict[str, str]:
    """Check every clause of a layer or network: outputs, gradients, layouts, dtypes, state, caches, compiler.

    Use it to test custom layers.

    Args:
        case: how to build the layer and its inputs.

    Returns:
        The clauses that were skipped, each with its reason.

    Raises:
        AssertionError: the layer breaks a clause.

    >>> import hgraph, torch
    >>> from hgraph.testing import random_graph
    >>> class Mean(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = torch.nn.Linear(3, 2)
    ...     def reset_parameters(self):
    ...         self.linear.reset_parameters()
    ...     def forward(self, x, graph):
    ...         return self.linear(hgraph.propagate(graph.adj, x, reduce="mean"))
    >>> def inputs(n, seed=0, dtype=torch.float64):
    ...     x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ...     return x.to(dtype), random_graph(n, 3 * n, seed=seed)
    >>> check_layer(Case(Mean, inputs))
    {}
    """
    return _check(LAYER, case)


def check_decoder(case: Case) -> dict[str, str]:
    """Check every clause of a causal layer with a decode state: step-by-step decoding equals one causal forward pass.

    Args:
        case: how to build the layer, its inputs and its state.

    Returns:
        The clauses that were skipped, each with its reason.

    Raises:
        AssertionError: the layer or its state breaks a clause.

    >>> import hgraph, torch
    >>> def inputs(n, seed=0, dtype=torch.float64):
    ...     return (torch.randn(2, n, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype),)
    >>> layer = lambda: hgraph.nn.SelfAttention(8, 2, causal=True)
    >>> check_decoder(Case(layer, inputs, state=lambda layer, n: hgraph.nn.attention.KVState(n)))
    {}
    """
    return _check(DECODER, case)


def check_structure(structure: Structure) -> None:
    """Check every clause of a structure: equality, copies, files, devices, repr.

    Raises:
        AssertionError: the structure breaks a clause.

    >>> from hgraph.testing import random_graph
    >>> check_structure(random_graph(5, 9))
    """
    for check in STRUCTURE:
        check(structure)


def _check(clauses: Iterable[Clause], case: Case) -> dict[str, str]:
    skipped = {}
    for check in clauses:
        try:
            check(case)
        except unittest.SkipTest as skip:
            skipped[clause_name(check)] = case.without.get(clause_name(check), str(skip))
    return skipped
