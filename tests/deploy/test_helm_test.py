"""`helm test`: what it makes, and its pods' commands, run against sidecars as the pods would have them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.processes import PATIENCE, Process, command, environment, running, running_pair
from tools import manifests

from .tools import tool

pytestmark = pytest.mark.deploy
VALUES = Path(__file__).parent / "values" / "everything.yaml"
API = "unix:/run/sidecar/api.sock"  # in the pods


def hooks(*flags: str) -> dict[str, Any]:
    """The objects of the chart's test by kind, in the order in which Helm makes them."""
    text = manifests.template(tool("helm"), "sidecar", "sidecar", *flags)
    documents = [one for one in yaml.safe_load_all(text) if "annotations" in one["metadata"]]
    found = [one for one in documents if one["metadata"]["annotations"].get("helm.sh/hook") == "test"]
    found.sort(key=lambda one: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]))
    return {one["kind"]: one for one in found}


def words(spec: Any, sidecar: Process) -> list[str]:
    """The command of a pod's one container, pointed at a sidecar here instead of the pod's."""
    (container,) = spec["containers"]
    assert container["env"] == [{"name": "SIDECAR_API", "value": API}]
    program, name, *rest = container["command"]
    assert program == "sidecar"
    return [name, "--api", f"unix:{sidecar.socket}", *rest]


def test_helm_waits_for_the_pod_that_receives_alone() -> None:
    """Helm makes the hooks in turn and waits for the end of Pods and Jobs, so the publisher is neither."""
    made = hooks()
    assert list(made) == ["Deployment", "Pod"]
    # Nothing runs on after the test; the pod stays, for its log.
    policies = [one["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for one in made.values()]
    assert policies == ["before-hook-creation,hook-succeeded,hook-failed", "before-hook-creation"]
    pod = made["Pod"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["activeDeadlineSeconds"] < 300  # the patience of `helm test`
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"


def test_its_pods_are_not_taken_for_bootstrap_nodes() -> None:
    text = manifests.template(tool("helm"), "sidecar", "sidecar", "--values", str(VALUES))
    service, policy = (one for one in yaml.safe_load_all(text) if one["kind"] in ("Service", "NetworkPolicy"))
    if service["kind"] != "Service":
        service, policy = policy, service
    made = hooks("--values", str(VALUES))
    for labels in (
        made["Deployment"]["spec"]["template"]["metadata"]["labels"],
        made["Pod"]["metadata"]["labels"],
    ):
        assert not service["spec"]["selector"].items() <= labels.items()
        # Where only some may reach the nodes, they may.
        allowed = [peer["podSelector"] for peer in policy["spec"]["ingress"][0]["from"] if "podSelector" in peer]
        assert any(one["matchLabels"].items() <= labels.items() for one in allowed)


def test_what_belongs_to_one_pod_is_not_given_to_two() -> None:
    made = hooks("--values", str(VALUES))
    for spec in (made["Deployment"]["spec"]["template"]["spec"], made["Pod"]["spec"]):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert set(volumes) == {"sidecar-api", "sidecar-state", "sidecar-network"}
        assert "emptyDir" in volumes["sidecar-state"]
        named = {entry["name"] for entry in spec["initContainers"][0]["env"]}
        assert not named & {"SIDECAR_STATE_IDENTITY_FILE", "SIDECAR_API_TOKENS", "SIDECAR_API_REQUIRE_TOKEN"}


def test_nodes_that_run_elsewhere_are_not_tested() -> None:
    assert hooks("--set", "bootstrap.enabled=false") == {}


def test_what_one_pod_publishes_the_other_receives(tmp_path: Path) -> None:
    """Both commands end well between two sidecars, each in the role of its pod."""
    made = hooks()
    with running_pair(tmp_path) as (one, other):
        publish = words(made["Deployment"]["spec"]["template"]["spec"], one)
        publisher = subprocess.Popen([sys.executable, "-m", "sidecar", *publish], env=environment(tmp_path))
        try:
            received = command(tmp_path, *words(made["Pod"]["spec"], other))
            assert received.returncode == 0, received.stderr
            assert "hello" in received.stdout
            assert publisher.wait(PATIENCE) == 0
        finally:
            publisher.kill()
            publisher.wait()


def test_without_a_mesh_between_them_it_fails(tmp_path: Path) -> None:
    """Two sidecars that know nothing of each other: neither command ends well."""
    made = hooks()
    with running(tmp_path / "1") as one, running(tmp_path / "2") as other:
        for sidecar in (one, other):
            sidecar.line("Ready after")
        publish = words(made["Deployment"]["spec"]["template"]["spec"], one)
        publish[publish.index("--timeout") + 1] = "1"
        subscribe = [sys.executable, "-m", "sidecar", *words(made["Pod"]["spec"], other)]
        with subprocess.Popen(subscribe, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as subscriber:
            assert command(tmp_path, *publish).returncode != 0
            assert subscriber.poll() is None
            subscriber.kill()
            assert subscriber.stdout is not None
            assert "hello" not in subscriber.stdout.read()
