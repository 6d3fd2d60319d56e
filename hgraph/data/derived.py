"""Parts of a `Data` that are computed from the rest of it: structures from features, features from a structure.

``meta`` records how, so that a production split computes them again from the observed nodes only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, HgraphError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = [
    "FEATURES_FROM",
    "STRUCTURE_FROM",
    "Source",
    "features_from",
    "features_on",
    "log_degree",
    "restrict",
    "structure_builder",
]

STRUCTURE_FROM, FEATURES_FROM = "structure_from", "features_from"  # keys of meta

B = TypeVar("B", bound=Callable[..., Any])
_BUILDERS: dict[str, Callable[..., Any]] = {}


class Source(Protocol):
    """The part of `Data` that is needed to compute structures and features."""

    @property
    def structure(self) -> Graph | Hypergraph:
        """The whole structure."""

    @property
    def x(self) -> Tensor:
        """Features [N, F]."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """How the structure and the features were computed, and other metadata."""


def structure_builder(function: B) -> B:
    """Register a function of features, so that ``meta["structure_from"]`` can name it."""
    _BUILDERS[function.__name__] = function
    return function


def log_degree(structure: Graph | Hypergraph) -> Tensor:
    """log(1 + number of incoming edges or of hyperedges) of each node [N].

    >>> log_degree(Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True))
    tensor([0.0000, 0.6931])
    """
    adjacency = structure.adj if isinstance(structure, Graph) else structure.e2v
    return adjacency.indptr.diff().float().log1p()


def _degree(structure: Graph | Hypergraph) -> Tensor:
    degree = structure.degree() if isinstance(structure, Graph) else structure.node_degree()
    return torch.log1p(degree.float())[:, None]


def _one_and_log_degree(structure: Graph | Hypergraph) -> Tensor:
    degree = log_degree(structure)
    return torch.stack([torch.ones_like(degree), degree], 1)


_FEATURES = {"degree": _degree, "one and log degree": _one_and_log_degree}


def features_from(name: str, structure: Graph | Hypergraph) -> Tensor:
    """Features [N, F] of that name: ``"degree"`` is log(1 + weighted degree), ``"one and log degree"`` has two columns.

    >>> features_from("degree", Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True))
    tensor([[0.0000],
            [0.6931]])
    """
    return _FEATURES[name](structure)


def features_on(data: Source, structure: Graph | Hypergraph) -> Tensor | None:
    """Features that are computed from the structure (``meta["features_from"]``), for another structure.

    Use it for message passing on a part of a structure, such as the training links of a `LinkSplit`.

    Returns:
        [N', F] features of the nodes of ``structure``; None if the features of the data are not computed from it.

    Raises:
        ArgumentError: ``meta["features_from"]`` is not the name of such features.
    """
    name = data.meta.get(FEATURES_FROM)
    if name is None:
        return None
    if not isinstance(name, str) or name not in _FEATURES:
        raise ArgumentError(f"meta[{FEATURES_FROM!r}]", f"one of {sorted(_FEATURES)}", repr(name)[:200])
    return features_from(name, structure).to(data.x)


def restrict(data: Source, nodes: Tensor) -> tuple[Graph | Hypergraph, Tensor | None]:
    """The structure on those nodes, in the given order, and its features if they are computed from it.

    A structure that was made from features (``meta["structure_from"]``) is made again from the rows of these nodes;
    any other is the induced sub-structure.

    Raises:
        ArgumentError: ``meta`` names a function or an option that does not exist.
    """
    recipe = data.meta.get(STRUCTURE_FROM)
    if recipe is not None:
        structure = _built(recipe, data.x[nodes])
    elif isinstance(data.structure, Graph):
        structure = data.structure.subgraph(nodes)
    else:
        structure = data.structure.subhypergraph(nodes)
    return structure, features_on(data, structure)


def _built(recipe: Any, x: Tensor) -> Graph | Hypergraph:
    known = isinstance(recipe, Mapping) and isinstance(recipe.get("builder"), str) and recipe["builder"] in _BUILDERS
    if not known:
        hint = "Importing hgraph.builders registers them"
        expected = f"a 'builder' among {sorted(_BUILDERS)}"
        raise ArgumentError(f"meta[{STRUCTURE_FROM!r}]", expected, repr(recipe)[:200], hint)
    try:
        return _BUILDERS[recipe["builder"]](x, **{name: value for name, value in recipe.items() if name != "builder"})
    except (TypeError, ValueError) as error:
        if isinstance(error, HgraphError):
            raise
        raise ArgumentError(f"meta[{STRUCTURE_FROM!r}]", "options of its builder", repr(recipe)[:200]) from error
