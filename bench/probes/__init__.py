"""Probes held against the truth and the simulator: `python -m bench.probes.run`, which writes docs/propagation.md."""
