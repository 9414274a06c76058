"""Sidecars that know no bootstrap peer: found by multicast DNS, and by a name whose records have addresses."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..net.test_dnsaddr import answered
from .processes import Process, command, following, running


def connected(lines: Iterator[str], peer: str) -> None:
    """Read what happens to peers until the peer is connected."""
    for line in lines:
        event = json.loads(line)
        if event.get("peer_id") == peer and event["connected"]:
            return
    raise AssertionError(f"{peer} never came")


def test_two_sidecars_of_a_link_find_each_other_by_themselves(tmp_path: Path) -> None:
    mesh = ("--mdns", "true", "--network", f"lan-{os.getpid()}")  # other tests run beside this one
    with running(tmp_path / "1", *mesh) as first, running(tmp_path / "2", *mesh) as second:
        for sidecar in (first, second):
            sidecar.line("Ready after")
        for one, other in ((first, second), (second, first)):
            with following(one, "peers", "--watch", "--json") as lines:
                connected(lines, other.json("id")["peer_id"])


def test_without_it_nobody_is_asked_and_no_dns_library_is_loaded(tmp_path: Path) -> None:
    with running(tmp_path / "1") as sidecar:
        sidecar.line("Ready after")
        assert sidecar.json("status", "--statistics")["statistics"]["mdns_links"] == 0
    look = "import sys, sidecar.app; sys.exit('dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


@contextlib.contextmanager
def name_server(zone: Mapping[str, list[str]]) -> Iterator[str]:
    """Answers for the zone on loopback; where it does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while data := server.recvfrom(4096):
                if not data[0]:
                    return
                answer = answered(data[0], zone)
                if answer is not None:
                    server.sendto(answer, data[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "{}:{}".format(*server.getsockname())
        finally:
            server.sendto(b"", server.getsockname())  # nothing: the end
            thread.join()


def test_a_mesh_is_joined_by_the_records_of_a_name(tmp_path: Path) -> None:
    zone: dict[str, list[str]] = {}
    with name_server(zone) as server, running(tmp_path / "1") as first:
        address = first.line("  address").split()[-1]
        zone["_dnsaddr.mesh.example"] = ["dnsaddr=/dnsaddr/one.mesh.example"]
        zone["_dnsaddr.one.mesh.example"] = [f"dnsaddr={address}"]
        names = ("--bootstrap", "/dnsaddr/mesh.example", "--discovery-dns-servers", server)
        with running(tmp_path / "2", *names) as second:
            second.line("Ready after")
            assert address.rpartition("/")[2] in second.command("peers").stdout
            _doctor_follows_the_name(second, names)


def _doctor_follows_the_name(sidecar: Process, names: tuple[str, ...]) -> None:
    where = ("--state", str(sidecar.state), "--socket", str(sidecar.socket), "--listen", "/ip4/127.0.0.1/tcp/0")
    done = command(sidecar.home, "doctor", "--json", "--patience", "5", *where, *names)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    (entrance,) = (finding for finding in found if finding["check"] == "bootstrap")
    assert entrance["level"] == "ok", entrance
    assert entrance["message"].startswith("/dnsaddr/mesh.example: sidecar/")
