"""The check of the probe: its network, its reading of traces, its simulation, and its part of the page."""

import base64
import contextlib
import errno
import ipaddress
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench import namespaces
from bench.probes import lab, page, run
from bench.probes.live import Both, Delay, Live
from bench.probes.plan import Plan, number_of, quantile
from bench.probes.router import Router
from bench.probes.simulated import simulate
from bench.probes.traces import arrivals
from sidecar.core import probe
from sidecar.core.gossip.messages import RPC, field
from sidecar.core.identity import Identity
from sidecar.core.varint import encode
from sidecar.trace import VERSION, TraceFile

SMALL = Plan(nodes=8, steps=(1, 3), rounds=2, messages=5, size=300)

# ---------------------------------------------------------------- the plan


def test_equal_seeds_plan_the_same() -> None:
    plan = Plan()
    delays = plan.delays()
    assert delays == Plan().delays() != Plan(seed=2).delays()
    assert all(delays[one][other] == delays[other][one] for one in range(20) for other in range(20))
    assert all(0.05 <= delays[one][other] <= 0.15 for one in range(20) for other in range(20) if one != other)
    assert len({frozenset(pair) for pair in plan.pairs()}) == 60
    assert len(set(plan.publishers())) == 10


def test_messages_are_known_by_their_number() -> None:
    payload = Plan().payload(70_000)
    assert len(payload) == Plan().size
    assert number_of(payload) == 70_000
    assert number_of(b"something else") is None


# ---------------------------------------------------------------- the network


ADDRESSES = [[f"10.78.0.{host + 1}", f"2001:db8::{host + 1}"] for host in range(3)]


def packet(to: int) -> bytes:
    return bytes((0x45,)) + bytes(15) + bytes((10, 78, 0, to + 1)) + b"data"


def test_packets_come_when_the_delay_of_their_pair_is_over() -> None:
    router = Router([[0.0, 0.1, 0.3], [0.1, 0.0, 0.2], [0.3, 0.2, 0.0]], ADDRESSES)
    router.accept(0, packet(2), 1.0)
    router.accept(0, packet(1), 1.05)
    router.accept(1, packet(2), 1.09)
    assert router.next_due() == pytest.approx(1.15)
    assert router.arrived(1.14) == []
    assert router.arrived(1.295) == [(1, packet(1)), (2, packet(2))]
    assert router.arrived(1.301) == [(2, packet(2))]
    assert router.next_due() is None


def test_packets_of_ipv6_find_their_way_too() -> None:
    router = Router([[0.0, 0.1], [0.1, 0.0]], ADDRESSES[:2])
    sent = b"\x60" + bytes(23) + ipaddress.ip_address("2001:db8::2").packed + b"data"
    router.accept(0, sent, 1.0)
    assert router.arrived(2.0) == [(1, sent)]


@pytest.mark.parametrize(
    "stray", [b"", b"\x60" + bytes(39), packet(3), b"\x45\0", bytes((0x45,)) + bytes(15) + bytes((8, 8, 8, 8))]
)
def test_what_is_for_nobody_goes_nowhere(stray: bytes) -> None:
    router = Router([[0.0, 0.1], [0.1, 0.0]], ADDRESSES[:2])
    router.accept(0, stray, 1.0)
    assert router.next_due() is None


def test_what_is_under_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.probes.router._MAX_WAITING", 2)
    router = Router([[0.0, 0.1], [0.1, 0.0]], ADDRESSES[:2])
    for _ in range(3):
        router.accept(0, packet(1), 1.0)
    assert len(router.arrived(2.0)) == 2


ECHO = """
import socket
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.bind(("10.78.0.2", 4747))
print("up", flush=True)
data, sender = here.recvfrom(100)
here.sendto(data + sender[0].encode(), sender)
"""
ASK = """
import socket
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.sendto(b"from ", ("10.78.0.2", 4747))
print(here.recv(100).decode())
"""


