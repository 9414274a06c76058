"""What `sidecar run` says once it has started."""

from pathlib import Path

import pytest

from sidecar.app import Started
from sidecar.commands.run import banner
from sidecar.config import load
from sidecar.core.identity import Identity


def said(**flags: str) -> list[str]:
    config = load({"HOME": "/nonexistent"}, {name.replace("__", "."): value for name, value in flags.items()}).config
    peer = Identity(bytes(32)).peer_id
    started = Started(peer, "main", config.listen.addresses, "unix:/api.sock", None, None, Path("/state"), None)
    return banner(started, config).splitlines()


def hint(lines: list[str]) -> str | None:
    """The flags that it names for a node of this machine alone."""
    place = next((number for number, line in enumerate(lines) if line.startswith("  OPEN ")), None)
    if place is None:
        return None
    flags, _, rest = lines[place + 1].strip().partition(" (")
    assert rest == "or for holders of a key: --network-psk-file FILE)"
    return flags


@pytest.mark.parametrize(
    ("listen", "flags"),
    [
        ("/ip4/0.0.0.0/tcp/4747", "--listen /ip4/127.0.0.1/tcp/4747"),
        ("/ip4/0.0.0.0/tcp/5000", "--listen /ip4/127.0.0.1/tcp/5000"),
        ("/ip4/192.0.2.1/tcp/0", "--listen /ip4/127.0.0.1/tcp/0"),
        ("/ip6/::/tcp/5000", "--listen /ip6/::1/tcp/5000"),
        ("/ip4/0.0.0.0/tcp/5000/ws", "--listen /ip4/127.0.0.1/tcp/5000/ws"),
        (
            "/ip4/0.0.0.0/tcp/5000,/ip6/::/tcp/5001,/ip4/127.0.0.2/tcp/1",
            "--listen /ip4/127.0.0.1/tcp/5000 --listen /ip6/::1/tcp/5001 --listen /ip4/127.0.0.2/tcp/1",
        ),
        ("/ip4/192.0.2.1/tcp/1,/ip4/192.0.2.2/tcp/1", "--listen /ip4/127.0.0.1/tcp/1"),
    ],
)
def test_a_node_open_to_all_says_so_with_the_flags_that_close_it(listen: str, flags: str) -> None:
    assert hint(said(listen__addresses=listen)) == flags
    words = [word for word in flags.split() if word != "--listen"]
    assert hint(said(listen__addresses=",".join(words))) is None


def test_the_default_is_open_and_says_so() -> None:
    assert hint(said()) is not None


@pytest.mark.parametrize(
    "closed",
    [
        {"network__psk_file": "/swarm.key"},
        {"gate__allow_networks": "10.0.0.0/8"},
        {"gate__allow_peers": str(Identity(bytes(32)).peer_id)},
    ],
)
def test_a_node_that_is_not_open_to_all_does_not_say_so(closed: dict[str, str]) -> None:
    assert hint(said(listen__addresses="/ip4/0.0.0.0/tcp/4747", **closed)) is None


def test_it_names_an_address_for_other_machines_only_where_there_is_one() -> None:
    assert said(listen__addresses="/ip4/192.0.2.1/tcp/1")[-1].startswith(
        "  sidecar run --bootstrap /ip4/192.0.2.1/tcp/1/p2p/"
    )
    assert not any("--bootstrap" in line for line in said(listen__addresses="/ip4/127.0.0.1/tcp/1"))
