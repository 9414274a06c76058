"""What an app wants for itself while its call before has not ended here."""

import asyncio
from collections.abc import Callable, Iterable

_LOOKS, _BETWEEN = 25, 0.01  # and seconds: a quarter of one for the news of a call's end; a guess


async def vacated(wanted: Iterable[str], taken: Callable[[], Iterable[str]]) -> None:
    """Wait a moment for whoever has what a call wants for itself to go.

    An app that ends a call and makes it anew, at once or over a new connection, is often quicker than gRPC's news of
    the end. Whoever is still there then stays, and the call is refused.
    """
    names = frozenset(wanted)
    for _ in range(_LOOKS):
        if names.isdisjoint(taken()):
            return
        await asyncio.sleep(_BETWEEN)