def test_hosts_of_a_lab_reach_each_other_and_nothing_is_left_of_it() -> None:
    with contextlib.ExitStack() as stack:
        try:
            one, other = stack.enter_context(lab.lab([[0.0, 0.001], [0.001, 0.0]]))
        except namespaces.LabUnavailable as error:
            pytest.skip(str(error))
        answering = stack.enter_context(
            subprocess.Popen(
                other.command(sys.executable, "-c", ECHO),
                pass_fds=other.descriptors,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert answering.stdout is not None
        assert answering.stdout.readline() == "up\n"
        asked = subprocess.run(
            one.command(sys.executable, "-c", ASK), pass_fds=one.descriptors, capture_output=True, text=True, timeout=30
        )
        assert asked.stdout == "from 10.78.0.1\n", asked.stderr
        assert answering.wait(30) == 0
        device, namespace = one.device, one.namespace
    for descriptor in (device, namespace):  # the namespaces live as long as these
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_without_the_right_to_namespaces_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(name: str, *arguments: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(namespaces, "_call", refused)
    monkeypatch.setattr(sys, "argv", ["run", "--print"])
    monkeypatch.setattr("bench.probes.live.os.setpriority", lambda *_: None)
    assert run.main() == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "there can be no network of namespaces here: a network namespace cannot be made: Operation not permitted; "
        "it takes root, or CAP_SYS_ADMIN and CAP_NET_ADMIN"
    )


# ---------------------------------------------------------------- traces


def trace(file: Path, *seen: tuple[str, float, bytes, int]) -> Path:
    """A trace with a message of a probe in each record: direction, moment, the probe, the message's number."""
    written = TraceFile(file, 1 << 20, lambda flush: None)
    written.write("trace", 0.0, version=VERSION)
    for direction, at, identifier, number in seen:
        asked = probe.ProbeMessage(identifier, number, probe.WHOLE, "news", ())
        payload = probe.encode_probe(Identity(bytes(32)), asked, 0)
        body = RPC(publish=[field(2, payload) + field(4, b"news")]).SerializeToString()
        frame = encode(len(body)) + body
        about = {"connection": 1, "peer": "peer", "stream": 3, "protocol": "/meshsub/1.2.0", "opener": "us"}
        for piece in (frame[:50], frame[50:]):
            data = base64.b64encode(piece).decode()
            written.write("data", at, **about, direction=direction, length=len(piece), data=data)
    written.close()
    return file


def test_the_truth_is_read_from_traces(tmp_path: Path) -> None:
    first, second = b"a" * 16, b"b" * 16
    traces = [
        trace(
            tmp_path / "0",
            ("out", 10.0, first, 0),
            ("out", 10.1, first, 0),
            ("in", 10.4, first, 0),
            ("in", 21.0, second, 0),
        ),
        trace(tmp_path / "1", ("in", 10.2, first, 0), ("out", 10.2, first, 0), ("out", 20.0, second, 0)),
        trace(tmp_path / "2", ("in", 10.5, first, 0), ("in", 10.3, first, 1), ("in", 10.6, first, 0)),
    ]
    assert arrivals(traces) == [
        {0: {1: pytest.approx(0.2), 2: pytest.approx(0.5)}},  # number 1 left nobody
        {0: {0: pytest.approx(1.0)}},
    ]


# ---------------------------------------------------------------- the simulation


def test_the_simulated_network_is_the_one_that_is_given() -> None:
    edges = sorted({(min(pair), max(pair)) for pair in SMALL.pairs()})
    found = simulate(SMALL, edges, 1)
    assert len(found) == SMALL.rounds * SMALL.messages * (SMALL.nodes - 1)
    assert simulate(SMALL, edges, 1) == found
    shortest = _shortest(SMALL, edges)
    publishers = SMALL.publishers()
    for delay in found:  # small messages are not held back, so the first copy comes on the shortest way
        assert delay.seconds == pytest.approx(shortest[publishers[delay.round]][delay.receiver], abs=1e-6)


def _shortest(plan: Plan, edges: list[tuple[int, int]]) -> list[list[float]]:
    delays = plan.delays()
    far = [[0.0 if one == other else float("inf") for other in range(plan.nodes)] for one in range(plan.nodes)]
    for one, other in edges:
        far[one][other] = far[other][one] = delays[one][other]
    for via in range(plan.nodes):
        for one in range(plan.nodes):
            for other in range(plan.nodes):
                far[one][other] = min(far[one][other], far[one][via] + far[via][other])
    return far


# ---------------------------------------------------------------- the page


def seen(*, probe_off: float = 1.0) -> tuple[Live, list[list[Delay]]]:
    rng = random.Random(3)
    apps = [Delay(number % 2, 1 + number % 3, rng.uniform(0.05, 0.3)) for number in range(600)]
    told = [delay._replace(seconds=delay.seconds * probe_off) for delay in apps]
    same = [Both(one.seconds, other.seconds) for one, other in zip(told, apps, strict=True)]
    return Live([(0, 1)], apps, told, same, apps, 2, 3, 0, [1.25, 2.0]), [apps, apps]


def test_what_is_too_far_off_is_missed() -> None:
    holds = [each.holds for each in page.compare(*seen(probe_off=1.09))]
    assert holds == [True, True, True, True]
    assert [each.holds for each in page.compare(*seen(probe_off=1.15))] == [False, False, True, True]
    assert [each.holds for each in page.compare(*seen(probe_off=0.8))] == [False, False, False, True]


def test_the_page_has_figures_and_pictures() -> None:
    live, simulated = seen(probe_off=1.15)
    part = page.section(Plan(), live, simulated, "- command: this")
    lines = part.splitlines()
    p50, p99 = (f"{quantile([delay.seconds for delay in live.apps], share) * 1000:.0f} ms" for share in (0.5, 0.99))
    assert any(
        line.startswith(f"| apps: from `Publish` until another app has it | 600 | {p50} | {p99} |") for line in lines
    )
    assert "| probe, of apps | +15.0% | +15.0% | 10%: missed |" in lines
    assert "| simulation, of apps | +0.0% | +0.0% | 20% |" in lines
    assert "3 answers and 2 deliveries to apps did not come." in part.replace("\n", " ")
    assert lines[-2] == "- command: this"
    assert lines[-1].startswith("- load of the machine, after each round: 1.2, 2.0; the check ran at nice ")
    pictures = page.pictures(live, simulated)
    assert sorted(pictures) == ["propagation-delays.svg", "propagation-pairs.svg"]
    assert all(f"(images/{name})" in part for name in pictures)
    for label in ("apps (true)", "probe", "simulation", "delay (ms)"):
        assert label in pictures["propagation-delays.svg"]


def test_only_what_is_between_the_marks_is_replaced() -> None:
    before = f"# Title\n\n{page.BEGIN}\nold\n{page.END}\nrest\n"
    after = page.replaced(before, "new\n")
    assert after == f"# Title\n\n{page.BEGIN}\n\nnew\n\n{page.END}\nrest\n"
    assert page.replaced(after, "new\n") == after
    with pytest.raises(ValueError, match="the page has no"):
        page.replaced("# Title\n", "new\n")
    page.replaced((Path(__file__).parents[2] / "docs" / "propagation.md").read_text(encoding="utf-8"), "new\n")
