"""`sidecar run --trace-wire` and `sidecar trace show` between two real sidecars."""

import json
from pathlib import Path
from typing import Any

from .processes import Process, command, running
from .test_commands import Listening


def shown(home: Path, file: Path, *flags: str) -> list[dict[str, Any]]:
    done = command(home, "trace", "show", str(file), "--json", *flags)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def talk(first: Process, second: Process, text: str) -> None:
    """Have a message arrive that the first one publishes."""
    subscribed = Listening(second, "subscribe", "news", "--count", "1")
    assert first.json("publish", "news", text, "--peers", "1")["outcome"] == "SENT"
    assert subscribed.output()


def test_a_trace_has_what_was_said_in_the_clear_and_no_key(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with running(tmp_path / "1", "--trace-wire", str(file)) as first:
        address = first.line("  address").split()[-1]
        assert str(file) in first.line("  TRACE")
        with running(tmp_path / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            second_id = second.json("id")["peer_id"]
            assert "latency" in second.json("ping", first.json("id")["peer_id"])
            talk(first, second, "hello")
            assert first.command("ping", second_id).returncode == 0
        first.popen.kill()  # a session may end inside a line
        first.ended()
    assert "WARNING app: tracing the wire" in first.log()
    assert "DECRYPTED" in first.log()
    assert file.stat().st_mode & 0o777 == 0o600
    key = (first.state / "identity.key").read_bytes()
    written = file.read_bytes()
    assert key[4:36] not in written
    assert key[4:36].hex().encode() not in written

    with file.open("ab") as torn:
        torn.write(written.splitlines()[-1][:20])
    told = shown(tmp_path, file)
    assert told[0]["event"] == "trace"
    handshake = next(line for line in told if line["event"] == "handshake")
    assert (handshake["security"], handshake["muxer"], handshake["peer"]) == ("/noise", "/yamux/1.0.0", second_id)
    kinds = {(line["kind"], line["direction"]) for line in told if line["event"] == "message"}
    assert {("identify", "in"), ("identify", "out"), ("ping", "in"), ("kademlia", "in"), ("gossip", "in")} <= kinds
    gossip = shown(tmp_path, file, "--peer", second_id, "--protocol", "/meshsub/")
    sent = [message for line in gossip if line["direction"] == "out" for message in line.get("messages", ())]
    assert [(message["topic"], message["size"], message["signed"]) for message in sent] == [("news", 5, True)]
    joined = [item for line in gossip if line["direction"] == "in" for item in line.get("subscriptions", ())]
    assert {"topic": "news", "subscribe": True} in joined
    people = command(tmp_path, "trace", "show", str(file), "--protocol", "meshsub").stdout
    assert "-> gossip: MESSAGE on news, 5 bytes" in people


def test_a_disk_without_room_ends_the_trace_and_not_the_node(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    limited = ("bash", "-c", 'ulimit -f 100; exec "$@"', "-")  # files of at most 100 KiB, as on a disk that is full
    with running(tmp_path / "1", "--trace-wire", str(file), prefix=limited) as first:
        address = first.line("  address").split()[-1]
        with running(tmp_path / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            talk(first, second, "x" * 90_000)
            talk(first, second, "afterwards")
            assert first.terminate() == 0
    assert "ERROR trace.file: trace of the wire stopped" in first.log()
    assert "the node goes on" in first.log()
    assert shown(tmp_path, file)[0]["event"] == "trace"


def test_a_limit_ends_the_trace_and_a_file_of_others_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with running(tmp_path / "1", "--trace-wire", str(file), "--trace-limit", "4KiB") as first:
        address = first.line("  address").split()[-1]
        with running(tmp_path / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            talk(first, second, "hello")
            assert first.terminate() == 0
    assert "limit of 4096 bytes" in first.log()
    assert file.stat().st_size <= 4096
    assert shown(tmp_path, file)[-1]["event"] == "stopped"
    file.chmod(0o644)
    refused = command(tmp_path, "run", "--state", str(tmp_path / "3"), "--trace-wire", str(file))
    assert (refused.returncode, refused.stderr.count("others may read it")) == (1, 1)
