"""The compose file: three nodes and their apps, up and down as its README says."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .engine import Container, Engine, log_line
from .tools import ROOT, ToolMissing, run, tool

FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"


def test_every_service_runs_restricted_and_every_variable_is_a_key() -> None:
    from sidecar.config import load

    services = yaml.safe_load(FILE.read_text())["services"]
    assert sorted(services) == ["app-1", "app-2", "app-3", "sidecar-1", "sidecar-2", "sidecar-3"]
    for name, service in services.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        if name.startswith("sidecar"):
            load(service["environment"] | {"HOME": "/nonexistent"}, {})


class Mesh:
    """The project, brought up by podman-compose."""

    def __init__(self, engine: Engine, images: dict[str, str]) -> None:
        self.engine = engine
        self.project = engine.tag
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._env = {**engine.env, **images, "MESH_PORT": str(probe.getsockname()[1])}

    def compose(self, *words: str, check: bool = True) -> str:
        command = (tool("podman-compose"), "--project-name", self.project, "--file", str(FILE))
        return run(*command, *words, env=self._env, check=check).stdout

    def container(self, service: str) -> Container:
        names = self.engine("ps", "--all", "--format", "{{.Names}}", "--filter", f"name={self.project}").stdout.split()
        return Container(self.engine, next(name for name in names if re.search(rf"{service}([_-]1)?$", name)))


@pytest.fixture(scope="module")
def mesh(engine: Engine, image: str, app_image: str) -> Iterator[Mesh]:
    if not engine.is_podman:
        raise ToolMissing("podman is needed for podman-compose")
    mesh = Mesh(engine, {"SIDECAR_IMAGE": image, "APP_IMAGE": app_image})
    try:
        mesh.compose("up", "--detach")
        yield mesh
    finally:
        mesh.compose("down", "--volumes", "--timeout", "0", check=False)


@pytest.mark.deploy
def test_the_apps_hear_each_other_and_the_nodes_are_one_mesh(mesh: Mesh) -> None:
    for number in (1, 2, 3):
        app = mesh.container(f"app-{number}")
        for other in {1, 2, 3} - {number}:
            log_line(mesh.engine, app.name, f"heard: hello from app-{other}")
            log_line(mesh.engine, app.name, f"answered: I am app-{other}")
        sidecar = mesh.container(f"sidecar-{number}")
        assert sidecar.exec("sidecar", "health").stdout == "ready\n"
        lines = sidecar.exec("sidecar", "peers", "--json").stdout.splitlines()
        assert len([peer for peer in map(json.loads, lines) if peer["connected"]]) == 2


@pytest.mark.deploy
def test_a_node_that_is_restarted_is_the_same_peer_and_its_app_goes_on(mesh: Mesh) -> None:
    sidecar, app = mesh.container("sidecar-2"), mesh.container("app-2")
    before = json.loads(sidecar.exec("sidecar", "id", "--json").stdout)
    mesh.engine("restart", sidecar.name)
    # The app was not restarted: its client waits for the socket, and its subscription is opened again.
    again = mesh.engine("exec", sidecar.name, "python", "-c", _SUBSCRIBED)
    assert "greetings" in again.stdout
    assert json.loads(sidecar.exec("sidecar", "id", "--json").stdout)["peer_id"] == before["peer_id"]
    assert app.inspect()["RestartCount"] == 0
    mesh.compose("stop", "--timeout", "20")
    assert [mesh.container(name).inspect()["State"]["ExitCode"] for name in ("sidecar-1", "app-1")] == [0, 0]


# The app's subscription is in force again, and a greeting of another app has come.
_SUBSCRIBED = """
import asyncio
import sidecar_client

async def main():
    async with asyncio.timeout(60), sidecar_client.connect("unix:/run/sidecar/api.sock") as node:
        await node.ready()
        async with node.subscribe("greetings") as greetings:
            async for message in greetings:
                if message.data.decode() == "hello from app-2":
                    print("greetings of app-2 go out again")
                    return

asyncio.run(main())
"""


def test_the_readme_names_what_is_there() -> None:
    text = (FOLDER / "README.md").read_text()
    for path in re.findall(r"deploy/[a-z./-]+", text):
        assert Path(ROOT / path).exists(), path
