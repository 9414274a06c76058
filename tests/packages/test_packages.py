"""What `make dist` makes, each installed as a user would into an environment that has nothing else, says hello.

The npm package's turn is in tests/clients/js/test_js_install.py, the Go module's in tests/clients/go.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sidecar import __version__
from tests.e2e.processes import PATIENCE, environment, running
from tests.missing import not_there
from tests.prepare import ensure

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
INSTALL_SECONDS = 300.0

HELLO = """\
import asyncio, sys
import sidecar_client

async def main() -> None:
    async with sidecar_client.connect() as node, node.subscribe("news") as messages:
        await node.publish("news", b"hello")
        async for message in messages:
            print(message.data.decode(), "from", message.sender)
            return

asyncio.run(main())
"""


def run(*command: object, folder: Path, seconds: float = INSTALL_SECONDS) -> str:
    """Run a command that must succeed; what it says at standard output."""
    environ = environment(folder) | {"HOME": os.environ.get("HOME", str(folder))}  # uv's cache is there
    environ = {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=seconds, env=environ)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        not_there("`make dist` needs npm, which is not installed")
    ensure("js client")
    folder = tmp_path_factory.mktemp("dist")
    said = run(sys.executable, ROOT / "tools/dist.py", folder, folder=ROOT)
    assert f"clients/go/v{__version__}" in said
    return folder


def environment_with(folder: Path, *packages: object) -> Path:
    """The folder of the programs of a new environment with these."""
    run(UV, "venv", "-q", "--python", sys.executable, "env", folder=folder)
    run(UV, "pip", "install", "-q", "--python", "env/bin/python", *packages, folder=folder)
    return folder / "env/bin"


def test_all_of_one_version(dist: Path) -> None:
    assert sorted(path.name for path in dist.iterdir()) == [
        f"p2p-sidecar-client-{__version__}.tgz",
        f"p2p_sidecar-{__version__}-py3-none-any.whl",
        f"p2p_sidecar-{__version__}.tar.gz",
        f"p2p_sidecar_client-{__version__}-py3-none-any.whl",
        f"p2p_sidecar_client-{__version__}.tar.gz",
    ]
    assert f'Version = "{__version__}"' in (ROOT / "clients/go/doc.go").read_text()


def test_nothing_is_packed_that_was_made_here(dist: Path) -> None:
    for path in dist.glob("*gz"):
        with tarfile.open(path) as archive:
            names = archive.getnames()
        assert [
            name for name in names if {"node_modules", ".venv", ".cache", "__pycache__"} & set(name.split("/"))
        ] == []
        assert any(name.endswith("/LICENSE") for name in names), path


@pytest.mark.parametrize(
    "kind",
    [pytest.param("-py3-none-any.whl", id="wheels"), pytest.param(".tar.gz", id="sdists", marks=pytest.mark.slow)],
)
def test_the_sidecar_runs_and_the_client_says_hello(dist: Path, kind: str, tmp_path: Path) -> None:
    """Two environments, as of two containers: the sidecar with what it asks for, and an app with the client alone."""
    server, client = tmp_path / "server", tmp_path / "client"
    server.mkdir()
    client.mkdir()
    client_package = dist / f"p2p_sidecar_client-{__version__}{kind}"
    programs = environment_with(server, dist / f"p2p_sidecar-{__version__}{kind}", client_package)
    assert run(programs / "sidecar", "--version", folder=server).split()[-1] == __version__
    app = environment_with(client, client_package)
    (client / "hello.py").write_text(HELLO)
    with running(tmp_path / "home", program=(str(programs / "sidecar"),)) as sidecar:
        sidecar.line("Ready after")
        command = [str(app / "python"), "-I", "hello.py"]
        environ = environment(client) | {"SIDECAR_API": f"unix:{sidecar.socket}"}
        done = subprocess.run(command, cwd=client, capture_output=True, text=True, timeout=PATIENCE, env=environ)
        assert (done.stdout.split()[:2], done.stderr) == (["hello", "from"], "")
