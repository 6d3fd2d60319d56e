"""Registration of operators in torch, and choice of a backend."""
