"""Peak memory of one sum on the size of ogbn-arxiv, a process for each method.

    python benchmarks/memory.py

The output of the sum has 83 MiB, its gradient as many; E x F numbers would be 698 MiB.
"""

from __future__ import annotations

from functools import partial

import cases
import harness
import ops
import torch


def call(method: str, backward: bool) -> harness.Method:
    """Inputs and everything prepared once; then the call to be measured."""
    adj, x = cases.arxiv128()
    small, tiny = cases.arxiv128(100, 600, 4)
    ops.forward_methods(small, tiny)[method]()  # libraries set up
    methods = ops.forward_methods(adj, x)
    if not backward:
        return methods[method]
    x.requires_grad_()
    return ops.with_backward(methods, x, torch.ones(adj.num_targets, x.shape[1]))[method]


def main() -> None:
    arguments = harness.setup(__doc__.splitlines()[0])
    report = harness.Report(arguments.csv or "memory.csv", threads=1, unit="MiB above the inputs")
    names = list(ops.forward_methods(*cases.arxiv128(100, 600, 4)))
    for backward in (False, True):
        peaks = {name: [harness.peak_mib(partial(call, name, backward))] for name in names}
        report.add(f"sum arxiv128 forward{'+backward' * backward}", peaks)
    report.write()


if __name__ == "__main__":
    main()
