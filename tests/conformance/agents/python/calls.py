"""The operations that are one call, or many of one kind at the same time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sidecar_client import Bundling, Client, Durable, OverflowPolicy, Signing
from values import Digest, digest, generated, payload, payloads, plain, shown

Request = dict[str, Any]
Call = Callable[[Client, Request], Awaitable[Any]]


def options(request: Request, *names: str) -> dict[str, Any]:
    """The library's options among the fields; those that are absent stay away."""
    found: dict[str, Any] = {name: request[name] for name in names if name in request}
    if "signing" in found:
        found["signing"] = Signing[found["signing"]]
    if "bundling" in found:
        found["bundling"] = Bundling[found["bundling"]]
    if "policy" in found:
        found["policy"] = OverflowPolicy[found["policy"]]
    if "timeout_ms" in request:
        found["timeout"] = request["timeout_ms"] / 1000
    return found


async def statistics(client: Client, request: Request) -> Any:
    found = await client.statistics(**options(request))
    return {"values": found, "histograms": {name: plain(histogram) for name, histogram in found.histograms.items()}}


async def set_log_level(client: Client, request: Request) -> Any:
    return plain(await client.set_log_level(request["part"], request["level"], **options(request)))


async def peers(client: Client, request: Request) -> Any:
    return {"peers": [plain(peer) async for peer in client.peers(**options(request, "connected_only", "protocol"))]}


async def configuration(client: Client, request: Request) -> Any:
    return {"entries": [plain(entry) for entry in await client.configuration(**options(request))]}


async def peer(client: Client, request: Request) -> Any:
    return {"peer": plain(await client.peer(request["peer_id"], **options(request)))}


async def closest_peers(client: Client, request: Request) -> Any:
    chosen = options(request, "peer_id", "limit")
    if "key" in request:
        chosen["key"] = payload(request["key"])
    return {"peers": [plain(found) for found in await client.closest_peers(**chosen)]}


async def find_peer(client: Client, request: Request) -> Any:
    return {"addresses": await client.find_peer(request["peer_id"], **options(request))}


async def connect_peer(client: Client, request: Request) -> Any:
    return {"peer": plain(await client.connect_peer(**options(request, "peer_id", "addresses")))}


async def disconnect_peer(client: Client, request: Request) -> Any:
    await client.disconnect_peer(request["peer_id"], **options(request))
    return {}


async def ping_peer(client: Client, request: Request) -> Any:
    return {"latency_ms": await client.ping_peer(request["peer_id"], **options(request)) * 1000}


async def ban_peer(client: Client, request: Request) -> Any:
    chosen = options(request, "peer_id", "network", "reason")
    if "duration_ms" in request:
        chosen["duration"] = request["duration_ms"] / 1000
    return plain(await client.ban_peer(**chosen))


async def allow_peer(client: Client, request: Request) -> Any:
    return {"warnings": plain(await client.allow_peer(**options(request, "peer_id", "network")))}


async def bans(client: Client, request: Request) -> Any:
    return {"bans": [plain(ban) async for ban in client.bans()]}


async def protect_peer(client: Client, request: Request) -> Any:
    return {"warnings": plain(await client.protect_peer(request["peer_id"], **options(request)))}


async def unprotect_peer(client: Client, request: Request) -> Any:
    return {"warnings": plain(await client.unprotect_peer(request["peer_id"], **options(request)))}


async def set_peer_score(client: Client, request: Request) -> Any:
    chosen = options(request)
    if "duration_ms" in request:
        chosen["duration"] = request["duration_ms"] / 1000
    await client.set_peer_score(request["peer_id"], request["score"], **chosen)
    return {}


async def rules(client: Client, request: Request) -> Any:
    return {"rules": plain(await client.rules(**options(request)))}


async def set_rules(client: Client, request: Request) -> Any:
    await client.set_rules(request["rules"], **options(request))
    return {}


async def topics(client: Client, request: Request) -> Any:
    return {"topics": plain(await client.topics(**options(request)))}


async def put_record(client: Client, request: Request) -> Any:
    key, value = payload(request["key"]), payload(request["value"])
    return plain(await client.put_record(key, value, **options(request, "quorum")))


async def get_record(client: Client, request: Request) -> Any:
    record = await client.get_record(payload(request["key"]), **options(request, "quorum"))
    return plain(record) | {"sequence": str(record.sequence)}


