"""The wheel of the Python client, installed alone: it is complete, it imports, and its types hold."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CLIENT = ROOT / "clients/python"
UV = Path(sys.executable).with_name("uv")

GOOD = """\
import asyncio

import sidecar_client


async def main() -> None:
    async with sidecar_client.connect("unix:api.sock") as node, node.subscribe(["news"]) as news:
        receipt: sidecar_client.PublishReceipt = await node.publish("news", b"hello", timeout=2)
        print(receipt.outcome is sidecar_client.PublishOutcome.SENT, receipt.peers + 1)
        async for message in news:
            print(message.sender.upper(), message.data.decode())
        async for batch in node.receive("/chat/1").batches():
            print(batch.lagged, b"".join(batch.payloads()), [direct.peer_id.upper() for direct in batch.messages])


asyncio.run(main())
"""
WRONG = """\
import sidecar_client


async def main(node: sidecar_client.Client) -> None:
    await node.publish("news", "text")
    print((await node.info()).peer_id + 1)
    async for event in node.subscribe("news").events():
        print(event.data)
"""


def run(*command: object, folder: Path) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=120, env=environ
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    command = (UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", target, CLIENT)
    done = run(*command, folder=target)
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has nothing but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "env/bin/python"
    assert run(UV, "venv", "--python", sys.executable, "env", folder=folder).returncode == 0
    done = run(UV, "pip", "install", "--python", python, wheel, folder=folder)
    if done.returncode and "Failed to fetch" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip("the client's dependencies are neither in uv's cache nor can they be fetched")
    assert done.returncode == 0, done.stderr
    return python


def test_the_wheel_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        str(path.relative_to(CLIENT / "src")) for path in (CLIENT / "src").rglob("*") if path.suffix in (".py", ".pyi")
    }
    assert sources | {"sidecar_client/py.typed"} == {name for name in names if name.startswith("sidecar_client/")}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_it_imports_in_an_environment_of_its_own(installed: Path, tmp_path: Path) -> None:
    program = (
        "import sidecar_client, sys\n"
        "missing = [name for name in sidecar_client.__all__ if not hasattr(sidecar_client, name)]\n"
        "print(missing, 'sidecar' in sys.modules, sidecar_client.connect.__module__)\n"
    )
    done = run(installed, "-I", "-W", "error", "-c", program, folder=tmp_path)
    assert (done.stdout, done.stderr) == ("[] False sidecar_client.client\n", "")


def test_its_types_hold(installed: Path, tmp_path: Path) -> None:
    def check(text: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "program.py").write_text(text)
        checker = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context")
        return run(*checker, "--python-executable", installed, "program.py", folder=tmp_path)

    good = check(GOOD)
    assert (good.returncode, good.stdout) == (0, ""), good.stderr
    wrong = check(WRONG).stdout.splitlines()
    assert [(line.split(":")[1], line.rpartition("[")[2]) for line in wrong] == [
        ("5", "arg-type]"),
        ("6", "operator]"),
        ("8", "union-attr]"),
    ]
