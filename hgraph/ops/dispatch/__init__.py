"""From Python to torch: registration of operators, choice of a backend."""