async def send(client: Client, request: Request) -> Any:
    def one(data: bytes) -> Awaitable[Any]:
        chosen = options(request, "request_id")
        if request.get("durable"):
            chosen["durable"] = Durable()
        return client.send(request["peer_id"], request["protocol"], data, **chosen)

    if "run" in request:
        receipts, answer = await _at_once(request["run"], one)
        return answer | {"outcomes": Counter(receipt.outcome.name for receipt in receipts.values())}
    return plain(await one(payload(request["data"])))


async def ask(client: Client, request: Request) -> Any:
    def one(data: bytes) -> Awaitable[bytes]:
        return client.request(request["peer_id"], request["protocol"], data, **options(request, "traceparent"))

    if "run" in request:
        run = request["run"]
        responses, answer = await _at_once(run, one)
        same = Counter(
            "same" if data == generated(run["seed"], number, run["size"]) else "different"
            for number, data in responses.items()
        )
        return answer | {"outcomes": same}
    return {"data": shown(await one(payload(request["data"])))}


async def publish(client: Client, request: Request) -> Any:
    chosen = options(request, "signing", "minimum_peers", "bundling", "request_id")

    def one(data: bytes) -> Awaitable[Any]:
        return client.publish(request["topic"], data, **chosen)

    if "run" in request:
        receipts, answer = await _at_once(request["run"], one)
        return answer | {
            "outcomes": Counter(receipt.outcome.name for receipt in receipts.values()),
            "ids_digest": digest(receipts[number].message_id for number in sorted(receipts)),
        }
    return plain(await one(payload(request["data"])))


async def _at_once(run: Request, one: Callable[[bytes], Awaitable[Any]]) -> tuple[dict[int, Any], Request]:
    """Make a call for each payload, all at the same time; the results by number, and the errors counted."""

    async def call(number: int) -> Any:
        return await one(generated(run["seed"], number, run["size"]))

    tasks = [asyncio.create_task(call(number)) for number in range(run["count"])]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    results, errors = {}, Counter[str]()
    for number, task in enumerate(tasks):
        error = task.exception()
        if error is None:
            results[number] = task.result()
        else:
            errors[type(error).__name__] += 1
    return results, {"errors": errors}


async def send_many(client: Client, request: Request) -> Any:
    receipts = await client.send_many(request["peer_id"], request["protocol"], _given(request), **options(request))
    return {"receipts": plain(receipts)}


async def publish_many(client: Client, request: Request) -> Any:
    chosen = options(request, "signing", "minimum_peers", "bundling", "return_message_ids")
    receipts = await client.publish_many(request["topic"], _given(request), **chosen)
    ids = None
    if request.get("return_message_ids"):
        ids = Digest()
        for receipt in receipts:
            for message_id in receipt.message_ids:
                ids.add(message_id)
    shown_receipts = plain(receipts)
    for receipt in shown_receipts:
        del receipt["message_ids"]
    return {"receipts": shown_receipts, "ids_digest": ids and ids.hex()}


def _given(request: Request) -> Any:
    return _waiting(request) if request.get("then_wait") else payloads(request)


async def _waiting(request: Request) -> AsyncIterator[bytes]:
    for data in payloads(request):
        yield data
    await asyncio.Event().wait()


def _values(method: Callable[..., Awaitable[Any]]) -> Call:
    """A call without arguments that answers with a value."""

    async def call(client: Client, request: Request) -> Any:
        return plain(await method(client, **options(request)))

    return call


CALLS: dict[str, Call] = {
    "info": _values(Client.info),
    "readiness": _values(Client.readiness),
    "ready": _values(Client.ready),
    "statistics": statistics,
    "set_log_level": set_log_level,
    "configuration": configuration,
    "peers": peers,
    "peer": peer,
    "find_peer": find_peer,
    "closest_peers": closest_peers,
    "connect_peer": connect_peer,
    "disconnect_peer": disconnect_peer,
    "ping_peer": ping_peer,
    "ban_peer": ban_peer,
    "allow_peer": allow_peer,
    "bans": bans,
    "protect_peer": protect_peer,
    "unprotect_peer": unprotect_peer,
    "set_peer_score": set_peer_score,
    "send": send,
    "send_many": send_many,
    "request": ask,
    "publish": publish,
    "publish_many": publish_many,
    "topics": topics,
    "rules": rules,
    "set_rules": set_rules,
    "put_record": put_record,
    "get_record": get_record,
}
