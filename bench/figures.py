"""Figures of many measurements."""

from collections.abc import Sequence


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The 50th and the 99th percentile, as `p50` and `p99`."""
    ordered = sorted(values)
    return {f"p{part}": ordered[min(len(ordered) - 1, len(ordered) * part // 100)] for part in (50, 99)}
