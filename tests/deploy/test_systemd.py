"""The systemd unit: verified, hardened, and run by a real systemd in a container."""

import os
from pathlib import Path

import pytest

from .engine import Container, Engine
from .tools import BUILD_SECONDS, ROOT, ToolMissing, run, tool

UNIT = ROOT / "deploy" / "systemd" / "sidecar.service"
BASE = "localhost/sidecar-test-systemd-base:latest"
MACHINE = "localhost/sidecar-test-systemd:latest"
SIDECAR = "/opt/sidecar/bin/sidecar"
API = "/run/sidecar/api.sock"


def test_the_unit_gives_the_sidecar_what_the_readme_says() -> None:
    lines = UNIT.read_text().splitlines()
    assert "Type=notify" in lines
    assert f"Environment=SIDECAR_API_SOCKET={API}" in lines
    assert f"ExecStart={SIDECAR} run" in lines


@pytest.mark.deploy
def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    here = tmp_path / "sidecar.service"
    here.write_text(UNIT.read_text().replace(SIDECAR, str(ROOT / ".venv" / "bin" / "sidecar")))
    assert run(analyze, "verify", str(here)).stderr == ""
    run(
        analyze, "security", "--offline=yes", "--threshold=20", "--no-pager", str(here)
    )  # 2.0 of 10, as the README says


@pytest.fixture(scope="module")
def machine(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Container:
    """A machine that has booted and started the unit."""
    _build(engine, image, tmp_path_factory.mktemp("base"))
    flags = ("--privileged", "--systemd=always", "--network", "none", "--tty")
    container = engine.start(MACHINE, *flags)
    # The journal says when; it is followed from its beginning. The first tries meet a machine that is still booting.
    for _ in range(100):
        script = f"until systemctl is-active --quiet sidecar; do systemctl is-failed sidecar && exit 1; done; ls {API}"
        if container.exec("timeout", "60", "bash", "-c", script).returncode == 0:
            break
    return container


def _build(engine: Engine, image: str, folder: Path) -> None:
    if not engine.is_podman or os.getuid() != 0:
        raise ToolMissing("podman as root is needed to boot a machine")
    python = engine("run", "--rm", "--entrypoint", "python", image, "-c", "import sys; print(sys.base_prefix)")
    if python.stdout.strip() != "/usr":
        raise ToolMissing("the image has another Python than Debian's: build it on the base of `make image-base`")
    if engine("image", "exists", BASE, check=False).returncode:
        packages = "systemd,systemd-sysv,python3,procps,passwd"
        words = ("--quiet", "--variant=minbase", f"--include={packages}", "bookworm", str(folder / "base.tar"))
        run(tool("mmdebstrap"), *words, seconds=BUILD_SECONDS)
        engine("import", str(folder / "base.tar"), BASE, seconds=BUILD_SECONDS)
    flags = ["--isolation", "chroot"] if "CONTAINERS_CONF" in engine.env else []
    file = ROOT / "tests" / "deploy" / "Dockerfile.systemd"
    words = ("--build-arg", f"BASE={BASE}", "--build-arg", f"SIDECAR={image}", "--tag", MACHINE, "--file", str(file))
    engine("build", "--quiet", "--format", "docker", *flags, *words, str(UNIT.parent))


@pytest.mark.deploy
def test_it_is_up_when_the_manager_says_so(machine: Container) -> None:
    shown = machine.exec("systemctl", "show", "sidecar", "--property=ActiveState,StatusText,Type,NotifyAccess")
    assert set(shown.stdout.split()) >= {"ActiveState=active", "StatusText=Ready", "Type=notify", "NotifyAccess=main"}
    assert machine.exec("systemd-analyze", "verify", "sidecar.service").stderr == ""


@pytest.mark.deploy
def test_members_of_the_group_get_in_and_strangers_do_not(machine: Container) -> None:
    status = f"{SIDECAR} status --api {API}"
    member = machine.exec("su", "member", "-c", status)
    assert member.returncode == 0, member.stderr
    stranger = machine.exec("su", "stranger", "-c", status)
    assert stranger.returncode == 3
    assert "Permission denied" in stranger.stderr


@pytest.mark.deploy
def test_its_sandbox_holds(machine: Container) -> None:
    pid = machine.exec("systemctl", "show", "sidecar", "--property=MainPID", "--value").stdout.strip()
    status = machine.exec("cat", f"/proc/{pid}/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (fields["CapEff"], fields["CapBnd"], fields["NoNewPrivs"], fields["Seccomp"]) == (
        "0" * 16,
        "0" * 16,
        "1",
        "2",
    )
    assert int(fields["Uid"].split()[0]) > 0


@pytest.mark.deploy
def test_one_that_hangs_is_started_again(machine: Container) -> None:
    """With a shorter patience than the unit has."""
    assert "WatchdogSec=60" in UNIT.read_text().splitlines()
    patience = "mkdir -p /run/systemd/system/sidecar.service.d && printf '[Service]\\nWatchdogSec=2\\n' > $_/soon.conf"
    for command in (patience, "systemctl daemon-reload", "systemctl restart sidecar", "systemctl kill -s STOP sidecar"):
        assert machine.exec("bash", "-c", command).returncode == 0, command
    followed = "journalctl -f -n all -u sidecar | grep -m 1 'Scheduled restart job'"
    assert machine.exec("timeout", "60", "bash", "-c", followed).returncode == 0
    started = "until test $(systemctl show sidecar -P NRestarts,ActiveState | tr -d '\n') = 1active; do :; done"
    assert machine.exec("timeout", "60", "bash", "-c", started).returncode == 0


@pytest.mark.deploy
def test_a_reload_takes_a_changed_configuration_and_a_stop_is_in_order(machine: Container) -> None:
    before = machine.exec("systemctl", "show", "sidecar", "--property=MainPID").stdout
    script = "mkdir -p /etc/sidecar && printf '[log]\\nlevel = \"debug\"\\n' > /etc/sidecar/config.toml"
    assert machine.exec("bash", "-c", script).returncode == 0
    assert machine.exec("systemctl", "reload", "sidecar").returncode == 0
    followed = machine.exec("timeout", "60", "bash", "-c", "journalctl -f -n all -u sidecar | grep -m 1 'log.level'")
    assert followed.returncode == 0
    assert machine.exec("systemctl", "show", "sidecar", "--property=MainPID").stdout == before
    assert machine.exec("systemctl", "stop", "sidecar").returncode == 0
    ended = machine.exec("systemctl", "show", "sidecar", "--property=Result,ExecMainStatus").stdout.split()
    assert set(ended) == {"Result=success", "ExecMainStatus=0"}
