"""Where the Python client connects to, with what security, how long it tries, and what it says when it gives up."""

import asyncio
import datetime
import ipaddress
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sidecar_client._link import Backoff
from sidecar_client._stream import Stream
from sidecar_client._target import find, parse
from sidecar_client.places import default_socket
from sidecar_client.v1 import direct_pb2, node_pb2, node_pb2_grpc, pubsub_pb2, pubsub_pb2_grpc

from tests.api.fakes import asynchronous, server
from tests.clients.python.proxy import Proxy

pytestmark = pytest.mark.usefixtures("each_client_engine")

HERE = os.getcwd()
VARIABLES = ("API", "API_SOCKET", "TLS_CA", "TLS_CERT", "TLS_KEY", "TOKEN", "TOKEN_FILE")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"SIDECAR_{name}", raising=False)


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("text", "shown", "address", "tls", "private"),
    [
        ("unix:/run/api.sock", "unix:/run/api.sock", "unix:/run/api.sock", False, True),
        ("unix:api.sock", f"unix:{HERE}/api.sock", f"unix:{HERE}/api.sock", False, True),
        ("/run/api.sock", "unix:/run/api.sock", "unix:/run/api.sock", False, True),
        ("./api.sock", f"unix:{HERE}/api.sock", f"unix:{HERE}/api.sock", False, True),
        ("../api.sock", f"unix:{HERE}/../api.sock", f"unix:{HERE}/../api.sock", False, True),
        ("127.0.0.1:4748", "127.0.0.1:4748", "127.0.0.1:4748", False, True),
        ("127.9.9.9:1", "127.9.9.9:1", "127.9.9.9:1", False, True),
        ("[::1]:4748", "[::1]:4748", "[::1]:4748", False, True),
        ("localhost:4748", "localhost:4748", "localhost:4748", False, True),
        ("192.0.2.1:4748", "192.0.2.1:4748", "192.0.2.1:4748", False, False),
        ("localhost.example.org:65535", "localhost.example.org:65535", "localhost.example.org:65535", False, False),
        ("tls://node.example.org:443", "tls://node.example.org:443", "node.example.org:443", True, False),
        ("tls://[2001:db8::1]:443", "tls://[2001:db8::1]:443", "[2001:db8::1]:443", True, False),
    ],
)
def test_forms_of_targets(text: str, shown: str, address: str, tls: bool, private: bool) -> None:
    target = parse(text, "as given")
    assert (str(target), target.address, target.tls, target.private) == (shown, address, tls, private)


