"""The backends: native CPU kernels and Triton kernels behind the registered operators."""
