"""Byte machines are fed whole, byte by byte, and in random pieces."""

import random
from collections.abc import Iterator


def pieces(data: bytes, seed: int = 7) -> Iterator[list[bytes]]:
    """The ways to cut `data`."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    rng = random.Random(seed)
    for _ in range(5):
        cuts = sorted(rng.sample(range(len(data) + 1), min(len(data), 9)))
        yield [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
