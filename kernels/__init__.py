"""Triton and native kernels, installed as ``hgraph.kernels``.

The reference in plain torch runs anywhere; nothing here is needed on a CPU. Kernels take tensors and return tensors:
they know neither autograd nor the structures of hgraph, and import nothing of it.
"""
