"""Performance targets on a CPU: ratios to limits and to other libraries, peak memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

INDEX, SCATTER, AMAX = "PyG EdgeIndex", "PyG scatter", "torch sparse.mm amax"
LOOP, MLP, GATHER = "limit: C++ loop", "limit: MLP only", "torch gather + index_add"
CACHED, GEMM = "PyG edge_index, cached", "limit: GEMM of as many operations"
CAUSAL = "limit: SDPA is_causal (all keys: more work)"


@dataclass(frozen=True)
class Target:
    """One target.

    Args:
        number: number of its group.
        suite: the suite whose file has it.
        case: its name in the file.
        other: the method to compare with; "" uses the number of hgraph itself.
        bound: upper bound on hgraph's time / the limit's, or lower bound on the other library's time / hgraph's.
        at_most: whether ``bound`` is an upper bound.
    """

    number: int
    suite: str
    case: str
    other: str
    bound: float
    at_most: bool

    def found(self, rows: Iterable[dict[str, str]]) -> float | None:
        """The ratio (or the number) in the rows of the suite; None if not measured."""
        minimum = {row["method"]: float(row["min"]) for row in rows if row["case"] == self.case and row["min"]}
        if "hgraph" not in minimum or (self.other and self.other not in minimum):
            return None
        if not self.other:
            return minimum["hgraph"]
        ratio = minimum[self.other] / minimum["hgraph"]
        return 1 / ratio if self.at_most else ratio

    def reached(self, found: float) -> bool:
        return found <= self.bound if self.at_most else found >= self.bound


def _targets() -> list[Target]:
    made: list[Target] = []

    def add(number: int, suite: str, case: str, **others: object) -> None:
        made.extend(Target(number, suite, case, *other) for other in others.values())  # type: ignore[misc]

    def at_most(other: str, bound: float) -> tuple[str, float, bool]:
        return other, bound, True

    def at_least(other: str, bound: float) -> tuple[str, float, bool]:
        return other, bound, False

    for case, index in (("hyper64", 2.5), ("arxiv128", 1.4), ("big64", 1.2)):
        add(1, "ops", f"sum {case}", a=at_most(LOOP, 1.15), b=at_least(INDEX, index), c=at_least(SCATTER, 8))
    for case, index, scatter in (("hyper64", 3.0, 30.0), ("arxiv128", 1.7, 10.0)):
        loop = at_most("limit: C++ loop, kept transpose", 1.15)
        add(2, "ops", f"sum {case} f+b", a=loop, b=at_least(INDEX, index), c=at_least(SCATTER, scatter))
    for case in ("hyper64", "arxiv128"):
        add(3, "ops", f"max {case}", a=at_most(LOOP, 1.2), b=at_least(AMAX, 2), c=at_least(SCATTER, 6))
    pointer, by_index = "PyG softmax(ptr)", "PyG softmax(index)"
    add(4, "ops", "softmax arxiv H=8", a=at_most(LOOP, 1.1), b=at_least(pointer, 2.5), c=at_least(by_index, 3.5))
    add(4, "ops", "softmax arxiv H=8 f+b", a=at_least(pointer, 2), b=at_least(by_index, 2))
    pyg, dhg = "PyG HypergraphConv", "DHG"
    add(5, "models", "HGNN 50k training epoch", a=at_most(MLP, 1.45), b=at_least(pyg, 7), c=at_least(dhg, 60))
    add(6, "models", "HGNN 50k inference", a=at_most(MLP, 2.4), b=at_least(pyg, 16), c=at_least(dhg, 90))
    add(7, "models", "HGNN+ 50k training epoch", a=at_most(MLP, 1.35), b=at_least(dhg, 2.5))
    add(7, "models", "HGNN+ 50k inference", a=at_most(MLP, 2.3), b=at_least(dhg, 5))
    csr = "PyG CSR"
    add(8, "models", "GCN arxiv training epoch", a=at_most(MLP, 3.0), b=at_least(CACHED, 3.3), c=at_least(csr, 1.5))
    add(8, "models", "GCN arxiv inference", a=at_most(MLP, 1.9), b=at_least(CACHED, 5), c=at_least(csr, 1.5))
    add(9, "models", "GAT arxiv training epoch", a=at_most(MLP, 7), b=at_least("PyG GATConv", 2.8))
    add(9, "models", "GAT arxiv inference", a=at_most(MLP, 4.8), b=at_least("PyG GATConv", 4))
    add(10, "models", "GCN Cora training epoch", a=at_most(MLP, 1.4), b=at_least(CACHED, 1.5))
    add(10, "models", "GCN Cora inference", a=at_most(MLP, 1.25), b=at_least(CACHED, 1.7))
    flex = "torch FlexAttention, compiled"
    for tokens, causal in (("4k", 3.0), ("16k", 12.0)):
        case = f"window 256 of {tokens} tokens"
        add(11, "attention", case, a=at_most(GEMM, 4), b=at_least(flex, 1.3), c=at_least(CAUSAL, causal))
    add(12, "memory", "sum arxiv128", a=at_most("", 91), b=at_least(GATHER, 17))
    add(12, "memory", "sum arxiv128 f+b", a=at_most("", 183), b=at_least(GATHER, 8))
    return made


TARGETS = _targets()

# Lower bounds of a case, the tightest first: if they miss a target, hgraph cannot reach it.
FLOORS = (LOOP, "limit: C++ loop, kept transpose", "limit: MLP and its sums by C++ loops", MLP)

# Notes on groups that miss a target; {suite, case: one / other} is the ratio of their times in the files.
WHY: dict[int, str] = {
    5: "an epoch is the MLP and seven sums. With the sum of constant features cached (`prepare`), DHG takes "
    "{models, HGNN 50k training epoch: DHG / hgraph, A x kept} times as long.",
    6: "an inference is the MLP and four sums, or three if A x is cached; then DHG takes "
    "{models, HGNN 50k inference: DHG / hgraph, A x kept} times as long. Linear maps run over hyperedges, which are "
    "fewer than nodes.",
    7: "as for 5 and 6; with A x cached, inference with DHG takes "
    "{models, HGNN+ 50k inference: DHG / hgraph, A x kept} times as long.",
    8: "the MLP is {models, GCN arxiv inference: limit: MLP only / hgraph} of an inference. With A x cached, PyG's CSR "
    "takes {models, GCN arxiv inference: PyG CSR / hgraph, A x kept} times as long.",
    9: "the rest is the attention kernel, which is limited by memory access: it reads rows of values and gradients in "
    "random order.",
    10: "the products with 1433 features, which all methods compute, take most of the time: the MLP takes "
    "{models, GCN Cora training epoch: limit: MLP only / hgraph} of a training epoch and "
    "{models, GCN Cora inference: limit: MLP only / hgraph} of an inference.",
}
