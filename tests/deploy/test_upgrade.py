"""Upgrades: what Kubernetes fixes on the objects that are there is refused by the chart, with a sentence.

The chart looks at the cluster's objects. A server that answers helm's questions with objects given here takes the place
of a cluster; what it knows of Kubernetes is what helm asks.
"""

import copy
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import chart, manifests

from .tools import run, tool

pytestmark = pytest.mark.deploy

GROUPS = {
    "apps": ("StatefulSet", "Deployment"),
    "policy": ("PodDisruptionBudget",),
    "networking.k8s.io": ("NetworkPolicy",),
}
CORE = ("Service", "ServiceAccount", "Pod")


def plural(kind: str) -> str:
    return kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")


def resources(version: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    listed = [{"name": plural(kind), "kind": kind, "namespaced": True, "verbs": ["get"]} for kind in kinds]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}


class Cluster:
    """An API server that knows a few kinds and the objects it is given."""

    def __init__(self, folder: Path) -> None:
        self.objects: dict[str, Any] = {}  # by path
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = cluster.answer(self.path.partition("?")[0])
                missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
                body = json.dumps(answer or missing).encode()
                self.send_response(200 if answer else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.config = folder / "kubeconfig"
        name = "here"
        here = {"cluster": {"server": f"http://127.0.0.1:{self._server.server_address[1]}"}, "name": name}
        context = {"context": {"cluster": name, "user": name}, "name": name}
        config = {"clusters": [here], "contexts": [context], "users": [{"name": name, "user": {}}]}
        self.config.write_text(
            yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": name, **config})
        )

    def put(self, document: Any) -> None:
        """Hold an object, as the API server would that got it."""
        place = "api/v1" if document["apiVersion"] == "v1" else f"apis/{document['apiVersion']}"
        metadata = document["metadata"]
        self.objects[f"/{place}/namespaces/{metadata['namespace']}/{plural(document['kind'])}/{metadata['name']}"] = (
            document
        )

    def answer(self, path: str) -> Any:
        if path == "/version":
            return {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            versions = {group: {"groupVersion": f"{group}/v1", "version": "v1"} for group in GROUPS}
            groups = [{"name": group, "versions": [one], "preferredVersion": one} for group, one in versions.items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/api/v1":
            return resources("v1", CORE)
        for group, kinds in GROUPS.items():
            if path == f"/apis/{group}/v1":
                return resources(f"{group}/v1", kinds)
        return self.objects.get(path)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


def made(cluster: Cluster, *flags: str, check: bool = True) -> Any:
    """What the chart makes with the cluster's objects before it."""
    words = (
        "template",
        "sidecar",
        str(chart.CHART),
        "--namespace",
        manifests.NAMESPACE,
        "--dry-run=server",
        "--is-upgrade",
        *flags,
    )
    env = {"KUBECONFIG": str(cluster.config), "HELM_CACHE_HOME": str(cluster.config.parent)}
    return run(tool("helm"), *words, "--disable-openapi-validation", env=env, check=check)


def install(cluster: Cluster, *flags: str) -> None:
    """Put what the chart makes into the cluster."""
    for document in yaml.safe_load_all(made(cluster, *flags).stdout):
        if document["kind"] in ("StatefulSet", "Service"):
            cluster.put(document)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((), ("bootstrap.persistence.size=2Gi",), "bootstrap.persistence.size cannot change from 1Gi to 2Gi"),
        (
            (),
            ("bootstrap.persistence.storageClass=fast",),
            'bootstrap.persistence.storageClass cannot change from "" to "fast"',
        ),
        (
            ("bootstrap.persistence.storageClass=fast",),
            (),
            'bootstrap.persistence.storageClass cannot change from "fast" to ""',
        ),
        (
            (),
            ("bootstrap.persistence.accessModes={ReadWriteMany}",),
            'bootstrap.persistence.accessModes cannot change from ["ReadWriteOnce"] to ["ReadWriteMany"]',
        ),
        (
            (),
            ("bootstrap.persistence.enabled=false",),
            "bootstrap.persistence.enabled cannot change from true to false",
        ),
        (
            ("bootstrap.persistence.enabled=false",),
            (),
            "bootstrap.persistence.enabled cannot change from false to true",
        ),
        ((), ("network.ipFamily=IPv6",), "network.ipFamily cannot change from IPv4 to IPv6"),
        ((), ("nameOverride=side",), 'the pods are found by the name "sidecar", which would be "side"'),
    ],
)
def test_what_is_fixed_is_refused_with_a_sentence(
    cluster: Cluster, before: tuple[str, ...], after: tuple[str, ...], said: str
) -> None:
    install(cluster, *(word for setting in before for word in ("--set", setting)))
    refused = made(cluster, *(word for setting in after for word in ("--set", setting)), check=False)
    assert refused.returncode != 0
    assert said in refused.stderr
    assert 'see "Upgrades" in docs/operations.md' in refused.stderr


def test_all_that_is_wrong_is_said_at_once(cluster: Cluster) -> None:
    install(cluster)
    flags = "bootstrap.persistence.size=2Gi,bootstrap.persistence.storageClass=fast,network.ipFamily=IPv6"
    said = made(cluster, "--set", flags, check=False).stderr
    assert all(name in said for name in ("persistence.size", "persistence.storageClass", "network.ipFamily"))


@pytest.mark.parametrize(
    "flags",
    [
        "bootstrap.persistence.size=1Gi",
        "bootstrap.persistence.size=1024Mi",
        "bootstrap.persistence.size=1073741824",
        "bootstrap.replicas=5,image.tag=other,bootstrap.resources.limits.memory=1Gi,network.name=other",
    ],
)
def test_what_is_the_same_or_can_change_is_taken(cluster: Cluster, flags: str) -> None:
    install(cluster)
    made(cluster, "--set", flags)


def test_without_the_statefulset_everything_may_change(cluster: Cluster) -> None:
    """As the documentation has it: delete the StatefulSet without its pods, then upgrade."""
    install(cluster)
    kept = copy.copy(cluster.objects)
    cluster.objects = {path: document for path, document in kept.items() if document["kind"] != "StatefulSet"}
    made(cluster, "--set", "bootstrap.persistence.size=2Gi")
