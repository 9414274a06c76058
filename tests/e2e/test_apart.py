"""Apps of one sidecar that asks for tokens: each sees its own, and nobody's secrets are written anywhere."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import sidecar_client
from sidecar_client import Client, SendOutcome

from .processes import PATIENCE, Process, command, running


class Place(NamedTuple):
    """A guarded sidecar, one beside it that is open, and the files with the guarded one's tokens, by app."""

    guarded: Process
    open: Process
    tokens: dict[str, Path]
    psk: Path


APPS = {
    "chat": ("receive:/chat/*", "serve:/chat/*", "stream:/chat/*", "subscribe:chat/*", "publish:chat/*"),
    "files": ("receive:/files/*", "serve:/files/*", "stream:/files/*", "subscribe:files/*", "publish:files/*"),
    "all": ("*",),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Everything that can be made to write is: the log at its most talkative, the trace of the wire."""
    home = tmp_path_factory.mktemp("apart")
    psk = home / "psk"
    made = command(home, "keygen", "--psk", str(psk))
    assert made.returncode == 0, made.stderr
    private = ("--network-psk-file", str(psk))
    talkative = ("--log-level", "debug", "--trace-wire", str(home / "1.trace"), "--api-require-token", "true")
    with running(home / "1", *private, *talkative) as guarded:
        address = guarded.line("  address").split()[-1]
        tokens = {name: home / f"{name}.token" for name in APPS}
        for name, scopes in APPS.items():
            allow = [word for scope in scopes for word in ("--allow", scope)]
            words = ("create", "--name", name, *allow, "--out", str(tokens[name]), "--state", str(guarded.state))
            made = command(guarded.home, "token", *words)
            assert made.returncode == 0, made.stderr
        with running(home / "2", *private, "--bootstrap", address) as other:
            guarded.line("Ready after")
            other.line("Ready after")
            yield Place(guarded, other, tokens, psk)


@contextlib.asynccontextmanager
async def clients(place: Place) -> AsyncIterator[tuple[Client, Client, Client, str]]:
    """The two apps that are kept apart, one of the other sidecar, and the guarded one's peer id."""
    target = f"unix:{place.guarded.socket}"
    async with (
        asyncio.timeout(PATIENCE),
        sidecar_client.connect(target, token_file=place.tokens["chat"]) as chat,
        sidecar_client.connect(target, token_file=place.tokens["files"]) as files,
        sidecar_client.connect(f"unix:{place.open.socket}") as other,
    ):
        yield chat, files, other, (await chat.info()).peer_id


def test_direct_messages_requests_and_streams_reach_the_app_that_may_have_them(place: Place) -> None:
    async def play() -> None:
        async def answer(request: sidecar_client.Request) -> bytes:
            return b"from chat"

        async with clients(place) as (chat, files, other, peer):
            async with (
                chat.receive("/chat/1") as chats,
                files.receive("/files/1") as filed,
                chat.serve("/chat/ask", answer),
                chat.accept_streams("/chat/bytes"),
            ):
                for app, theirs in ((files, "/chat/1"), (chat, "/files/1")):
                    with pytest.raises(sidecar_client.PermissionDenied, match=f"receive:{theirs}"):
                        async with app.receive(theirs):
                            pass
                with pytest.raises(sidecar_client.PermissionDenied, match="receive:/chat/1"):
                    async with files.receive(["/files/2", "/chat/1"]):  # not beside its own either
                        pass
                with pytest.raises(sidecar_client.PermissionDenied, match="serve:/chat/2"):
                    async with files.serve("/chat/2", answer):
                        pass
                with pytest.raises(sidecar_client.PermissionDenied, match="stream:/chat/2"):
                    async with files.accept_streams("/chat/2"):
                        pass
                for protocol, data in (("/chat/1", b"for chat"), ("/files/1", b"for files")):
                    receipt = await other.send(peer, protocol, data)
                    assert receipt.outcome is SendOutcome.DELIVERED
                assert (await anext(aiter(chats))).data == b"for chat"
                assert (await anext(aiter(filed))).data == b"for files"
                assert await other.request(peer, "/chat/ask", b"?") == b"from chat"
            with pytest.raises(sidecar_client.NotSupported):  # nobody took chat's place
                await other.request(peer, "/chat/ask", b"?")

    asyncio.run(play())


def test_topics_are_read_and_written_by_the_app_that_may(place: Place) -> None:
    async def play() -> None:
        async with clients(place) as (chat, files, other, _), chat.subscribe("chat/a") as chats:
            with pytest.raises(sidecar_client.PermissionDenied, match="subscribe:chat/a"):
                async with files.subscribe("chat/a"):
                    pass
            with pytest.raises(sidecar_client.PermissionDenied, match="subscribe:chat/a"):
                async with files.subscribe(["files/a", "chat/a"]):
                    pass
            with pytest.raises(sidecar_client.PermissionDenied, match="publish:chat/a"):
                await files.publish("chat/a", b"forged")
            with pytest.raises(sidecar_client.PermissionDenied, match="node:read"):
                await files.topics()  # it would tell the names
            await other.publish("chat/a", b"for chat", minimum_peers=1)
            assert (await anext(aiter(chats))).data == b"for chat"

    asyncio.run(play())


def test_ids_of_one_app_do_not_answer_for_another(place: Place) -> None:
    async def play() -> None:
        async with (
            clients(place) as (chat, _, other, _),
            sidecar_client.connect(f"unix:{place.guarded.socket}", token_file=place.tokens["all"]) as both,
            other.subscribe("chat/b") as read,
        ):
            first = await chat.publish("chat/b", b"chat's", request_id="1", minimum_peers=1)
            again = await chat.publish("chat/b", b"chat's", request_id="1", minimum_peers=1)
            third = await both.publish("chat/b", b"another's", request_id="1", minimum_peers=1)
            assert first.message_id == again.message_id != third.message_id
            assert {(await anext(aiter(read))).data for _ in range(2)} == {b"chat's", b"another's"}

    asyncio.run(play())


def test_no_secret_is_written_anywhere(place: Place) -> None:
    guarded = place.guarded
    secrets = {name: file.read_text().strip() for name, file in place.tokens.items()}
    wrong = secrets["all"][:-5] + "wrong"
    said = []

    def run(word: str, token: str, *words: str) -> None:
        done = command(guarded.home, word, "--api", str(guarded.socket), *words, environ={"SIDECAR_TOKEN": token})
        said.append(done.stdout + done.stderr)

    run("publish", secrets["all"], "news", "hello")
    for token in (secrets["chat"], wrong):
        run("peers", token)
    state = ("--state", str(guarded.state))
    for words in (("config", *state), ("token", "list", "--json", *state)):
        done = command(guarded.home, *words)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout + done.stderr)

    async def errors() -> None:
        """What a call ends with, all of it; and the statistics."""
        async with (
            grpc.aio.insecure_channel(f"unix:{guarded.socket}") as channel,
            sidecar_client.connect(f"unix:{guarded.socket}", token=secrets["all"]) as app,
        ):
            said.append(repr(await app.statistics()))
            for token in (secrets["chat"], wrong):
                for method in ("NodeService/GetStatistics", "PubSubService/Subscribe"):
                    call = channel.unary_unary(f"/sidecar.v1.{method}")(
                        b"", metadata=(("authorization", f"Bearer {token}"),)
                    )
                    said.append(f"{await call.details()} {await call.trailing_metadata()}")

    asyncio.run(errors())
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            said.append(process.read_bytes().decode(errors="replace"))

    keys = [line for line in place.psk.read_text().splitlines() if not line.startswith("/")]
    seed = (guarded.state / "identity.key").read_bytes()[4:36]
    needles = [text.split("_", 2)[2] for text in (*secrets.values(), wrong)] + keys
    needles += [seed.hex(), base64.b64encode(seed).decode().rstrip("=")[:42]]
    for text in said:
        assert not [needle for needle in needles if needle in text]
    private = {*place.tokens.values(), place.psk, guarded.state / "identity.key", place.open.state / "identity.key"}
    files = [path for path in guarded.home.parent.rglob("*") if path.is_file() and path not in private]
    assert {"stderr", "1.trace", "audit.log", "tokens.json", "peers.db"} <= {path.name for path in files}
    for path in files:
        written = path.read_bytes()
        assert not [needle for needle in needles if needle.encode() in written or seed in written], path
    opened = [path for path in guarded.state.iterdir() if path.stat().st_mode & 0o077]
    assert not opened  # whatever the umask of who started it
    log = guarded.log()
    assert "refused a call" in log  # it was at its most talkative, and saw the attempts
    assert "DEBUG" in log
    assert secrets["all"].split("_")[1] in (guarded.state / "tokens.json").read_text()  # the id is no secret
