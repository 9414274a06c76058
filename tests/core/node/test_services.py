"""The services of the node: every input belongs to one, and a protocol is added as CONTRIBUTING says."""

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from sidecar.core.identity import Identity
from sidecar.core.node import Node, NodeConfig, NodeInput

ROOT = Path(__file__).parents[3]
TOY = Path(__file__).with_name("greeting.py")

GREET = """
from sidecar.core.node.greeting import GREETING, GreetingRequested
from sidecar.core.node import NodeConfig
from sidecar.sim import Simulation

simulation = Simulation(1)
one, other = simulation.add(NodeConfig()), simulation.add(NodeConfig())
one.node._services.switch.book.learn(other.identity.peer_id, (other.address,))
op = one.ask(lambda op: GreetingRequested(op, other.identity.peer_id))
simulation.run(5)
assert GREETING in other.node.protocols()
print(one.result(op).decode())
print(other.identity.peer_id)
"""


def test_every_input_belongs_to_one_service() -> None:
    node = Node(NodeConfig(), Identity(bytes(32)), now=0.0, wall_ns=0, rng=random.Random(1))
    assert set(node._takers) == set(get_args(NodeInput))


def with_the_toy(folder: Path) -> Path:
    """A copy of the package to which the toy was added, by the places that CONTRIBUTING names and no other."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## To add a protocol")[2].partition("\n## ")[0]
    places = re.findall(r"^\d\..*?`(sidecar/[^`]+)`", section, re.MULTILINE)
    assert places == ["sidecar/core/node/", "sidecar/core/node/services.py", "sidecar/core/node/machine.py"]
    new, services, machine = (folder / place for place in places)
    shutil.copytree(ROOT / "sidecar", folder / "sidecar", ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(TOY, new)
    _insert(services, "from .identify import", "from .greeting import GreetingService\n")
    _insert(services, "            ping,\n", "            GreetingService(switch, dialling, operations),\n")
    _insert(machine, "from .config import", "from .greeting import GreetingRequested\n", behind=True)
    _insert(machine, "    | ConfigurationChanged\n", "    | GreetingRequested\n")
    return folder


def _insert(file: Path, at: str, line: str, *, behind: bool = False) -> None:
    lines = file.read_text().splitlines(keepends=True)
    (index,) = (number for number, present in enumerate(lines) if present.startswith(at))
    lines.insert(index + behind, line)
    file.write_text("".join(lines))


def test_a_protocol_is_added_by_one_file_and_one_line_a_place(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GREET], cwd=with_the_toy(tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer, peer = done.stdout.splitlines()
    assert answer == f"hello from {peer}"


@pytest.mark.slow
def test_the_type_checker_knows_who_takes_which_input(tmp_path: Path) -> None:
    folder = with_the_toy(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", folder)
    check = [sys.executable, "-m", "mypy", "-p", "sidecar.core", "-p", "sidecar.sim"]
    done = subprocess.run(check, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    service = folder / "sidecar/core/node/requests.py"
    service.write_text(
        service.read_text().replace("            case events.PingRequested", "            case events.Gone")
    )
    done = subprocess.run(check, cwd=folder, capture_output=True, text=True, timeout=600)
    assert 'Argument 1 to "assert_never" has incompatible type "PingRequested"' in done.stdout
