"""The commands against two real sidecars that know each other."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .processes import PATIENCE, Process, environment, running_pair


class Pair:
    """Two sidecars, the second joined through the first."""

    def __init__(self, first: Process, second: Process) -> None:
        self.first = first
        self.second = second
        self.first_id = first.json("id")["peer_id"]
        self.second_id = second.json("id")["peer_id"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place = tmp_path_factory.mktemp("pair")
    with running_pair(place) as (first, second):
        yield Pair(first, second)


class Listening:
    """A command that goes on, such as `receive`."""

    def __init__(self, sidecar: Process, *words: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "sidecar", words[0], "--api", str(sidecar.socket), *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(sidecar.home),
            text=True,
        )
        assert self.popen.stderr is not None
        said = self.popen.stderr.readline()
        assert (json.loads(said)["note"] if "--json" in words else said.removeprefix("sidecar: ")).startswith(
            "listening"
        )

    def output(self) -> str:
        """What it has printed once it has ended by itself."""
        out, err = self.popen.communicate(timeout=PATIENCE)
        assert (self.popen.returncode, err) == (0, "")
        return out


def test_each_sees_the_other(pair: Pair) -> None:
    assert [pair.first.json("peers")["peer_id"], pair.second.json("peers")["peer_id"]] == [
        pair.second_id,
        pair.first_id,
    ]
    assert pair.second_id in pair.first.command("peers").stdout
    assert pair.first.json("id")["addresses"][0].endswith(pair.first_id)
    assert 0 < pair.first.json("ping", pair.second_id)["latency"] < PATIENCE
    assert pair.second.json("find", pair.first_id)["addresses"][0].startswith("/ip4/127.0.0.1/tcp/")
    assert pair.second.json("connect", pair.first_id)["connected"]
    assert pair.second.json("connect", pair.first.json("id")["addresses"][0])["peer_id"] == pair.first_id
    assert "gossip" in "".join(pair.first.json("status", "--statistics")["statistics"])


def test_a_direct_message_is_received_and_the_receipt_says_so(pair: Pair) -> None:
    nobody = pair.first.command("send", pair.second_id, "/chat/1", "hello")
    assert (nobody.returncode, nobody.stdout.split(":")[0]) == (1, "NO_SUBSCRIBER")
    receiving = Listening(pair.second, "receive", "/chat/1", "--count", "1", "--json")
    assert pair.first.command("send", pair.second_id, "/chat/1", "hello", "you").stdout.startswith("DELIVERED: ")
    assert json.loads(receiving.output()) == {"peer_id": pair.first_id, "protocol": "/chat/1", "text": "hello you"}


def test_a_request_is_answered(pair: Pair) -> None:
    unserved = pair.first.command("request", pair.second_id, "/ask/1", "who?")
    assert (unserved.returncode, unserved.stdout) == (1, "")
    assert unserved.stderr.startswith("sidecar: ")
    serving = Listening(pair.second, "receive", "/ask/1", "--reply", "me")
    assert pair.first.command("request", pair.second_id, "/ask/1", "who?").stdout == "me\n"
    serving.popen.send_signal(signal.SIGINT)
    out, err = serving.popen.communicate(timeout=PATIENCE)
    assert (serving.popen.returncode, out, err) == (130, f"{pair.first_id} asks: who?\n", "")


def test_what_is_published_arrives(pair: Pair) -> None:
    subscribed = Listening(pair.second, "subscribe", "news", "--count", "3", "--json")
    receipt = pair.first.json("publish", "news", "one", "--peers", "1")
    assert (receipt["outcome"], receipt["peers"]) == ("SENT", 1)
    lines = subprocess.run(
        [sys.executable, "-m", "sidecar", "publish", "news", "--lines", "--api", str(pair.first.socket)],
        input=b"two\n\xff\n",
        capture_output=True,
        env=environment(pair.first.home),
        timeout=PATIENCE,
        check=True,
    )
    assert b"SENT" in lines.stdout
    messages = [json.loads(line) for line in subscribed.output().splitlines()]
    assert [m.get("text") or m.get("base64") for m in messages] == ["one", "two", "/w=="]
    assert {m["sender"] for m in messages} == {pair.first_id}


def test_an_unsigned_topic_is_one_at_both_ends(pair: Pair) -> None:
    subscribed = Listening(pair.second, "subscribe", "plain", "--unsigned", "--count", "1", "--raw")
    assert pair.first.json("publish", "plain", "x", "--unsigned", "--peers", "1")["outcome"] == "SENT"
    again = pair.first.command("publish", "plain", "x", "--unsigned")
    assert (again.returncode, again.stdout.split(":")[0]) == (1, "DUPLICATE")
    assert subscribed.output() == "x"


def test_a_probe_tells_how_long_messages_take_and_no_app_sees_it(pair: Pair) -> None:
    subscribed = Listening(pair.second, "subscribe", "probed", "--count", "2", "--raw")
    assert pair.first.json("publish", "probed", "before", "--peers", "1")["outcome"] == "SENT"
    done = pair.first.command("probe", "probed", "--count", "5", "--interval", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    *answers, whole = map(json.loads, done.stdout.splitlines())
    assert [(answer["peer_id"], answer["number"], answer["direct"]) for answer in answers] == [
        (pair.second_id, number, True) for number in range(5)
    ]
    assert all(0 <= answer["delay"] < PATIENCE for answer in answers)
    assert (whole["published"], whole["expected"], whole["answered"], whole["share"]) == (5, 5, 5, 1.0)
    assert list(whole["delays"]) == ["p50", "p90", "p99"]
    assert [slow["peer_id"] for slow in whole["slowest"]] == [pair.second_id]
    assert pair.first.json("publish", "probed", "after")["outcome"] == "SENT"
    assert subscribed.output() == "beforeafter"
    unknown = pair.first.command("probe", "nobody's")
    assert (unknown.returncode, unknown.stdout, unknown.stderr.count("\n")) == (1, "", 1)
    assert "`sidecar topics` lists" in unknown.stderr


def test_mistakes_are_one_line_each(pair: Pair) -> None:
    for words, text in (
        (("send", "nonsense", "/chat/1", "x"), "peer"),
        (("send", pair.first_id, "/chat/1", "x"), "itself"),
        (("find", "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"), "found"),
        (("connect", "/ip4/127.0.0.1/tcp/9"), "127.0.0.1"),
        (("connect", "/nonsense/1"), "multiaddr"),
        (("publish", "", "x"), "topic"),
    ):
        done = pair.first.command(*words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert text in done.stderr


def test_a_pipe_that_closes_ends_it_quietly(pair: Pair) -> None:
    subscribed = Listening(pair.second, "subscribe", "pipe")
    assert subscribed.popen.stdout is not None
    subscribed.popen.stdout.close()
    pair.first.command("publish", "pipe", "x", "--peers", "1")
    assert subscribed.popen.wait(PATIENCE) == 0
    assert subscribed.popen.stderr is not None
    assert subscribed.popen.stderr.read() == ""
    subscribed.popen.stderr.close()


def test_a_byte_stream_carries_both_directions_to_their_ends(pair: Pair) -> None:
    def stream(data: bytes, protocol: str) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "sidecar", "stream", pair.second_id, protocol]
        environ = environment(pair.first.home) | {"SIDECAR_API": f"unix:{pair.first.socket}"}
        return subprocess.run(command, input=data, capture_output=True, env=environ, timeout=PATIENCE)

    data = bytes(range(256)) * 10_000
    assert stream(data, "/echo/1").stderr.startswith(b"sidecar: ")
    echoing = Listening(pair.second, "accept", "/echo/1", "--echo")
    for _ in range(2):
        done = stream(data, "/echo/1")
        assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    echoing.popen.send_signal(signal.SIGINT)
    assert echoing.popen.communicate(timeout=PATIENCE) == ("", "")
    assert echoing.popen.returncode == 130
    once = Listening(pair.second, "accept", "/cat/1")  # its input is at its end: nothing goes back
    assert stream(b"hello", "/cat/1").stdout == b""
    out, err = once.popen.communicate(timeout=PATIENCE)
    assert (once.popen.returncode, out, err) == (0, "hello", f"sidecar: a stream of {pair.first_id}\n")


def test_the_log_is_watched_and_its_levels_are_changed(pair: Pair) -> None:
    first = json.loads(pair.first.command("events", "--count", "1", "--json").stdout)
    assert (first["severity"], first["part"]) == ("info", "net.runtime")
    assert first["message"].startswith("listening on /ip4/127.0.0.1/tcp/")
    assert pair.first.command("log-level", "net", "debug").stdout == "all: info\nnet: debug\n"
    assert pair.first.json("log-level", "net", "none") == {"level": "info", "parts": {}}
    assert " INFO audit: log level changed by api: part net, level debug\n" in pair.first.log()
    wrong = pair.first.command("log-level", "nothing", "debug")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "the log has no part 'nothing'" in wrong.stderr


def test_one_peer_the_closest_peers_and_the_running_configuration(pair: Pair) -> None:
    assert pair.first.json("peer", pair.second_id)["connected"] is True
    (known,) = pair.second.json("peer", pair.first_id)["known_addresses"]
    assert (known["origin"], known["last_failure"]) == ("bootstrap", None)
    assert known["last_success"] > 1_700_000_000
    assert pair.first.json("closest", pair.second_id, "--limit", "1")["peer_id"] == pair.second_id
    assert pair.first.json("closest", "/app/name")["peer_id"] == pair.second_id
    running = pair.first.json("config", "--running")
    assert running["api.socket"] == {"value": str(pair.first.socket), "origin": "--socket"}
    assert running["gossip.degree"]["origin"] == "default"


def test_topics_are_listed_and_what_only_apps_here_got_is_no_failure(pair: Pair) -> None:
    def run(*words: str, sent: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sidecar", "--api", str(pair.first.socket), *words],
            env=environment(pair.first.home),
            input=sent,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout

    # It stays until all is asked: the outcome counts the subscriptions that there are then.
    listening = Listening(pair.first, "subscribe", "only-here")
    (topic,) = [row for row in map(json.loads, run("topics", "--json").splitlines()) if row["name"] == "only-here"]
    assert (topic["subscribed"], topic["subscribers"], topic["peers"]) == (True, 1, 0)
    told = json.loads(run("publish", "only-here", "hello", "--json"))
    assert (told["outcome"], told["local_subscribers"]) == ("NO_PEERS", 1)
    outcomes = [
        json.loads(line) for line in run("publish", "only-here", "--lines", "--json", sent="a\nb\n").splitlines()
    ]
    assert sum(told["count"] for told in outcomes) == 2
    assert {(told["outcome"], told["local_subscribers"]) for told in outcomes} == {("NO_PEERS", 1)}
    friendly = "NO_PEERS, 1 subscription at this sidecar got it; no other node subscribes yet"
    assert run("publish", "only-here", "--lines", sent="c\n") == f"message 0: {friendly}\n"
    listening.popen.send_signal(signal.SIGINT)
    out, _ = listening.popen.communicate(timeout=PATIENCE)
    assert [line.split()[-1] for line in out.splitlines()] == ["hello", "a", "b", "c"]


def test_lines_that_nobody_gets_fail(pair: Pair) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--api", str(pair.first.socket), "publish", "nobody-here", "--lines"],
        env=environment(pair.first.home),
        input=b"a\n",
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"message 0: NO_PEERS, sent to 0 peers\n", b"")


def test_what_a_peer_sends_cannot_steer_the_terminal(pair: Pair) -> None:
    hostile = "\x1b]0;mine\x07\x1b[2J\x9b1m"
    shown = "\\x1b]0;mine\\x07\\x1b[2J\\x9b1m"
    raw = Listening(pair.second, "subscribe", "steering", "--count", "1", "--raw")
    text = Listening(pair.second, "subscribe", "steering", "--count", "1")
    as_json = Listening(pair.second, "subscribe", "steering", "--count", "1", "--json")
    assert pair.first.command("publish", "steering", hostile, "--peers", "1").returncode == 0
    assert raw.output() == hostile
    assert text.output().endswith(f"  {shown}\n")
    document = as_json.output().removesuffix("\n")
    assert document.isprintable()
    assert json.loads(document)["text"] == hostile

    receiving = Listening(pair.second, "receive", "/steering/1", "--reply", hostile, "--count", "1")
    assert pair.first.command("request", pair.second_id, "/steering/1", hostile).stdout == f"{shown}\n"
    assert pair.first.command("send", pair.second_id, "/steering/1", hostile).returncode == 0
    assert receiving.output() == f"{pair.first_id} asks: {shown}\n{pair.first_id}  {shown}\n"
