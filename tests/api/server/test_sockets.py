"""The API's Unix socket: every path works, nothing of others is removed, and one that is deleted comes back."""

import asyncio
import os
import shutil
import socket
from pathlib import Path

import pytest
import sidecar_client

from sidecar.api.server.sockets import SocketPlace
from sidecar.core.errors import AddressInUse, ConfigError
from tests.api.fakes import asynchronous, server


def place(path: Path) -> SocketPlace:
    return SocketPlace(path, mode=0o600, owner=None, group=None)


def bound(place: SocketPlace) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.fsencode(place.drawn_up))
    listening.listen()
    place.opened()
    return listening


@pytest.mark.parametrize(
    "name", ["per%41cent", "a b", "q?x=1", "a#b", "a:b", "-a", "é", "new\nline", "\udcff", "x" * 60, "%", "a;b&c"]
)
@asynchronous
async def test_every_path_works(tmp_path: Path, name: str) -> None:
    directory = Path(f"/tmp/{os.urandom(4).hex()}") / name
    directory.mkdir(parents=True)
    try:
        async with (
            server(directory / "a.sock") as (_, _, api),
            sidecar_client.connect(f"unix:{api.socket}", wait=0) as client,
        ):
            assert (await client.info()).network == "test"
            assert sorted(os.listdir(directory)) == ["a.sock", "a.sock.lock"]
        assert os.listdir(directory) == ["a.sock.lock"]
    finally:
        shutil.rmtree(directory.parent)


@asynchronous
async def test_a_path_as_long_as_the_system_allows_works() -> None:
    root = Path(f"/tmp/{os.urandom(4).hex()}")
    directory = root / ("x" * (107 - len(str(root)) - 3))
    directory.mkdir(parents=True)
    try:
        async with (
            server(directory / "s") as (_, _, api),
            sidecar_client.connect(f"unix:{api.socket}", wait=0) as client,
        ):
            assert len(str(api.socket)) == 107
            assert (await client.info()).network == "test"
    finally:
        shutil.rmtree(root)


def test_only_what_is_still_ours_is_removed(tmp_path: Path) -> None:
    first = place(tmp_path / "a.sock")
    with bound(first):
        for name in ("a.sock", "a.sock.lock"):
            (tmp_path / name).unlink()
        assert not first.present()
        second = place(tmp_path / "a.sock")
        with bound(second):
            first.release()
            assert second.present()
            second.release()
            assert not (tmp_path / "a.sock").exists()


def test_what_a_kill_left_before_it_had_its_name_is_swept(tmp_path: Path) -> None:
    killed = place(tmp_path / "a.sock")
    other = place(tmp_path / "b.sock")
    with socket.socket(socket.AF_UNIX) as left, socket.socket(socket.AF_UNIX) as kept:
        left.bind(os.fsencode(killed.drawn_up))
        kept.bind(os.fsencode(other.drawn_up))
    (tmp_path / f"{killed.drawn_up.name[:-1]}{'0' if killed.drawn_up.name[-1] != '0' else '1'}").write_text("no socket")
    os.close(killed._lock)  # as the end of its process does
    again = place(tmp_path / "a.sock")
    assert not killed.drawn_up.exists()
    assert other.drawn_up.exists()
    assert sum(name.startswith(killed.drawn_up.name[:-8]) for name in os.listdir(tmp_path)) == 1
    for one in (again, other):
        one.release()


def test_what_is_no_socket_is_never_removed_and_a_live_one_neither(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "directory", "link", "pipe"):
        with pytest.raises(ConfigError, match="exists and is no socket"):
            place(tmp_path / name)
        assert os.path.lexists(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(tmp_path / "live"))
        theirs.listen()
        with pytest.raises(AddressInUse, match="another program"):
            place(tmp_path / "live")
        assert (tmp_path / "live").is_socket()
    place(tmp_path / "live").release()  # nobody listens any more
    assert not (tmp_path / "live").exists()


@asynchronous
async def test_a_socket_that_is_deleted_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    async with server(directory / "a.sock") as (_, _, api), sidecar_client.connect(api.target, wait=0) as early:
        await early.info()
        for _ in range(2):
            shutil.rmtree(directory)
            while not (directory / "a.sock").is_socket():  # noqa: ASYNC110 - the server looks by itself
                await asyncio.sleep(0.01)
            async with sidecar_client.connect(api.target, wait=0) as late:
                await late.info()
            await early.info()
        said = [record.getMessage() for record in caplog.records]
        assert sum("is gone" in line for line in said) == 2
        assert sum("made anew" in line for line in said) == 2
    assert os.listdir(directory) == ["a.sock.lock"]


@asynchronous
async def test_one_that_cannot_come_back_is_a_matter_of_readiness(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    told: list[bool] = []
    async with (
        server(directory / "a.sock") as (_, backend, api),
        sidecar_client.connect(api.target, wait=0) as early,
    ):
        backend.readiness.tell(lambda: told.append(backend.readiness.ready()))
        watched = early.watch_readiness()
        assert (await anext(watched)).ready
        shutil.rmtree(directory)
        directory.write_text("in its place")
        lost = await anext(watched)
        (condition,) = (condition for condition in lost.conditions if not condition.met)
        assert (condition.type, condition.reason, lost.ready) == ("Serving", "SocketGone", False)
        assert condition.message.startswith(f"the API socket {api.socket} is gone and cannot be made anew: ")
        assert condition.remedy
        directory.unlink()
        assert (await anext(watched)).ready
        assert told == [False, True]
        async with sidecar_client.connect(api.target, wait=0) as late:
            assert (await late.readiness()).ready
        await watched.aclose()


@asynchronous
async def test_a_socket_in_anothers_place_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with server(tmp_path / "a.sock") as (_, _, api):
        with socket.socket(socket.AF_UNIX) as theirs:
            (tmp_path / "a.sock").unlink()
            theirs.bind(str(tmp_path / "a.sock"))
            theirs.listen()
            while not any("cannot be made anew" in record.getMessage() for record in caplog.records):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert api.target
    assert (tmp_path / "a.sock").is_socket()
