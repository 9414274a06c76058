"""Benchmarks: the sidecar beside other implementations, on one machine in one run (`python -m bench.run`)."""
