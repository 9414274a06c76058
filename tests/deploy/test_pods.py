"""From nothing to a mesh in pods: bootstrap nodes, and apps with sidecars beside them, as the charts make them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sidecar import __version__
from tools import manifests

from .engine import Engine
from .pods import SERVICE, Pod, Pods
from .tools import ToolMissing

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """The manifests as `deploy/kubernetes` has them, by kind."""
    documents = [yaml.safe_load_all((manifests.PLACE / name).read_text()) for name in manifests.FILES]
    return {document["kind"]: document for group in documents for document in group}


@pytest.fixture(scope="module")
def pods(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    if not engine.is_podman:
        raise ToolMissing("podman is needed to play pods")
    pods = Pods(engine, tmp_path_factory.mktemp("pods"))
    try:
        yield pods
    finally:
        pods.close()


@pytest.fixture(scope="module")
def images(image: str, app_image: str) -> dict[str, str]:
    return {
        f"ghcr.io/p2p-sidecar/sidecar:{__version__}": image,
        f"ghcr.io/p2p-sidecar/example-app:{__version__}": app_image,
    }


@pytest.fixture(scope="module")
def bootstrap(pods: Pods, objects: dict[str, Any], images: dict[str, str]) -> list[Pod]:
    """Three nodes that know nothing but the name of their service, started at once."""
    spec = objects["StatefulSet"]["spec"]["template"]["spec"]
    (claim,) = objects["StatefulSet"]["spec"]["volumeClaimTemplates"]
    spec["volumes"].append({"name": claim["metadata"]["name"], "emptyDir": {}})
    nodes = [pods.play(f"bootstrap-{number}", spec, images, service=SERVICE) for number in range(3)]
    for node in nodes:
        node.sidecar.line("Ready after")
    return nodes


def peers(pod: Pod) -> set[str]:
    """The peer ids that a pod's sidecar is connected to, from the command for scripts."""
    lines = pod.sidecar.exec("sidecar", "peers", "--json").stdout.splitlines()
    return {peer["peer_id"] for peer in map(json.loads, lines) if peer["connected"]}


def wait_for_peers(pod: Pod, count: int) -> None:
    """Until its sidecar is connected to so many."""
    done = pod.sidecar.exec("python", "-c", _WAIT, str(count))
    assert done.returncode == 0, done.stderr


_WAIT = """
import asyncio, sys
import sidecar_client

async def main():
    async with asyncio.timeout(60), sidecar_client.connect("unix:/run/sidecar/api.sock") as node:
        async for _ in node.watch_peers():
            if len([peer async for peer in node.peers(connected_only=True)]) >= int(sys.argv[1]):
                return

asyncio.run(main())
"""


def own(pod: Pod) -> str:
    return str(json.loads(pod.sidecar.exec("sidecar", "id", "--json").stdout)["peer_id"])


def test_bootstrap_nodes_find_each_other_by_the_name_of_their_service(bootstrap: list[Pod]) -> None:
    everybody = {own(pod) for pod in bootstrap}
    assert len(everybody) == 3
    for pod in bootstrap:
        wait_for_peers(pod, 2)
        assert peers(pod) == everybody - {own(pod)}
    doctor = bootstrap[0].sidecar.exec("sidecar", "doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_apps_with_sidecars_hear_and_answer_each_other(
    pods: Pods, bootstrap: list[Pod], objects: dict[str, Any], images: dict[str, str]
) -> None:
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    one, other = (pods.play(f"app-{name}", spec, images) for name in ("one", "other"))
    for here, there in ((one, other), (other, one)):
        app = here.container("app")
        assert app.line("heard: ").endswith(f"hello from {there.name}")
        assert app.line("answered: ").endswith(f"I am {there.name}")
        user = app.exec("python", "-c", "import os; print(os.getuid())").stdout
        assert user == "1000\n"  # not the sidecar's
    # The names that the bootstrap nodes announce lead to them.
    for node in bootstrap:
        (address,) = json.loads(node.sidecar.exec("sidecar", "id", "--json").stdout)["addresses"]
        assert address == f"/dns4/{node.name}.{SERVICE}/tcp/4747/p2p/{own(node)}"
        connected = one.sidecar.exec("sidecar", "connect", address)
        assert connected.returncode == 0, connected.stderr
    # A Job: the app ends by itself.
    job = pods.play("once", objects["Job"]["spec"]["template"]["spec"], images)
    assert int(pods.engine("wait", job.container("once").name).stdout) == 0
    assert "answered: I am " in job.container("once").log()
    # Probes, as the kubelet asks.
    (probed,) = (container for container in spec["initContainers"] if container["name"] == "sidecar")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        url = f"http://127.0.0.1:9464{probed[probe]['httpGet']['path']}"
        script = f"import urllib.request; print(urllib.request.urlopen('{url}').status)"
        assert one.sidecar.exec("python", "-c", script).stdout == "200\n"
    # In order: the app ends, and the sidecar within its time.
    one.stop()
    assert [one.container(name).inspect()["State"]["ExitCode"] for name in ("app", "sidecar")] == [0, 0]
