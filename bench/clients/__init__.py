"""Benchmarks of the client libraries, each against its language's bare stub (`python -m bench.clients.run`)."""
