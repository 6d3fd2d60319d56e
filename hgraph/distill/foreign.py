"""Networks of PyG and DHG as teachers: converts the structure to the form that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.convert import to_dhg_graph, to_dhg_hypergraph
from hgraph.structure import Graph, Hypergraph

__all__ = ["adapted", "dhg_teacher", "foreign_layers", "pyg_teacher"]

Forward = Callable[[Tensor, Any], Tensor]


class _Adapted(nn.Module):
    """A network called with ``(x, structure)``; a module, so that it can be put into eval mode."""

    def __init__(self, network: Callable[..., Tensor], convert: Callable[[Any], tuple[Any, dict[str, Any]]]) -> None:
        super().__init__()
        self.network, self.convert = network, convert

    def forward(self, x: Tensor, structure: Graph | Hypergraph) -> Tensor:
        converted, options = self.convert(structure)
        return self.network(x, converted, **options)


def pyg_teacher(model: Callable[..., Tensor]) -> Forward:
    """Use a PyG-style network, ``model(x, edge_index)`` or ``model(x, hyperedge_index)``, as a teacher.

    Edge weights of a graph are passed as ``edge_weight=``. The network classes of PyG need no wrapping.

    >>> teacher = pyg_teacher(lambda x, edge_index: x.index_add(0, edge_index[1], x[edge_index[0]]))
    >>> path = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> teacher(torch.tensor([[1.0], [5.0]]), path).tolist()
    [[6.0], [6.0]]
    """
    return _Adapted(model, _as_pyg)


def dhg_teacher(model: Callable[..., Tensor]) -> Forward:
    """Use a DHG-style network, ``model(X, dhg.Graph | dhg.Hypergraph)``, as a teacher.

    The network classes of DHG need no wrapping.
    """
    return _Adapted(model, _as_dhg)


def adapted(teacher: Any) -> Any:
    """Wrap a network class of PyG or DHG; return anything else unchanged."""
    packages = {kind.__module__.partition(".")[0] for kind in type(teacher).__mro__}
    for package, wrap in _WRAPPERS.items():
        if package in packages:
            return wrap(teacher)
    return teacher


def foreign_layers(teacher: Any) -> str | None:
    """The name of the function that wraps such a network, if a module contains layers of PyG or DHG."""
    if isinstance(teacher, nn.Module) and not isinstance(teacher, _Adapted):
        for package, wrap in _WRAPPERS.items():
            if any(type(m).__module__.partition(".")[0] == package for m in teacher.modules()):
                return wrap.__name__
    return None


_WRAPPERS = {"torch_geometric": pyg_teacher, "dhg": dhg_teacher}


def _as_pyg(structure: Graph | Hypergraph) -> tuple[Tensor, dict[str, Any]]:
    if isinstance(structure, Graph):
        weight = structure.adj.weight
        return structure.edge_index.long(), {} if weight is None else {"edge_weight": weight}
    return torch.stack([structure.v2e.indices, structure.v2e.target]).long(), {}


def _as_dhg(structure: Graph | Hypergraph) -> tuple[Any, dict[str, Any]]:
    return to_dhg_graph(structure) if isinstance(structure, Graph) else to_dhg_hypergraph(structure), {}
