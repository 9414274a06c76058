"""A sidecar at home, behind a real miniupnpd: it has its port mapped, is dialled there, and takes it back."""

import json
from pathlib import Path

import pytest

from .miniupnpd import DOUBLE, HOME6, WAN, home
from .processes import Process, following, running

HERE = ("--listen", "/ip4/0.0.0.0/tcp/4747", "--nat-mapping", "on")
MAPPED = f"/ip4/{WAN}/tcp/4747"


def told(sidecar: Process, words: str) -> None:
    """Read what its log says until these words come."""
    if not sidecar.socket.exists():
        sidecar.line("Ready after")
    with following(sidecar, "events", "--json") as lines:
        for line in lines:
            if words in json.loads(line)["message"]:
                return
    raise AssertionError(f"never said: {words}\n{sidecar.log()}")


def connected(sidecar: Process, address: str) -> None:
    done = sidecar.command("connect", address)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("speaks", "protocol"),
    [
        pytest.param({}, "pcp", id="pcp"),
        pytest.param({"protocols": "nat-pmp"}, "nat-pmp", id="nat-pmp", marks=pytest.mark.slow),
        pytest.param({"natpmp": False}, "upnp", id="upnp"),
    ],
)
def test_a_port_is_mapped_dialled_from_outside_and_released(
    tmp_path: Path, speaks: dict[str, bool | str], protocol: str
) -> None:
    flags = (*HERE, "--nat-protocols", str(speaks.get("protocols", "pcp,nat-pmp,upnp")))
    with home(tmp_path / "router") as router:
        router.start(natpmp=bool(speaks.get("natpmp", True)))
        with (
            running(tmp_path / "in", *flags, prefix=router.inside) as inside,
            running(tmp_path / "out", prefix=router.outside) as outside,
        ):
            told(inside, f"maps {MAPPED} to port 4747 ({protocol})")
            status = inside.json("status")
            assert MAPPED in status["announced"]
            assert [each["source"] for each in status["addresses"]] == ["mapped"]
            mapping = status["port_mapping"]
            assert (mapping["state"], mapping["protocol"]) == ("mapped", protocol)
            assert [(each["address"], each["port"]) for each in mapping["ports"]] == [(MAPPED, 4747)]
            outside.line("Ready after")
            connected(outside, f"{MAPPED}/p2p/{status['peer_id']}")
            (peer,) = json.loads("[" + outside.command("peers", "--json").stdout.strip() + "]")
            assert MAPPED in peer["addresses"], "identify tells of it"
            assert "4747" in router.rules()
            assert inside.terminate() == 0
            assert "4747" not in router.rules()


def test_a_firewall_of_ipv6_lets_peers_in_as_long_as_it_is_asked_to(tmp_path: Path) -> None:
    flags = ("--listen", "/ip6/::/tcp/4747")
    with home(tmp_path / "router") as router:
        router.start()
        with running(tmp_path / "out", prefix=router.outside) as outside:
            outside.line("Ready after")
            address = f"/ip6/{HOME6}/tcp/4747"
            with running(tmp_path / "shut", *flags, "--nat-mapping", "off", prefix=router.inside) as inside:
                inside.line("Ready after")
                refused = outside.command("connect", f"{address}/p2p/{inside.json('id')['peer_id']}")
                assert refused.returncode != 0
            with running(tmp_path / "in", *flags, "--nat-mapping", "on", prefix=router.inside) as inside:
                told(inside, f"lets peers in at {address} (pcp)")
                status = inside.json("status")
                assert status["port_mapping"]["ports"][0]["address"] == address
                assert [each["source"] for each in status["addresses"]] == ["listening"]
                connected(outside, f"{address}/p2p/{status['peer_id']}")
                assert inside.terminate() == 0
                assert "4747" not in router.rules("miniupnpd")


def test_a_mapping_comes_back_when_the_router_has_begun_anew(tmp_path: Path) -> None:
    with home(tmp_path / "router") as router:
        router.start()
        with running(tmp_path / "in", *HERE, prefix=router.inside) as inside:
            told(inside, f"maps {MAPPED}")
            router.stop()
            assert "4747" not in router.rules()
            router.start()
            router.said("PCP MAP: added mapping")
            assert "4747" in router.rules()
            assert inside.json("status")["port_mapping"]["state"] == "mapped"


@pytest.mark.slow
def test_a_router_that_comes_later_is_asked_then(tmp_path: Path) -> None:
    with home(tmp_path / "router") as router, running(tmp_path / "in", *HERE, prefix=router.inside) as inside:
        told(inside, "maps no port")
        assert inside.json("status")["port_mapping"]["state"] == "no answer"
        doctor = {each["check"]: each for each in map(json.loads, _doctor(inside).splitlines())}
        assert doctor["port mapping"]["level"] == "warning"
        assert "Turn on UPnP" in doctor["port mapping"]["remedy"]
        router.start()
        told(inside, f"maps {MAPPED}")


@pytest.mark.slow
def test_behind_two_nats_nothing_is_announced(tmp_path: Path) -> None:
    with home(tmp_path / "router", wan=DOUBLE) as router:
        router.start()
        with running(tmp_path / "in", *HERE, prefix=router.inside) as inside:
            told(inside, "maps no port")
            status = inside.json("status")
            assert status["port_mapping"]["state"] == "refused", "miniupnpd maps nothing where nobody could come in"
            assert not [address for address in status["announced"] if DOUBLE in address]
            assert status["addresses"] == []


def _doctor(sidecar: Process) -> str:
    return sidecar.command("doctor", "--json").stdout
