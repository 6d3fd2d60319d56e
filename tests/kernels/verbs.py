"""A table of the verbs for the tests of kernels, with the shapes of their inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from hgraph import (
    Additive,
    Adjacency,
    Affine,
    BlockAdjacency,
    Memory,
    Relative,
    SoftmaxState,
    attend,
    attention_weights,
    edge_score,
    edge_softmax,
    gather,
    merge,
    patterns,
    propagate,
    scan,
    scatter,
    segment_reduce,
)
from hgraph.testing import random_adjacency

ADJ = random_adjacency(6, 5, 17, seed=2)
H, D = 2, 4


def _biased(tiles: BlockAdjacency, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    place = torch.arange(q.shape[0], device=q.device).unsqueeze(1)
    return attend(tiles, q, k, v, bias=Relative(table, place, place)).out


# Each verb: a function of a structure and tensors, and the shapes of these tensors, in letters.
VERBS: dict[str, tuple[Callable[..., Tensor], str]] = {
    "sum": (lambda adj, x, w: propagate(adj, x, weight=w), "SD E"),
    "sum by head": (lambda adj, x, w: propagate(adj, x, weight=w), "SD EH"),
    "mean": (lambda adj, x, w: propagate(adj, x, weight=w, reduce="mean"), "SD EH"),
    "mean by channel": (lambda adj, x, w: propagate(adj, x, weight=w, reduce="mean"), "SD ED"),
    "max": (lambda adj, x, w: propagate(adj, x, weight=w, reduce="max"), "SD E"),
    "min": (lambda adj, x: propagate(adj, x, reduce="min"), "SD"),
    "dot score": (edge_score, "THD SHD"),
    "additive score": (lambda adj, q, k: edge_score(adj, q, k, score=Additive()), "TH SH"),
    "vector score": (lambda adj, q, k, a: edge_score(adj, q, k, score=Additive(a)), "THD SHD HD"),
    "softmax": (edge_softmax, "EH"),
    "grouped softmax": (lambda adj, s: edge_softmax(adj, s, group=adj.indices % 2), "EH"),
    "attend": (lambda adj, q, k, v, b: attend(adj, q, k, v, bias=b, dropout=0.5).out, "THD SHD SHD EH"),
    "additive attend": (lambda adj, q, k, v: attend(adj, q, k, v, score=Additive()).out, "TH SH SHD"),
    "vector attend": (lambda adj, q, k, v, a: attend(adj, q, k, v, score=Additive(a)).out, "THD SHD SHD HD"),
    "merged": (lambda adj, q, k, v: merge(attend(adj, q, k, v), attend(adj, q, k, 2 * v)).out, "THD SHD SHD"),
    "weights": (attention_weights, "THD SHD TH"),
    "biased weights": (lambda adj, q, k, lse, b: attention_weights(adj, q, k, lse, bias=b), "THD SHD TH E"),
    "scatter": (lambda adj, x: scatter(x, adj.indices, 0, dim_size=adj.num_sources, reduce="mean"), "ED"),
    "segments": (lambda adj, x: segment_reduce(x, adj.indptr, reduce="max"), "ED"),
    "gather": (lambda adj, x: gather(x, adj.indices, 0), "SD"),
    "affine scan": (lambda _, a, b: scan(Affine(), (a, b)).states, "ED ED"),
    "packed scan": (lambda adj, a, b, h: scan(Affine(), (a, b), initial=h, segments=adj.indptr).states, "ED ED TD"),
    "memory scan": (lambda _, q, k, v, log_a: scan(Memory("scalar"), (q, k, v, -(log_a**2))).states, "ED ED ED E"),
    "softmax scan": (lambda _, s, v: scan(SoftmaxState(), (s, v)).states.out, "E ED"),
    "tiles": (lambda tiles, q, k, v: attend(tiles, q, k, v, dropout=0.5).out, "THD SHD SHD"),
    "tiles with hubs": (lambda tiles, q, k, v: attend(tiles, q, k, v).out, "THD SHD SHD"),
    "biased tiles": (_biased, "THD SHD SHD HL"),
}
TILED = ["tiles", "tiles with hubs", "biased tiles"]
# These reshape around the operator with what the reference is made of, too.
ATTENTION = ["attend", "additive attend", "vector attend", "merged", "weights", "biased weights", *TILED]


@functools.cache
def structures(verb: str, at: str) -> tuple[Adjacency | BlockAdjacency, ...]:
    """Two structures of different sizes for a verb, on a device."""
    if verb == "tiles":
        tiles = [patterns.sliding_window(n, 9).tiles(16) for n in (20, 40)]
    elif verb in TILED:
        tiles = [(patterns.sliding_window(n, 3) | patterns.global_tokens(n, [0])).tiles(16) for n in (20, 40)]
    else:
        return tuple(adj.to(at) for adj in (ADJ, random_adjacency(3, 9, 32)))
    return tuple(t.with_transpose().to(at) for t in tiles)


def numbers(verb: str, edges: Adjacency | BlockAdjacency) -> list[Tensor]:
    """The inputs of a verb for a structure, on its device."""
    edge_count = getattr(edges, "num_edges", 0)
    size = {"T": edges.num_targets, "S": edges.num_sources, "E": edge_count, "H": H, "D": D, "L": 9}
    return [leaf(*(size[letter] for letter in shape), at=edges.device) for shape in VERBS[verb][1].split()]


def leaf(*shape: int, at: torch.device | str = "cpu") -> Tensor:
    """A tensor that requires a gradient, equal for equal shapes."""
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return torch.randn(shape, generator=generator).to(at).requires_grad_()


def run(verb: str, edges: Adjacency | BlockAdjacency, given: list[Tensor]) -> list[Tensor]:
    """The result of a verb and all gradients."""
    out = VERBS[verb][0](edges, *given)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), given)]