@pytest.mark.parametrize(
    "text",
    [
        "api.sock",
        "unix:",
        "node",
        "node:",
        ":1",
        "node:0",
        "node:65536",
        "node:1x",
        "http://node:1",
        "tls://node",
        "::1:4748",
        "user@node:1",
        "dns:///node:1",
        "tls:///run/api.sock",
        "node:1/path",
    ],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(sidecar_client.InvalidArgument, match="HOST:PORT") as caught:
        sidecar_client.connect(text)
    assert caught.value.field == "target"


def test_the_path_of_a_socket_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = "/" + "ö" * 53
    for text in (longest, f"unix:{longest}", f"unix://{longest}"):
        assert parse(text, "as given").private
    path = f"{longest}x"
    words = f"^the path of a Unix socket has at most 107 bytes, this one has 108: {path}$"
    for text in (path, f"unix:{path}"):
        with pytest.raises(sidecar_client.InvalidArgument, match=words) as caught:
            sidecar_client.connect(text)
        assert caught.value.field == "target"
    monkeypatch.setenv("XDG_RUNTIME_DIR", path)
    with pytest.raises(sidecar_client.InvalidArgument, match="this one has 125"):
        sidecar_client.connect()


def test_where_a_target_is_taken_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert str(find(None)) == f"unix:{tmp_path}/sidecar/api.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert str(find(None)) == f"unix:{tmp_path}/sidecar-{os.getuid()}/api.sock"
    monkeypatch.setenv("SIDECAR_API_SOCKET", "~/a%41.sock")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(find(None)) == f"unix:{tmp_path}/a%41.sock"
    monkeypatch.setenv("SIDECAR_API", "127.0.0.1:1")
    assert str(find(None)) == "127.0.0.1:1"
    assert str(find("/here.sock")) == "unix:/here.sock"


@pytest.mark.parametrize(
    ("runtime", "temporary", "expected"),
    [
        ("/run/x", "/tmp", "/run/x/sidecar/api.sock"),
        ("", "", "/tmp/sidecar-{uid}/api.sock"),
        ("relative", "/var", "/var/sidecar-{uid}/api.sock"),
        ("", "/not/there", "/tmp/sidecar-{uid}/api.sock"),
        ("", "relative", "/tmp/sidecar-{uid}/api.sock"),
        ("", "/dev/null", "/tmp/sidecar-{uid}/api.sock"),
    ],
)
def test_server_and_client_look_at_one_place(
    runtime: str, temporary: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setenv("TMPDIR", temporary)
    monkeypatch.setenv("TMP", "/var")
    place = expected.format(uid=os.getuid())
    assert str(default_socket()) == place
    monkeypatch.setattr("sidecar_client._target._check_ours", lambda directory: None)
    assert str(find(None)) == f"unix:{place}"


ODD = [
    "per%41cent",
    "a b",
    "q?x",
    "h#x",
    "ünï",
    "new\nline",
    ":colon",
    "a@b",
    "~tilde",
    "%",
    "back\\slash",
    "\udcff\udcfe",
]


@pytest.mark.parametrize("name", ODD)
@asynchronous
async def test_every_path_can_be_connected_to(name: str, tmp_path: Path) -> None:
    """Relative too, and whatever directory the app goes to afterwards."""
    folder = tmp_path / name
    folder.mkdir()
    path = folder / f"{name}.sock"
    served = asyncio.Event()

    def greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.set()
        writer.close()

    listener = await asyncio.start_unix_server(greeted, os.fsencode(path))
    before = os.getcwd()
    os.chdir(folder)
    try:
        clients = [
            sidecar_client.connect(target, wait=0) for target in (f"unix:{name}.sock", str(path), f"./{name}.sock")
        ]
    finally:
        os.chdir(before)
    try:
        for client in clients:
            served.clear()
            assert client.target.isprintable()
            with pytest.raises(sidecar_client.SidecarUnavailable):
                await client.__aenter__()
            assert served.is_set()
    finally:
        listener.close()


def test_a_home_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as without HOME and without an entry
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(sidecar_client.InvalidArgument, match="HOME is not set"):
        sidecar_client.connect("~/a.sock")
    with pytest.raises(sidecar_client.InvalidArgument, match="no NUL"):
        sidecar_client.connect("/a\0b")


def test_another_users_directory_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "sidecar").mkdir()
    (tmp_path / "sidecar").chmod(0o777)
    with pytest.raises(sidecar_client.SidecarUnavailable, match="not trusted"):
        sidecar_client.connect()


# ---------------------------------------------------------------- waiting, and giving up


def test_pauses_double_and_differ() -> None:
    backoff = Backoff()
    for bound in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert bound / 2 <= backoff.next() <= bound
    backoff.reset()
    assert backoff.next() <= 0.05
    assert len({Backoff().next() for _ in range(20)}) > 1


@asynchronous
async def test_no_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "api.sock"
    with pytest.raises(sidecar_client.SidecarUnavailable) as caught:
        async with sidecar_client.connect(str(path), wait=0):
            pass
    assert str(caught.value).startswith(f"no sidecar answers at unix:{path} (as given): tried once in 0.0 s; last: ")
    assert str(caught.value).endswith("No such file or directory")
    assert (caught.value.code, caught.value.reached) == (grpc.StatusCode.UNAVAILABLE, False)
    monkeypatch.setenv("SIDECAR_API", str(path))
    with pytest.raises(sidecar_client.SidecarUnavailable, match=r"\(from SIDECAR_API\): tried [2-9] times in 0\.\d s"):
        async with sidecar_client.connect(wait=0.2):
            pass
    monkeypatch.delenv("SIDECAR_API")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(sidecar_client.SidecarUnavailable, match="the default, SIDECAR_API is not set"):
        async with sidecar_client.connect(wait=0):
            pass


@asynchronous
async def test_a_host_that_does_not_exist_has_not_been_reached() -> None:
    with pytest.raises(sidecar_client.SidecarUnavailable) as caught:
        async with sidecar_client.connect("no-such-host.invalid:1", wait=0):
            pass
    assert not caught.value.reached


@asynchronous
async def test_waits_for_a_sidecar_that_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "api.sock"
    monkeypatch.setenv("SIDECAR_API", str(path))
    client = sidecar_client.connect(wait=10)
    assert client.target == f"unix:{path}"
    entering = asyncio.create_task(client.__aenter__())
    await asyncio.sleep(0)
    async with server(path):
        async with await entering:
            assert (await client.info()).network == "test"
        with pytest.raises(sidecar_client.Closed):
            await client.info()


@asynchronous
async def test_a_sidecar_that_is_slow_to_greet_is_waited_for(tmp_path: Path) -> None:
    class Slow(Proxy):
        async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.25)
            await super()._accept(reader, writer)

    slow = Slow(tmp_path / "slow.sock", tmp_path / "api.sock")
    async with (
        server(tmp_path / "api.sock"),
        slow.running(),
        sidecar_client.connect(slow.target, wait=0) as client,
    ):
        assert (await client.info()).network == "test"


