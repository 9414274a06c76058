"""Chaos: what was promised, held against faults that are brought about with real sidecars. `make chaos` plays it."""
