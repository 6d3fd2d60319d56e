"""Triton and native kernels, installed as ``hgraph.kernels``.

The reference in plain torch runs anywhere; nothing here is needed on a CPU. Kernels take and return tensors:
they do not know autograd or the structures of hgraph, and import nothing from it.
"""
