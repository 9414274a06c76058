"""Who may reach the API: TLS, certificates of apps, and what is refused to start."""

import asyncio
import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import sidecar_client

from sidecar.api.config import ApiConfig
from sidecar.api.guard.tokens import TokenFile
from sidecar.api.server.callers import Callers
from sidecar.config import load
from sidecar.configure import api_config
from sidecar.core.errors import ConfigError
from tests.api.fakes import asynchronous, served, server
from tests.net.certificates import Authority

pytestmark = pytest.mark.usefixtures("each_engine")

EVERYWHERE = "0.0.0.0:0"


@pytest.mark.parametrize(
    ("bounds", "remedy"),
    [
        ({"tcp": EVERYWHERE}, "api.tls_certificate and api.tls_key"),
        ({"tcp": "[::]:0"}, "other machines"),
        ({"tcp": EVERYWHERE, "tls_certificate": "c", "tls_key": "k"}, "api.tls_client_ca"),
        ({"tls_certificate": "c"}, "go together"),
        ({"tls_key": "k"}, "go together"),
        ({"tls_client_ca": "a"}, "without TLS"),
    ],
)
def test_what_others_could_reach_is_refused_with_the_remedy(bounds: dict[str, str], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        ApiConfig(**bounds)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=remedy):
        api_config(load({}, {f"api.{name}": value for name, value in bounds.items()}).config)


def files(authority: Authority, *, clients: bool = False) -> dict[str, Any]:
    certificate, key = authority.issue("127.0.0.1")
    given = {"tcp": "127.0.0.1:0", "tls_certificate": certificate, "tls_key": key}
    return {**given, "tls_client_ca": authority.path} if clients else given


