"""Durable messages between real sidecars that are killed meanwhile."""

import asyncio
import contextlib
import json
from pathlib import Path

import sidecar_client
from sidecar_client import Client, Durable, DurableOutcome, SendOutcome

from tests.clients.python.proxy import Proxy

from .processes import PATIENCE, Process, running, running_pair

ORDERS = "/orders/1"


def connected(sidecar: Process) -> Client:
    return sidecar_client.connect(f"unix:{sidecar.socket}", wait=PATIENCE)


async def outcomes(client: Client, count: int) -> list[tuple[int, DurableOutcome, str]]:
    """The first so many, in the order of what was sent."""
    found = []
    async with asyncio.timeout(PATIENCE), client.watch_outbox(cursor=0) as watch:
        async for event in watch:
            found.append((event.message_id.sequence, event.outcome, event.reason))
            if len(found) == count:
                break
    return sorted(found)


def test_what_was_sent_outlives_both_sidecars_and_is_settled_once(tmp_path: Path) -> None:
    asyncio.run(_killed(tmp_path))


async def _killed(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    with running(two) as receiver:
        receiver.line("  address")
        receiver_id = receiver.json("id")["peer_id"]
        async with connected(receiver) as client, client.receive_durable(ORDERS):
            pass  # from now on its sidecar takes them
        receiver.popen.kill()
    with running(one) as sender:
        sender.line("  address")
        async with connected(sender) as client:
            for number in range(3):
                receipt = await client.send(
                    receiver_id, ORDERS, b"order %d" % number, durable=Durable(), request_id=f"order-{number}"
                )
                assert receipt.outcome is SendOutcome.STORED
        sender.popen.kill()
    with running(one) as sender:
        address = sender.line("  address").split()[-1]
        listed = [json.loads(line) for line in sender.command("outbox", "--json").stdout.splitlines()]
        assert [(each["message_id"]["sequence"], each["held"]) for each in listed] == [
            (1, False),
            (2, False),
            (3, False),
        ]
        async with connected(sender) as client:
            again = await client.send(receiver_id, ORDERS, b"order 1", durable=Durable(), request_id="order-1")
            assert again.message_id is not None
            assert again.message_id.sequence == 2
        with running(two, "--bootstrap", address) as receiver:
            async with (
                connected(receiver) as client,
                asyncio.timeout(PATIENCE),
                client.receive_durable(ORDERS) as orders,
            ):
                first = await anext(aiter(orders))
                assert (first.data, first.attempt) == (b"order 0", 1)
                assert await first.acknowledge()
            receiver.popen.kill()
        with running(two, "--bootstrap", address) as receiver:
            async with (
                connected(receiver) as client,
                asyncio.timeout(PATIENCE),
                client.receive_durable(ORDERS) as orders,
            ):
                given = aiter(orders)
                second, third = await anext(given), await anext(given)
                assert [second.data, third.data] == [b"order 1", b"order 2"]
                assert second.attempt in (1, 2)  # it may have been on its way to the app when the sidecar was killed
                assert await second.reject("sold out")
                assert await third.acknowledge()
                assert not await third.acknowledge()
            async with connected(sender) as client:
                assert await outcomes(client, 3) == [
                    (1, DurableOutcome.DONE, ""),
                    (2, DurableOutcome.REJECTED, "sold out"),
                    (3, DurableOutcome.DONE, ""),
                ]
                assert await client.outbox() == []
            assert receiver.command("inbox").stdout == "nothing waits\n"


def test_a_watch_that_had_no_event_when_the_connection_was_lost_misses_none(tmp_path: Path) -> None:
    asyncio.run(_watched_over_an_outage(tmp_path))


async def _watched_over_an_outage(tmp_path: Path) -> None:
    with running_pair(tmp_path) as (sender, receiver):
        receiver_id = receiver.json("id")["peer_id"]
        proxy = Proxy(tmp_path / "proxy.sock", sender.socket)
        async with (
            asyncio.timeout(PATIENCE),
            contextlib.AsyncExitStack() as stack,
            connected(sender) as client,
            connected(receiver) as app,
            app.receive_durable(ORDERS) as orders,
        ):
            async with proxy.running():
                far = await stack.enter_async_context(sidecar_client.connect(proxy.target, wait=PATIENCE))
                watch = await stack.enter_async_context(far.watch_outbox())
            await client.send(receiver_id, ORDERS, b"an order", durable=Durable())
            await (await anext(aiter(orders))).acknowledge()
            assert await outcomes(client, 1) == [(1, DurableOutcome.DONE, "")]
            async with proxy.running():
                assert (await anext(aiter(watch))).message_id.sequence == 1


def test_dead_letters_are_listed_retried_and_purged_on_the_command_line(tmp_path: Path) -> None:
    asyncio.run(_buried(tmp_path))


async def _buried(tmp_path: Path) -> None:
    with running(tmp_path / "1") as sender:
        address = sender.line("  address").split()[-1]
        with running(tmp_path / "2", "--bootstrap", address) as receiver:
            receiver.line("Ready after")
            receiver_id = receiver.json("id")["peer_id"]
            async with connected(receiver) as client, asyncio.timeout(PATIENCE):
                async with client.receive_durable(ORDERS, max_deliveries=1) as orders:
                    assert sender.json("send", receiver_id, ORDERS, "poison", "--durable")["outcome"] == "STORED"
                    assert (await anext(aiter(orders))).data == b"poison"
                async with client.receive_durable(ORDERS, max_deliveries=1) as orders:
                    assert sender.json("send", receiver_id, ORDERS, "fine", "--durable")["outcome"] == "STORED"
                    fine = await anext(aiter(orders))
                    assert fine.data == b"fine"
                    await fine.acknowledge()
                dead = receiver.json("inbox", "dead", "--data")
                assert (dead["text"], dead["attempts"]) == ("poison", 1)
                assert receiver.json("inbox", "retry", "--all") == {"retried": 1}
                done = receiver.command("receive", ORDERS, "--durable", "--count", "1", "--json")
                assert json.loads(done.stdout)["text"] == "poison"
                assert receiver.json("inbox", "purge", "--all") == {"purged": 0}
            assert sender.command("outbox", "withdraw").returncode == 2
            assert sender.json("outbox", "withdraw", "--peer", receiver_id) == {"withdrawn": 0}


def test_a_damaged_file_of_messages_is_never_replaced(tmp_path: Path) -> None:
    state = tmp_path / "1" / "state"
    state.mkdir(parents=True, mode=0o700)
    (state / "durable.db").write_bytes(b"SQLite format 3\0" + b"junk" * 1000)
    before = (state / "durable.db").read_bytes()
    with running(tmp_path / "1") as sidecar:
        assert sidecar.ended() == 1
        assert "durable.db is damaged" in sidecar.log()
        assert "move it away and lose them" in sidecar.log()
    assert (state / "durable.db").read_bytes() == before