@asynchronous
async def test_somebody_else_there_is_told_at_once(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path / 'api.sock'}", methods={}):
        with pytest.raises(sidecar_client.NotSupported):
            async with sidecar_client.connect(str(tmp_path / "api.sock")):
                pass


# ---------------------------------------------------------------- calls that are made again


class Flaky:
    """Answers GetNode, GetStatistics and Request; the first `failures` calls end with a status instead."""

    def __init__(self, failures: int, code: grpc.StatusCode, text: str = "") -> None:
        self.calls = 0
        self._failures = failures
        self._code = code
        self._text = text

    def methods(self) -> dict[str, Any]:
        return {
            "NodeService/GetNode": self._answering(node_pb2.GetNodeRequest, node_pb2.GetNodeResponse()),
            "NodeService/GetStatistics": self._answering(
                node_pb2.GetStatisticsRequest, node_pb2.GetStatisticsResponse(values={"a": 1.0})
            ),
            "DirectService/Request": self._answering(
                direct_pb2.RequestRequest, direct_pb2.RequestResponse(data=b"answer")
            ),
        }

    def _answering(self, request: Any, response: Any) -> Any:
        async def answer(_: Any, context: Any) -> Any:
            self.calls += 1
            if self.calls <= self._failures:
                await context.abort(self._code, self._text)
            return response

        return grpc.unary_unary_rpc_method_handler(
            answer, request.FromString, lambda message: message.SerializeToString()
        )


