"""The image: what is in it, and that it runs with nothing but what a restricted pod gives it."""

import io
import json
import os
import re
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest

from .engine import Container, Engine
from .tools import ROOT, run, tool

# As Kubernetes runs it under the "restricted" pod security standard, and without any network: nothing can be fetched.
RESTRICTED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "none")


def test_the_builder_gets_what_the_dockerfile_copies_and_nothing_else() -> None:
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    let_in = [
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    assert sorted(let_in) == sorted(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_packages_of_the_image_are_those_of_the_tests() -> None:
    """Pinned alike: what is tested is what is shipped."""

    def pins(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return {line.split(" ")[0].rstrip("\\") for line in lines if "==" in line and not line.startswith((" ", "#"))}

    assert pins("run.txt") - pins("dev.txt") == set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split("[=<>]", dependency)[0] for dependency in project["dependencies"]} - {"p2p-sidecar-client"}
    assert needed - {pin.split("==")[0] for pin in pins("run.txt")} == set()


@pytest.mark.deploy
def test_hadolint_has_nothing_to_say() -> None:
    files = ("Dockerfile", "deploy/example-app/Dockerfile", "tests/deploy/Dockerfile.systemd")
    assert run(tool("hadolint"), *files).stdout == ""


@pytest.fixture(scope="module")
def sidecar(engine: Engine, image: str) -> Container:
    container = engine.start(image, *RESTRICTED)
    container.line("Ready after")
    return container


@pytest.mark.deploy
def test_it_says_what_it_is(engine: Engine, image: str) -> None:
    config = engine.inspect("image", image)["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    revision = run("git", "rev-parse", "HEAD").stdout.strip()
    assert labels["title"] == "sidecar"
    assert labels["licenses"] == "MIT"
    assert labels["revision"] == revision
    assert engine("run", "--rm", "--network", "none", image, "--version").stdout == f"sidecar {labels['version']}\n"
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["sidecar"]


@pytest.mark.deploy
def test_it_runs_without_root_writable_root_capabilities_or_network(sidecar: Container) -> None:
    status = sidecar.exec("python", "-c", "print(open('/proc/1/status').read()); open('/etc/sidecar/probe', 'w')")
    fields = dict(line.split(":\t", 1) for line in status.stdout.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["65532"] * 4
    assert (fields["CapEff"], fields["CapBnd"], fields["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert "Read-only file system" in status.stderr
    node = json.loads(sidecar.exec("sidecar", "status", "--json").stdout)
    assert node["ready"] is True


@pytest.mark.deploy
def test_every_module_of_the_sidecar_finds_there_what_it_needs(sidecar: Container) -> None:
    """Parts of the standard library are left out of the image."""
    script = (
        "import importlib, pkgutil, sidecar\n"
        "found = [module.name for module in pkgutil.walk_packages(sidecar.__path__, 'sidecar.')]\n"
        "[importlib.import_module(name) for name in found if not name.endswith('__main__')]\n"
        "import prometheus_client.exposition\n"
        "import opentelemetry.sdk.trace.export, opentelemetry.exporter.otlp.proto.grpc.trace_exporter\n"
        "print(len(found))"
    )
    done = sidecar.exec("python", "-c", script)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.deploy
def test_its_health_check_asks_the_sidecar(engine: Engine, image: str, sidecar: Container) -> None:
    assert sidecar.inspect()["Config"]["Healthcheck"]["Test"] == ["CMD", "sidecar", "health"]
    assert sidecar.exec("sidecar", "health").stdout == "ready\n"
    if engine.is_podman:
        assert engine("healthcheck", "run", sidecar.name).returncode == 0
    nobody = "/dns4/nobody.invalid/tcp/4747/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
    lonely = engine.start(image, *RESTRICTED, command=("run", "--bootstrap", nobody))
    lonely.line("Not ready yet")
    assert (lonely.exec("sidecar", "health").returncode, lonely.exec("sidecar", "health", "--live").returncode) == (
        1,
        0,
    )
    assert lonely.exec("sidecar", "health", "--api", "/run/sidecar/other.sock").returncode == 3


@pytest.mark.deploy
def test_there_is_nothing_in_it_to_break_in_with(engine: Engine, sidecar: Container) -> None:
    assert sidecar.exec("sh", "-c", "true").returncode in (126, 127)
    command = [engine.program, "export", sidecar.name]
    exported = subprocess.run(command, capture_output=True, check=True, env={**os.environ, **engine.env})
    with tarfile.open(fileobj=io.BytesIO(exported.stdout)) as files:
        members = [(f"/{member.name.removeprefix('./')}", member.mode) for member in files if member.isfile()]
    places = ("/bin/", "/sbin/")
    programs = [name for name, mode in members if mode & 0o111 and any(place in name for place in places)]
    assert [name for name in programs if not name.startswith(("/usr/bin/python3", "/usr/local/bin/python3"))] == [
        "/opt/sidecar/bin/sidecar"
    ]
    inside = {name.partition("/site-packages/")[2] for name, _ in members}
    tracked = run("git", "ls-files", "sidecar").stdout.split()
    assert [name for name in tracked if name not in inside and not name.endswith(".pyi")] == []
    others = {"sh", "bash", "dash", "busybox", "dpkg", "perl", "curl", "wget", "cc", "gcc", "ld", "pip", "uv"}
    assert [name for name, _ in members if name.rpartition("/")[2] in others] == []
    assert [name for name, mode in members if mode & 0o6000] == []


@pytest.mark.deploy
def test_sigterm_ends_process_1_in_order_and_in_time(engine: Engine, image: str) -> None:
    container = engine.start(image, *RESTRICTED)
    container.line("Ready after")
    assert container.exec("python", "-c", "print(open('/proc/1/cmdline').read().split(chr(0))[1])").stdout.strip()
    assert container.stop() == 0
    assert "stopped" in container.log()


@pytest.mark.deploy
def test_its_identity_stays_with_its_volume(engine: Engine, image: str) -> None:
    volume = f"{engine.tag}-state"
    peers = []
    try:
        for _ in range(2):
            container = engine.start(image, *RESTRICTED, "--volume", f"{volume}:/var/lib/sidecar")
            peers.append(container.line("  peer id"))
            container.line("Ready after")
            assert container.stop() == 0
            engine("rm", container.name)
    finally:
        engine("volume", "rm", "--force", volume, check=False)
    assert peers[0] == peers[1]


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A folder that belongs to root and the pod's group, as the kubelet makes it for `fsGroup: 65532`."""
    if os.getuid() != 0:
        pytest.skip("only root can give a folder to another group")
    folder = tmp_path / "mounted"
    folder.mkdir()
    os.chown(folder, 0, 65532)
    folder.chmod(0o2775)
    return folder


@pytest.mark.deploy
def test_secrets_are_read_as_kubernetes_mounts_them(engine: Engine, image: str, mounted: Path) -> None:
    """Files of root's that the pod's group may read, behind links."""
    secrets = mounted / "..data"
    secrets.mkdir()
    sidecar = str(ROOT / ".venv" / "bin" / "sidecar")
    peer = run(sidecar, "keygen", str(secrets / "identity.key")).stdout.splitlines()[0]
    run(sidecar, "keygen", "--psk", str(secrets / "swarm.key"))
    tokens = ("--api-tokens", str(secrets / "tokens.json"), "--name", "app", "--allow", "publish:*")
    run(sidecar, "token", "create", *tokens, "--out", str(mounted / "token"))
    for name in ("identity.key", "swarm.key", "tokens.json"):
        os.chown(secrets / name, 0, 65532)
        (secrets / name).chmod(0o440)
        (mounted / name).symlink_to(f"..data/{name}")
    place = "/run/secrets/sidecar"
    variables = {
        "SIDECAR_STATE_IDENTITY_FILE": f"{place}/identity.key",
        "SIDECAR_NETWORK_PSK_FILE": f"{place}/swarm.key",
        "SIDECAR_API_TOKENS": f"{place}/tokens.json",
        "SIDECAR_API_REQUIRE_TOKEN": "true",
    }
    env = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    container = engine.start(image, *RESTRICTED, *env, "--volume", f"{mounted}:{place}:ro")
    assert container.line("  peer id").endswith(peer)
    container.line("Ready after")
    assert "open to others" not in container.log()
    assert container.exec("sidecar", "health").returncode == 0  # which needs no token
    publish = ("sidecar", "publish", "news", "hello")
    assert "token" in container.exec(*publish).stderr
    token = (mounted / "token").read_text().strip()
    allowed = container.exec(*publish, flags=("--env", f"SIDECAR_TOKEN={token}"))
    assert "token" not in allowed.stderr


@pytest.mark.deploy
def test_a_volume_of_the_pods_group_keeps_the_identity(engine: Engine, image: str, mounted: Path) -> None:
    peers = []
    for _ in range(2):
        container = engine.start(image, *RESTRICTED, "--volume", f"{mounted}:/var/lib/sidecar")
        peers.append(container.line("  peer id"))
        container.line("Ready after")
        assert container.stop() == 0
    assert peers[0] == peers[1]
    # What fsGroupChangePolicy: OnRootMismatch looks at, so that the key is not opened to the group at the next mount.
    assert (mounted.stat().st_gid, mounted.stat().st_mode & 0o7777) == (65532, 0o2775)
    assert (mounted / "identity.key").stat().st_mode & 0o777 == 0o600
