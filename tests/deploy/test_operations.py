"""The commands of docs/operations.md, "From nothing to three pods that gossip": run, or held against the manifests."""

import itertools
import os
import re
import shlex
import socket
import subprocess
from pathlib import Path

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


@pytest.mark.deploy
def test_the_commands_for_kubernetes_name_what_the_chart_makes() -> None:
    (commands,) = blocks(KUBERNETES)
    words = [shlex.split(command.rstrip("&")) for command in commands]
    (install,) = (line for line in words if line[0] == "helm")
    assert install[1:4] == ["install", "sidecar", "deploy/helm/sidecar"]
    settings = [word for flag, word in itertools.pairwise(install) if flag == "--set"]
    flags = [word for setting in settings for word in ("--set", setting)]
    text = manifests.template(tool("helm"), "sidecar", "sidecar", *flags)
    objects = {(document["kind"], document["metadata"]["name"]): document for document in yaml.safe_load_all(text)}
    nodes = objects["StatefulSet", "sidecar-bootstrap"]
    assert nodes["spec"]["template"]["spec"]["containers"][0]["image"].startswith("registry.example/sidecar:")
    pods = {f"sidecar-bootstrap-{number}" for number in range(nodes["spec"]["replicas"])}
    executed = [line for line in words if "exec" in line]
    assert {line[line.index("exec") + 1] for line in executed} <= pods
    assert all(line[line.index("--") + 1] == "sidecar" for line in executed)
    assert [line[-1] for line in words if "rollout" in line] == ["statefulset/sidecar-bootstrap"]