@asynchronous
async def test_tls_and_only_tls_where_a_certificate_is_given(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    async with server(tmp_path / "api.sock", **files(authority)) as (_, _, api):
        assert api.tcp is not None
        assert api.tcp.startswith("tls://127.0.0.1:")
        async with sidecar_client.connect(api.tcp, tls_ca=authority.path, wait=0) as client:
            assert (await client.info()).network == "test"
        for target in (api.tcp.removeprefix("tls://"), api.tcp):  # in plain text; not trusting the authority
            with pytest.raises(sidecar_client.SidecarUnavailable):
                async with sidecar_client.connect(target, wait=0):
                    pass


@pytest.mark.parametrize("tls", [False, True])
@asynchronous
async def test_whoever_holds_all_of_the_ports_connections_leaves_the_socket_its_own(tmp_path: Path, tls: bool) -> None:
    most = 16
    bounds = files(Authority(tmp_path / "ca")) if tls else {"tcp": "127.0.0.1:0"}
    async with server(tmp_path / "api.sock", max_connections=most, **bounds) as (_, _, api):
        assert api.tcp is not None
        port = int(api.tcp.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(most)]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""  # closed at once
            writer.close()
            async with sidecar_client.connect(api.target, wait=0) as client:
                assert (await client.info()).network == "test"
        finally:
            for _, writer in silent:
                writer.close()


@asynchronous
async def test_apps_must_show_a_certificate_of_the_authority(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    bounds = files(ours, clients=True)
    stranger, stranger_key = theirs.issue("app")
    async with server(tmp_path / "api.sock", **{**bounds, "tcp": EVERYWHERE}) as (_, _, api):
        assert api.tcp is not None
        target = api.tcp.replace("0.0.0.0", "127.0.0.1")
        certificate, key = bounds["tls_certificate"], bounds["tls_key"]
        async with sidecar_client.connect(
            target, tls_ca=ours.path, tls_cert=certificate, tls_key=key, wait=0
        ) as client:
            assert (await client.info()).network == "test"
        for shown in ({}, {"tls_cert": stranger, "tls_key": stranger_key}):
            with pytest.raises(sidecar_client.SidecarUnavailable):
                async with sidecar_client.connect(target, tls_ca=ours.path, wait=0, **shown):
                    pass


@asynchronous
async def test_apps_elsewhere_may_show_a_token_instead(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    file = TokenFile(tmp_path / "tokens.json")
    _, token = file.create("app", ["*"], None, 0.0)
    bounds = {**files(authority), "tcp": EVERYWHERE, "tokens": file.path, "require_token": True}
    async with server(tmp_path / "api.sock", **bounds) as (_, _, api):
        assert api.tcp is not None
        target = api.tcp.replace("0.0.0.0", "127.0.0.1")
        async with sidecar_client.connect(target, tls_ca=authority.path, token=token, wait=0) as client:
            assert (await client.info()).network == "test"
        for wrong in (None, token + "x"):
            with pytest.raises(sidecar_client.Unauthenticated):
                async with sidecar_client.connect(target, tls_ca=authority.path, token=wrong, wait=0):
                    pass
        with pytest.raises(sidecar_client.InvalidArgument):  # it never leaves in the clear
            async with sidecar_client.connect(
                target.removeprefix("tls://").replace("127.0.0.1", "192.0.2.1"), token=token
            ):
                pass


@asynchronous
async def test_a_replaced_certificate_is_shown_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Authority(tmp_path / "first"), Authority(tmp_path / "second")
    bounds = files(first)

    async def trusted(authority: Authority) -> bool:
        try:
            async with sidecar_client.connect(api.tcp, tls_ca=authority.path, wait=0):
                return True
        except sidecar_client.SidecarUnavailable:
            return False

    async with server(tmp_path / "api.sock", **bounds) as (_, _, api):
        assert api.tcp is not None
        async with sidecar_client.connect(api.tcp, tls_ca=first.path, wait=0) as client:
            bounds["tls_key"].write_text("half of")
            assert await trusted(first)
            assert await trusted(first)
            assert [
                r.message for r in caplog.records if "stays in force" in r.message and "no certificate" in r.message
            ]
            bounds["tls_key"].unlink()
            assert await trusted(first)
            certificate, key = second.issue("127.0.0.1")
            shutil.move(certificate, bounds["tls_certificate"])
            shutil.move(key, bounds["tls_key"])
            assert await trusted(second)
            assert not await trusted(first)
            await client.info()  # its connection goes on


def test_files_that_are_no_use_stop_the_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    good = files(authority, clients=True)
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    cases = [
        ({"tls_key": tmp_path / "none.pem"}, "api.tls_key .* cannot be read"),
        ({"tls_key": junk}, "no certificate and key"),
        ({"tls_client_ca": junk}, "holds no certificates"),
    ]

    @asynchronous
    async def check() -> None:
        for change, words in cases:
            with pytest.raises(ConfigError, match=words):
                async with server(tmp_path / "api.sock", **{**good, **change}):
                    pass
        async with server(tmp_path / "api.sock", **good):  # the socket's place was given back
            pass

    check()


@asynchronous
async def test_who_connected_is_logged_once_and_only_with_debug(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as (_, _, api, client):
        with caplog.at_level(logging.INFO, "sidecar.api.callers"):
            await client.info()
        assert not caplog.records
        with caplog.at_level(logging.DEBUG, "sidecar.api.callers"):
            await client.info()
            await client.info()
            async with sidecar_client.connect(api.target) as other:
                await other.info()
        line = f"API connection of process {os.getpid()}, user {os.getuid()}, group {os.getgid()}"
        lines = [record.message for record in caplog.records if record.name == "sidecar.api.callers"]
        assert lines == [line, line]
        await asyncio.sleep(0)
    callers = Callers()
    descriptors = len(os.listdir("/proc/self/fd"))
    assert [callers.fresh() for _ in range(100)] == [[]] * 100
    assert len(os.listdir("/proc/self/fd")) < descriptors + 100  # none is left over from looking


@asynchronous
async def test_the_socket_is_given_to_a_user(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with served(tmp_path, socket_owner=str(os.getuid()), socket_group=str(os.getgid())):
        assert path.stat().st_uid == os.getuid()
    with pytest.raises(ConfigError, match="owner 'no-such-user' does not exist"):
        async with server(path, socket_owner="no-such-user"):
            pass
    if os.getuid() == 0:
        async with served(tmp_path, socket_owner="65534"):
            assert path.stat().st_uid == 65534
    else:
        with pytest.raises(ConfigError, match="only root"):
            async with server(path, socket_owner="0"):
                pass
        assert not path.exists()
