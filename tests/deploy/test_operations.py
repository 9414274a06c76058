"""The commands of docs/operations.md, "From nothing to three pods that gossip": run, or held against the manifests."""

import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import manifests

from .engine import Engine
from .tools import ROOT, ToolMissing, run, tool

TEXT = (ROOT / "docs" / "operations.md").read_text()
SECTION = TEXT[TEXT.index("## From nothing") : TEXT.index("### Before it is production")]
ONE_MACHINE, KUBERNETES = SECTION.split("### On Kubernetes")


def blocks(text: str) -> list[list[str]]:
    """The commands in each block of shell."""
    return [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\((\.\./deploy[^)#]*)", SECTION):
        assert (ROOT / "docs" / target).exists(), target


def test_the_template_for_an_apps_pod_is_the_examples() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    example = (manifests.CHARTS / "example-app" / "templates" / "deployment.yaml").read_text()
    assert [line for line in block.splitlines() if line not in example.splitlines()] == []


@pytest.mark.deploy
def test_three_nodes_on_one_machine(engine: Engine, image: str, app_image: str, tmp_path: Path) -> None:
    """Each command as it stands there, but for the names of what other runs could make at the same time."""
    if not engine.is_podman:
        raise ToolMissing("podman is needed for podman-compose")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    path = os.pathsep.join([str(Path(tool("podman-compose")).parent), os.environ["PATH"]])
    names = {"COMPOSE_PROJECT_NAME": f"{engine.tag}docs", "SIDECAR_IMAGE": image, "APP_IMAGE": app_image}
    env = {**engine.env, **names, "PATH": path, "MESH_PORT": port}
    (made, built, *commands), (subscribe, publish) = blocks(ONE_MACHINE)
    assert made.startswith("make image ")  # the fixtures have run both
    assert built.startswith("podman build ")
    try:
        said = [run("bash", "-c", command, env=env).stdout for command in commands]
        assert len(said) == 3
        with subprocess.Popen(
            ["bash", "-c", subscribe], env={**os.environ, **env}, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as subscriber:
            assert subscriber.stdout is not None
            try:
                run("bash", "-c", publish, env=env)
                assert "hello, mesh" in next(line for line in subscriber.stdout if "hello" in line)
            finally:
                subscriber.kill()
    finally:
        (down,) = re.findall(r"`(podman-compose [^`]* down [^`]*)`", ONE_MACHINE)
        run("bash", "-c", down, env=env, check=False)


class Cluster:
    """What helm would have installed when the commands of a page have run: objects by namespace, kind and name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder  # stands for the checkout
        shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("charts", "Chart.lock"))
        self.objects: dict[tuple[str, str, str], Any] = {}

    def run(self, command: str) -> None:
        """Run a command of helm as it stands there, as `template` where it needs a cluster; hold others against it."""
        words = shlex.split(command.rstrip("& "), comments=True)
        if words[0] == "helm":
            self._helm(words[1:])
        elif words[0] == "kubectl":
            self._kubectl(words[1:])

    def _helm(self, words: list[str]) -> None:
        if words[0] in ("install", "upgrade"):
            words = [word for word in words if word != "--reset-then-reuse-values"]
            text = run(tool("helm"), "template", *words[1:], folder=self._folder).stdout
            namespace = words[words.index("--namespace") + 1]
            for document in yaml.safe_load_all(text):
                self.objects[namespace, document["kind"].lower(), document["metadata"]["name"]] = document
        elif words[0] == "test":
            pods = [one for one in self.objects.values() if one["kind"] == "Pod"]
            assert any(one["metadata"]["annotations"]["helm.sh/hook"] == "test" for one in pods)
        elif words[0] != "uninstall":
            run(tool("helm"), *words, folder=self._folder)

    def _kubectl(self, words: list[str]) -> None:
        namespace = words.pop(words.index("--namespace") + 1) if "--namespace" in words else ""
        words = [word for word in words if word != "--namespace"]
        names = {(kind, name) for place, kind, name in self.objects if place == namespace}
        if words[0] == "exec":
            name, _, number = words[1].rpartition("-")
            assert int(number) < self.objects[namespace, "statefulset", name]["spec"]["replicas"]
            assert words[words.index("--") + 1] == "sidecar"
        elif words[0] in ("rollout", "logs"):
            kind, name = words[2 if words[0] == "rollout" else 1].split("/")
            assert (kind, name) in names, words
        elif words[:2] == ["delete", "statefulset"]:
            assert ("statefulset", words[2]) in names, words
        elif words[0] == "apply":
            for document in yaml.safe_load_all((self._folder / words[words.index("--filename") + 1]).read_text()):
                assert "namespace" not in document["metadata"]
                self.objects[namespace, document["kind"].lower(), document["metadata"]["name"]] = document


def commands(text: str) -> list[str]:
    """Every command of the shell in a page."""
    return [command for block in blocks(text.replace("\\\n", " ")) for command in block]


@pytest.mark.deploy
def test_the_walk_on_kubernetes(tmp_path: Path) -> None:
    """From the images to apps that join the mesh built before: every command, in its order."""
    cluster = Cluster(tmp_path)
    walk = commands(KUBERNETES)
    for command in walk:
        cluster.run(command)
    pushed = {shlex.split(command)[2] for command in walk if command.startswith("podman push")}
    built = {re.split("[= ]", command)[-1] for command in walk if command.startswith("make image")}
    built |= {shlex.split(command)[5] for command in walk if command.startswith("podman build")}
    assert pushed == built
    nodes = cluster.objects["mesh", "statefulset", "sidecar-bootstrap"]["spec"]["template"]["spec"]
    app = cluster.objects["mesh", "deployment", "example"]["spec"]["template"]["spec"]
    (sidecar,) = app["initContainers"]
    assert {container["image"] for container in [*nodes["containers"], sidecar, *app["containers"]]} == pushed
    assert nodes["containers"][0]["image"] == sidecar["image"]
    # One mesh: the apps' release has no bootstrap nodes, and its sidecars look for those that there are.
    assert [key for key in cluster.objects if key[1] == "statefulset"] == [("mesh", "statefulset", "sidecar-bootstrap")]
    variables = {entry["name"]: entry.get("value", "") for entry in sidecar["env"]}
    service = cluster.objects["mesh", "service", "sidecar-bootstrap"]
    assert variables["SIDECAR_BOOTSTRAP_PEERS"] == f"/dns4/{service['metadata']['name']}/tcp/4747"


@pytest.mark.deploy
@pytest.mark.parametrize("page", ["docs/operations.md", "deploy/helm/sidecar/README.md", "deploy/kubernetes/README.md"])
def test_every_command_of_helm_and_kubectl_is_taken(page: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    text = (ROOT / page).read_text()
    assert [cluster.run(command) for command in commands(text)]
    assert cluster.objects


def test_the_chart_refuses_what_the_page_says_that_it_does() -> None:
    """Each value in the table is one that the chart looks at, in its own words."""
    section = TEXT[TEXT.index("### What an upgrade cannot change") :]
    table = section[: section.index("To grow the volumes")]
    helpers = (manifests.CHARTS / "sidecar" / "templates" / "_helpers.tpl").read_text()
    refused = set(re.findall(r"printf \"([A-Za-z.]+) cannot change", helpers))
    assert refused
    said = set(re.findall(r"`([A-Za-z.]+)`", table))
    prefix = "bootstrap.persistence"
    assert {name if not name.startswith(".") else prefix + name for name in said} >= refused
    assert '\\"Upgrades\\"' in helpers
    assert "\n## Upgrades\n" in TEXT
