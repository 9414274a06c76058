"""`sidecar.v1.DiscoveryService`."""

import asyncio

from ...core.errors import NoQuorum
from ...core.events import (
    AdvertisementAnnounced,
    AdvertiseRequested,
    AdvertisersFound,
    FindAdvertisedRequested,
    RecordFound,
    RecordPutRequested,
    RecordRequested,
    RecordStored,
)
from ...core.override import override
from ..common import values
from ..common.call import OPEN, Call
from ..common.news import OperationNews
from ..common.outlet import pour
from ..service import ApiService, Handlers, ServiceContext
from . import convert

_MAX_NAME = 1024  # bytes
_MAX_KEY = 1024  # bytes; as the Kademlia router's default
_MAX_TTL = 10 * 365 * 86400.0  # seconds; a bound that only a mistake meets


class DiscoveryService(ApiService):
    """Names and records in the DHT; every method as its schema says."""

    def __init__(self, context: ServiceContext) -> None:
        """Its operations are the node's."""
        self._context = context
        self._operations = context.operations

    @override
    def effects(self) -> Handlers:
        return {AdvertisementAnnounced: self._operations.told, AdvertisersFound: self._operations.told}

    async def advertise(self, request: convert.AdvertiseRequest, call: Call) -> None:
        """Be found under a name while the call is open; who holds that, after each announcement."""
        name = values.name(request.name, _MAX_NAME, "name")
        ttl = values.seconds(request.ttl, _MAX_TTL, "ttl")
        follower = OperationNews(newest=True)
        with self._operations.following(lambda op: AdvertiseRequested(op, name), follower):
            await call.begin(OPEN)
            over = asyncio.timeout(ttl or None)
            try:
                async with over:
                    await pour(follower, lambda news: call.write(convert.announced(news, self._context.epoch_ns)))
            except TimeoutError:
                if not over.expired():
                    raise

    async def find_peers(self, request: convert.FindPeersRequest, call: Call) -> None:
        """Peers that advertise a name, as they are found."""
        name = values.name(request.name, _MAX_NAME, "name")
        follower = OperationNews()
        with self._operations.following(lambda op: FindAdvertisedRequested(op, name, request.limit), follower):
            await call.begin(OPEN)
            await pour(follower, lambda news: call.write(convert.found_peers(news.peers)))

    async def put_record(self, request: convert.PutRecordRequest, call: Call) -> object:
        """Store a record; how many peers took it."""
        key = _key(request.key)
        receipt: RecordStored = await self._operations.ask(lambda op: RecordPutRequested(op, key, request.value))
        if receipt.stored < request.quorum:
            raise NoQuorum(f"{receipt.stored} of {receipt.asked} peers took the record, fewer than {request.quorum}")
        return convert.stored(receipt)

    async def get_record(self, request: convert.GetRecordRequest, call: Call) -> object:
        """The newest record of a key."""
        key = _key(request.key)
        found: RecordFound = await self._operations.ask(lambda op: RecordRequested(op, key, request.quorum))
        return convert.record(found)


def _key(key: bytes) -> bytes:
    """Raises InvalidField."""
    if not 0 < len(key) <= _MAX_KEY:
        raise values.invalid("key", f"a key of {len(key)} bytes, from 1 to {_MAX_KEY}")
    return key
