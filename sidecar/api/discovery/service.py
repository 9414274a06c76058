"""`sidecar.v1.DiscoveryService`."""

import asyncio

from ...core.errors import NoQuorum
from ...core.events import (
    AdvertiseRequested,
    FindAdvertisedRequested,
    RecordFound,
    RecordPutRequested,
    RecordRequested,
    RecordStored,
)
from ..backend import Backend
from ..common import values
from ..common.follow import Follower
from ..common.status import OPEN, Context
from . import convert as convert

_MAX_NAME = 1024  # bytes
_MAX_KEY = 1024  # bytes; as the Kademlia router's default
_MAX_TTL = 10 * 365 * 86400.0  # seconds; a bound that only a mistake meets


class DiscoveryService:
    """Names and records in the DHT; every method as its schema says."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def advertise(self, request: convert.AdvertiseRequest, context: Context) -> None:
        backend = self._backend
        name = values.name(request.name, _MAX_NAME, "name")
        ttl = values.seconds(request.ttl, _MAX_TTL, "ttl")
        follower = Follower(newest=True)
        with backend.following(lambda op: AdvertiseRequested(op, name), follower):
            await context.send_initial_metadata(OPEN)
            over = asyncio.timeout(ttl or None)
            try:
                async with over:
                    while (news := await follower.next()) is not None:
                        await context.write(convert.announced(news, backend.epoch_ns))
            except TimeoutError:
                if not over.expired():
                    raise

    async def find_peers(self, request: convert.FindPeersRequest, context: Context) -> None:
        name = values.name(request.name, _MAX_NAME, "name")
        follower = Follower()
        with self._backend.following(lambda op: FindAdvertisedRequested(op, name, request.limit), follower):
            await context.send_initial_metadata(OPEN)
            while (news := await follower.next()) is not None:
                await context.write(convert.found_peers(news.peers))

    async def put_record(self, request: convert.PutRecordRequest, context: Context) -> object:
        key = _key(request.key)
        receipt: RecordStored = await self._backend.ask(lambda op: RecordPutRequested(op, key, request.value))
        if receipt.stored < request.quorum:
            raise NoQuorum(f"{receipt.stored} of {receipt.asked} peers took the record, fewer than {request.quorum}")
        return convert.stored(receipt)

    async def get_record(self, request: convert.GetRecordRequest, context: Context) -> object:
        key = _key(request.key)
        found: RecordFound = await self._backend.ask(lambda op: RecordRequested(op, key, request.quorum))
        return convert.record(found)


def _key(key: bytes) -> bytes:
    """Raises InvalidField."""
    if not 0 < len(key) <= _MAX_KEY:
        raise values.invalid("key", f"a key of {len(key)} bytes, from 1 to {_MAX_KEY}")
    return key
