"""Errors over a real Unix socket: every kind arrives typed, every malformed field is named."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from sidecar_client import errors as client_errors

from sidecar.api.common import status as api_errors
from sidecar.api.common.call import Call
from sidecar.api.common.calls import Calls, MethodCalls
from sidecar.api.common.faults import InvalidField
from sidecar.api.server.answering import answered
from sidecar.api.server.grpc_call import taking
from sidecar.core import direct, errors, events
from tests.api.fakes import (
    ME_TEXT,
    OTHER_TEXT,
    THIRD,
    asynchronous,
    served,
)

CHAT = "/chat/1"


def _all_errors(kind: type[errors.SidecarError]) -> list[type[errors.SidecarError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _all_errors(child))]


def test_every_error_has_a_code_and_the_client_a_class_for_it() -> None:
    for kind in _all_errors(errors.SidecarError):
        if kind in (errors.ConfigError, errors.IdentityError, errors.StateLocked, errors.AddressInUse, InvalidField):
            continue  # of the start, never of a call; and InvalidField goes by its cause
        reason = api_errors.reason(kind("x"))
        assert reason in client_errors.BY_REASON, f"{reason}: add a class to sidecar_client/errors.py"


def test_two_dials_that_met_are_a_failed_handshake_to_apps() -> None:
    error = errors.SimultaneousOpen("x")
    assert (api_errors.reason(error), api_errors.code(error)) == ("HANDSHAKE_ERROR", api_errors.Code.UNAVAILABLE)


@pytest.mark.parametrize("kind", [kind for kind in _all_errors(errors.SidecarError) if kind is not InvalidField])
def test_every_error_arrives_typed(kind: type[errors.SidecarError], tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            node.answers[events.PingRequested] = kind("the very words")
            with pytest.raises(client_errors.SidecarError, match="the very words") as caught:
                await client.ping_peer(OTHER_TEXT)
            assert caught.value.reason == api_errors.reason(kind("x"))
            assert (caught.value.retry_after is None) == (not any(issubclass(kind, row) for row in api_errors.RETRY))
            expected = getattr(client_errors, kind.__name__, None)
            if expected not in (None, client_errors.SidecarError):
                assert type(caught.value) is expected

    check()


@asynchronous
async def test_a_broken_method_is_an_internal_error_without_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[events.FindPeerRequested] = 3  # no addresses
        with pytest.raises(sidecar_client.SidecarError, match="internal error"):
            await client.find_peer(OTHER_TEXT)
    assert "find_peer failed" in caplog.text


class _Gone:
    """A call whose caller has gone, which gRPC has not told yet."""

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return False

    def send_initial_metadata(self, metadata: object) -> None:
        raise AssertionError

    async def write(self, batch: bytes) -> None:
        raise grpc.aio.InternalError('Failed "execute_batch"')


@asynchronous
async def test_a_write_to_a_caller_who_has_gone_is_no_failure_of_the_method(caplog: pytest.LogCaptureFixture) -> None:
    async def feed(request: object, call: Call) -> None:
        await call.write(b"more")

    counted = MethodCalls(Calls(1), stream=True)
    with pytest.raises(asyncio.CancelledError):
        await taking(answered(feed, counted))(object(), _Gone())
    assert not caplog.records
    assert counted.open == 0


def _bad_calls(client: sidecar_client.Client) -> list[tuple[str, Callable[[], Any]]]:
    """Calls with one malformed field each, by its name."""
    long = "x" * 300
    return [
        ("peer_id", lambda: client.find_peer("")),
        ("peer_id", lambda: client.find_peer("12D3KooW0")),
        ("peer_id", lambda: client.ping_peer("x" * 1000)),
        ("peer_id", lambda: client.disconnect_peer(ME_TEXT)),
        ("peer_id", lambda: client.connect_peer()),
        ("addresses[1]", lambda: client.connect_peer(addresses=["/ip4/1.2.3.4/tcp/1", "nonsense"])),
        ("addresses[0]", lambda: client.connect_peer(addresses=["/" * 5000])),
        ("addresses", lambda: client.connect_peer(addresses=["/ip4/1.2.3.4/tcp/1"] * 33)),
        ("addresses[0]", lambda: client.connect_peer(OTHER_TEXT, addresses=[f"/ip4/1.2.3.4/tcp/1/p2p/{THIRD}"])),
        ("addresses[0]", lambda: client.connect_peer(addresses=[f"/ip4/1.2.3.4/tcp/1/p2p/{ME_TEXT}"])),
        ("peer_id", lambda: client.send(ME_TEXT, CHAT, b"")),
        ("protocol", lambda: client.send(OTHER_TEXT, "", b"")),
        ("protocol", lambda: client.send(OTHER_TEXT, long, b"")),
        ("request_id", lambda: client.send(OTHER_TEXT, CHAT, b"", request_id=long)),
        ("protocol", lambda: client.request(OTHER_TEXT, "a\nb", b"")),
        ("peer_id", lambda: client.send_many("nobody", CHAT, [b""])),
        ("protocol", lambda: client.send_many(OTHER_TEXT, long, [b""])),
        ("protocols", lambda: client.receive([]).__aenter__()),
        ("protocols[1]", lambda: client.receive([CHAT, long]).__aenter__()),
        ("protocols", lambda: client.serve([], _never).__aenter__()),
        ("topic", lambda: client.publish("", b"")),
        ("topic", lambda: client.publish("x" * 1025, b"")),
        ("signing", lambda: client.publish("news", b"", signing=7)),  # type: ignore[arg-type]
        ("minimum_peers", lambda: client.publish("news", b"", minimum_peers=5000)),
        ("topic", lambda: client.publish_many("x" * 1025, [b""])),
        ("topics", lambda: client.subscribe([]).__aenter__()),
        ("topics", lambda: client.subscribe([f"t{number}" for number in range(65)]).__aenter__()),
        ("cursor", lambda: client.subscribe("news", cursor=b"?").__aenter__()),
        ("policy", lambda: client.subscribe("news", policy=9).__aenter__()),  # type: ignore[arg-type]
    ]


async def _never(request: sidecar_client.Request) -> bytes:
    raise AssertionError("nobody asks")


@asynchronous
async def test_malformed_fields_are_named(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        for field, call in _bad_calls(client):
            with pytest.raises(sidecar_client.InvalidArgument) as caught:
                await call()
            assert caught.value.field == field, caught.value
        with pytest.raises(sidecar_client.SelfDial):
            await client.ping_peer(ME_TEXT)
        with pytest.raises(sidecar_client.InvalidMultiaddr):
            await client.connect_peer(addresses=["/ip4/999.1.1.1/tcp/1"])
        assert not [fed for fed in node.fed if not isinstance(fed, direct.ProtocolsChanged)]


def test_the_table_in_the_documentation_is_the_one_in_force() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/api.md").read_text()
    documented = {
        reason: code
        for code, reasons in re.findall(r"^\| ([A-Z_]+) \| ([A-Z_ ]+) \|$", text, re.M)
        for reason in reasons.split()
    }
    in_force = {
        api_errors.reason(error): api_errors.code(error).name
        for error in (kind("x") for kind in _all_errors(errors.SidecarError) if kind is not InvalidField)
    }
    assert documented == in_force
