"""Students outside of training: export, prediction, serving, latency."""
