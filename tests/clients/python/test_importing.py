"""Importing the client: what it loads, and what gRPC finds in its environment."""

import json
import os
import subprocess
import sys

import pytest
import sidecar_client
from sidecar_client import _experiments

# Says what GRPC_EXPERIMENTS is when gRPC itself is imported, and afterwards.
SCRIPT = """
import json, os, sys
found = []
def look(event, arguments):
    if event == "import" and arguments[0] == "grpc._cython.cygrpc":
        found.append(os.environ.get("GRPC_EXPERIMENTS"))
sys.addaudithook(look)
exec(sys.argv[1])
print(json.dumps([found[0], os.environ.get("GRPC_EXPERIMENTS")]))
"""


def look(script: str, experiments: str | None = None) -> tuple[str | None, str | None]:
    environ = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    if experiments is not None:
        environ["GRPC_EXPERIMENTS"] = experiments
    command = [sys.executable, "-c", SCRIPT, script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert done.stderr == ""  # where gRPC would say that it knows no such experiment
    found, after = json.loads(done.stdout)
    return found, after


@pytest.mark.parametrize(
    "script",
    [
        "import sidecar_client._grpc_channel",
        "from sidecar_client.v1 import node_pb2_grpc",
        "import sidecar.app, sidecar.api.server.grpc_server",
    ],
)
def test_grpc_is_told_what_to_use_and_child_processes_inherit_nothing(script: str) -> None:
    assert look(script) == (_experiments.OURS, None)


@pytest.mark.parametrize("experiments", ["", "-event_engine_client"])
def test_what_the_environment_says_about_grpc_stays(experiments: str) -> None:
    assert look("import sidecar_client.v1.node_pb2_grpc", experiments) == (experiments, experiments)


def test_an_app_that_imports_grpc_first_keeps_its_own() -> None:
    assert look("import grpc, sidecar_client.errors") == (None, None)


def test_grpc_itself_does_not_show_that_it_was_told() -> None:
    check = "import sidecar_client.v1.node_pb2_grpc, grpc, importlib.util, inspect; inspect.getsource(grpc)\n"
    check += "for loader in (grpc.__loader__, importlib.util.find_spec('grpc').loader):\n"
    check += "    assert type(loader).__name__ == 'SourceFileLoader'\n"
    check += "assert not [found for found in sys.meta_path if 'sidecar' in type(found).__module__]"
    assert look(check) == (_experiments.OURS, None)


def test_a_sidecar_with_its_own_engine_does_without_grpc() -> None:
    script = (
        "import sys, sidecar.commands.run\nfrom sidecar.api.server import server, engines\n"
        "assert engines.chosen('auto')[0] == 'http2'\nprint([name for name in sys.modules if name == 'grpc'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("engine", "loaded"), [("http2", False), ("grpcio", True)])
def test_a_client_loads_only_the_engine_that_it_takes(engine: str, loaded: bool) -> None:
    script = (
        "import asyncio, sys, sidecar_client\n"
        "async def main():\n"
        f"    async with sidecar_client.connect('/nobody/here.sock', wait=0, engine={engine!r}):\n"
        "        pass\n"
        "try:\n"
        "    asyncio.run(main())\n"
        "except sidecar_client.SidecarUnavailable as error:\n"
        "    print('grpc' in sys.modules, 'ngh2' in sys.modules, error.code.name)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{loaded} {not loaded} UNAVAILABLE\n"


def test_of_a_later_grpc_nothing_is_presumed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert () < _experiments._version() <= _experiments.NEWEST, "see whether this grpcio knows OURS, and raise NEWEST"
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    monkeypatch.delitem(sys.modules, "grpc", raising=False)
    monkeypatch.setattr(_experiments, "_version", lambda: (_experiments.NEWEST[0], _experiments.NEWEST[1] + 1))
    before = list(sys.meta_path)
    _experiments._prepare()
    assert sys.meta_path == before


def test_the_generated_code_comes_without_the_client() -> None:
    script = (
        "import sys\nfrom sidecar_client.v1 import node_pb2\n"
        "print(sorted(name for name in sys.modules if name.startswith('sidecar_client.') and '.v1' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "['sidecar_client._experiments', 'sidecar_client._fork']\n"


def test_every_public_name_is_found() -> None:
    for name in sidecar_client.__all__:
        assert getattr(sidecar_client, name) is not None
    assert sidecar_client.Client.__name__ == "Client"
    for name in ("errors", "types", "v1"):
        assert getattr(sidecar_client, name).__name__ == f"sidecar_client.{name}"
    assert set(sidecar_client.__all__) < set(dir(sidecar_client))
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        getattr(sidecar_client, "conect")  # noqa: B009 - mypy knows that it is none