@asynchronous
async def test_what_only_reads_is_asked_again(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    flaky = Flaky(3, grpc.StatusCode.UNAVAILABLE, "going away")
    async with serving(place, methods=flaky.methods()):
        client = sidecar_client.connect(place)
        assert await client.statistics() == {"a": 1.0}
        assert flaky.calls == 4
        await client.close()


@asynchronous
async def test_what_may_have_been_done_is_not_done_again(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    flaky = Flaky(1, grpc.StatusCode.UNAVAILABLE, "going away")
    async with serving(place, methods=flaky.methods()):
        client = sidecar_client.connect(place)
        with pytest.raises(sidecar_client.SidecarUnavailable, match="the connection was lost") as caught:
            await client.request("peer", "/ask/1", b"")
        assert caught.value.reached
        assert flaky.calls == 1
        await client.close()


@asynchronous
async def test_what_cannot_have_arrived_is_done_again(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    flaky = Flaky(0, grpc.StatusCode.UNAVAILABLE)
    client = sidecar_client.connect(place)
    with pytest.raises(
        (sidecar_client.SidecarUnavailable, sidecar_client.DeadlineExceeded),  # the latter where it ends within a try
        match=r"no sidecar answers at .*: tried \d times in 0\.\d s|Deadline Exceeded",
    ):
        await client.request("peer", "/ask/1", b"", timeout=0.3)
    asking = asyncio.create_task(client.request("peer", "/ask/1", b""))
    await asyncio.sleep(0)
    async with serving(place, methods=flaky.methods()):
        assert await asking == b"answer"
    await client.close()


@asynchronous
async def test_without_reconnecting_nothing_is_tried_again(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    flaky = Flaky(1, grpc.StatusCode.UNAVAILABLE)
    async with serving(place, methods=flaky.methods()):
        client = sidecar_client.connect(place, reconnect=False)
        with pytest.raises(sidecar_client.SidecarUnavailable):
            await client.statistics()
        assert flaky.calls == 1
        await client.close()


@asynchronous
async def test_closing_ends_what_waits_for_another_try(tmp_path: Path) -> None:
    client = sidecar_client.connect(str(tmp_path / "api.sock"))
    waiting = [asyncio.create_task(client.info()), asyncio.create_task(client.request("peer", "/ask/1", b""))]
    await asyncio.sleep(0)
    await client.aclose()
    for task in waiting:
        with pytest.raises(sidecar_client.Closed, match="this client has been closed"):
            await task


@asynchronous
async def test_an_error_has_the_status_inside(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock") as (_, _, api), sidecar_client.connect(api.target) as client:
        with pytest.raises(sidecar_client.InvalidPeerId) as caught:
            await client.ping_peer("nonsense")
    error = caught.value
    assert (error.code, error.reason, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PEER_ID", "peer_id")
    assert error.status is not None
    assert error.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [detail.TypeName() for detail in error.status.details] == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]
    again = error.again("in other words")
    assert (type(again), str(again), again.field, again.code) == (type(error), "in other words", "peer_id", error.code)


# ---------------------------------------------------------------- TLS and tokens


class Certificates:
    """An authority and what it has signed, as PEM files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self.ca = self._write("ca.pem", self._sign(self._name, self._key.public_key(), ca=True))
        self.server, self.server_key = self.issue("server")
        self.app, self.app_key = self.issue("app")

    def issue(self, name: str) -> tuple[Path, Path]:
        """The files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f"{name}.pem", self._sign(subject, key.public_key())), self._write(f"{name}.key", private)

    def _write(self, name: str, data: bytes) -> Path:
        path = self._directory / name
        path.write_bytes(data)
        return path

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool = False) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def credentials(self) -> grpc.ServerCredentials:
        """A server's that wants to see a client's certificate."""
        pair = (self.server_key.read_bytes(), self.server.read_bytes())
        return grpc.ssl_server_credentials([pair], self.ca.read_bytes(), require_client_auth=True)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pem"))


class Guarded(node_pb2_grpc.NodeServiceServicer, pubsub_pb2_grpc.PubSubServiceServicer):
    """Refuses calls without the token, as a sidecar with authentication would."""

    def __init__(self, token: str) -> None:
        self.token = token

    async def _check(self, context: Any) -> None:
        given = dict(context.invocation_metadata()).get("authorization")
        if given != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not {given}")

    async def GetNode(self, request: Any, context: Any) -> Any:
        await self._check(context)
        return node_pb2.GetNodeResponse(node=node_pb2.Node(network="guarded"))

    async def Subscribe(self, request: Any, context: Any) -> Any:
        await self._check(context)
        await context.send_initial_metadata((("sidecar-stream", "open"),))
        yield pubsub_pb2.SubscribeResponse(cursor=b"here")
        yield pubsub_pb2.SubscribeResponse(messages=[pubsub_pb2.TopicMessage(topic="news", data=b"told", cursor=b"c")])

    async def PublishMany(self, requests: Any, context: Any) -> Any:
        await self._check(context)
        await context.send_initial_metadata((("sidecar-stream", "open"),))
        first = 0
        async for request in requests:
            count = len(request.messages)
            receipt = pubsub_pb2.PublishReceiptRange(
                first=first, count=count, outcome=pubsub_pb2.PUBLISH_OUTCOME_SENT, peers=1
            )
            yield pubsub_pb2.PublishManyResponse(receipts=[receipt])
            first += count


@asynccontextmanager
async def serving(
    address: str,
    *,
    methods: dict[str, Any] | None = None,
    guarded: Guarded | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[int]:
    """A gRPC server that is no sidecar; its port, for TCP."""
    grpc_server = grpc.aio.server()
    for name, method in (methods or {}).items():
        service, _, short = name.partition("/")
        handler = grpc.method_handlers_generic_handler(f"sidecar.v1.{service}", {short: method})
        grpc_server.add_generic_rpc_handlers((handler,))
    if guarded is not None:
        node_pb2_grpc.add_NodeServiceServicer_to_server(guarded, grpc_server)
        pubsub_pb2_grpc.add_PubSubServiceServicer_to_server(guarded, grpc_server)
    if credentials is None:
        port = grpc_server.add_insecure_port(address)
    else:
        port = grpc_server.add_secure_port(address, credentials)
    await grpc_server.start()
    try:
        yield port
    finally:
        await grpc_server.stop(None)


async def use(client: sidecar_client.Client) -> None:
    """A unary call, a stream and a bulk call."""
    async with client:
        assert (await client.info()).network == "guarded"
        async with client.subscribe("news") as news:
            assert (await anext(aiter(news))).data == b"told"
        receipts = await client.publish_many("news", [b"a", b"b"])
        assert [(r.count, r.peers) for r in receipts] == [(2, 1)]


@asynchronous
async def test_tls_with_files_given_or_named_in_the_environment(
    pem: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving("127.0.0.1:0", guarded=Guarded("secret"), credentials=pem.credentials()) as port:
        for host in ("127.0.0.1", "localhost"):
            target = f"tls://{host}:{port}"
            files = {"tls_ca": pem.ca, "tls_cert": pem.app, "tls_key": pem.app_key}
            await use(sidecar_client.connect(target, token="secret", **files))  # type: ignore[arg-type]
        monkeypatch.setenv("SIDECAR_API", target)
        monkeypatch.setenv("SIDECAR_TLS_CA", str(pem.ca))
        monkeypatch.setenv("SIDECAR_TLS_CERT", str(pem.app))
        monkeypatch.setenv("SIDECAR_TLS_KEY", str(pem.app_key))
        monkeypatch.setenv("SIDECAR_TOKEN", "secret")
        client = sidecar_client.connect()
        assert client.target == target
        await use(client)


@asynchronous
async def test_a_server_that_nobody_vouches_for_is_not_spoken_to(tmp_path: Path, pem: Certificates) -> None:
    stranger = Certificates(tmp_path)
    async with serving("127.0.0.1:0", guarded=Guarded("secret"), credentials=pem.credentials()) as port:
        with pytest.raises(sidecar_client.SidecarUnavailable, match=r"(?i)certificate") as caught:
            async with sidecar_client.connect(f"tls://127.0.0.1:{port}", wait=0, tls_ca=stranger.ca):
                pass
        assert not caught.value.reached


@pytest.mark.parametrize("named", [False, True])
def test_files_that_are_no_use_are_refused_before_connecting(
    named: bool, tmp_path: Path, pem: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_key = pem.issue("other")[1]
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    cases: Sequence[tuple[dict[str, Path], str]] = (
        ({"tls_ca": tmp_path / "missing"}, "tls_ca"),
        ({"tls_ca": empty}, "tls_ca"),
        ({"tls_ca": pem.app_key}, "tls_ca"),
        ({"tls_cert": pem.app}, "tls_key"),
        ({"tls_key": pem.app_key}, "tls_cert"),
        ({"tls_cert": pem.app, "tls_key": other_key}, "tls_cert"),
        ({"tls_cert": pem.app, "tls_key": empty}, "tls_cert"),
    )
    for files, field in cases:
        given: dict[str, Any] = dict(files)
        with monkeypatch.context() as environment:
            if named:
                for name, path in files.items():
                    environment.setenv(f"SIDECAR_{name.upper()}", str(path))
                given = {}
            with pytest.raises(sidecar_client.InvalidArgument) as caught:
                sidecar_client.connect("tls://127.0.0.1:1", **given)
        assert caught.value.field == field, files
    with pytest.raises(sidecar_client.InvalidArgument, match="has no TLS"):
        sidecar_client.connect("127.0.0.1:1", tls_ca=pem.ca)


@asynchronous
async def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = Guarded("secret")
    place = f"unix:{tmp_path / 'api.sock'}"
    file = tmp_path / "token"
    file.write_text("secret\n")
    async with serving(place, guarded=guarded), serving("127.0.0.1:0", guarded=guarded) as port:
        await use(sidecar_client.connect(place, token="secret"))
        await use(sidecar_client.connect(f"127.0.0.1:{port}", token_file=file))
        for token in ("other", None):
            with pytest.raises(sidecar_client.Unauthenticated):
                async with sidecar_client.connect(place, token=token):
                    pass
        monkeypatch.setenv("SIDECAR_TOKEN_FILE", str(file))
        await use(sidecar_client.connect(place))
        async with sidecar_client.connect(place) as client:
            guarded.token = "renewed"
            with pytest.raises(sidecar_client.Unauthenticated):
                await client.info()
            (tmp_path / "new").write_text("renewed")
            (tmp_path / "new").rename(file)
            await client.info()
            file.unlink()  # on its way to be replaced
            await client.info()


def test_tokens_that_are_no_use_are_refused_before_connecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\n")
    wrong: list[dict[str, Any]] = [
        {"token": ""},
        {"token": "two words"},
        {"token": "süß"},
        {"token": "a\x00b"},
        {"token_file": file},
        {"token_file": tmp_path / "missing"},
        {"token": "secret", "token_file": file},
    ]
    for given in wrong:
        with pytest.raises(sidecar_client.InvalidArgument):
            sidecar_client.connect("/api.sock", **given)
    for target in ("192.0.2.1:1", "node.example.org:1"):
        with pytest.raises(sidecar_client.InvalidArgument, match="plain text") as caught:
            sidecar_client.connect(target, token="secret")
        assert caught.value.field == "token"
        with monkeypatch.context() as environment:
            environment.setenv("SIDECAR_TOKEN", "secret")
            with pytest.raises(sidecar_client.InvalidArgument, match="plain text"):
                sidecar_client.connect(target)


# ---------------------------------------------------------------- what passes


class Refused(Stream[None]):
    """A stream that is refused whenever it is opened again."""

    def __init__(self, served: bool) -> None:
        class Open:
            reconnect, closed = True, False

            def lost(self, error: sidecar_client.SidecarError) -> bool:
                return isinstance(error, sidecar_client.SidecarUnavailable)

            def check_open(self) -> None: ...

        super().__init__(Open(), "refused")  # type: ignore[arg-type]
        self._served = served


@pytest.mark.parametrize(
    ("kind", "passes"),
    [
        (sidecar_client.Unauthenticated, True),
        (sidecar_client.AlreadyExists, True),
        (sidecar_client.ResourceExhausted, True),
        (sidecar_client.QuotaExceeded, True),
        (sidecar_client.SlowReader, False),
        (sidecar_client.PermissionDenied, False),
        (sidecar_client.InvalidArgument, False),
    ],
)
def test_what_passes_is_waited_for_where_a_stream_was_in_force(
    kind: type[sidecar_client.SidecarError], passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("sidecar_client._stream.time.monotonic", lambda: now)
    assert not Refused(served=False)._worth_another(kind("no"))
    lost = Refused(served=False)  # before it was known to be in force: that call may be there still
    assert lost._worth_another(sidecar_client.SidecarUnavailable("gone"))
    assert lost._worth_another(kind("no")) is (kind is sidecar_client.AlreadyExists)
    stream = Refused(served=True)
    assert stream._worth_another(kind("no")) is passes
    now += 9.9
    assert stream._worth_another(kind("no")) is passes
    now += 0.2
    assert not stream._worth_another(kind("no"))
    assert stream._worth_another(sidecar_client.SidecarUnavailable("gone"))
