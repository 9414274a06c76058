"""Rules at run time, and on a trace, by the command line and real sidecars."""

import json
from pathlib import Path

from .processes import command, running
from .test_commands import Listening

RULE = '[[rule]]\nname = "{name}"\ntopics = ["{topic}"]\nmax_payload = {size}\n'


def test_rules_are_set_listed_and_cleared_while_it_runs_and_tried_on_its_trace(tmp_path: Path) -> None:
    trace, own, more = tmp_path / "trace.jsonl", tmp_path / "own.toml", tmp_path / "more.toml"
    own.write_text(RULE.format(name="own", topic="*", size=20))
    with running(tmp_path / "1") as first:
        address = first.line("  address").split()[-1]
        flags = ("--bootstrap", address, "--gossip-rules", str(own), "--trace-wire", str(trace))
        with running(tmp_path / "2", *flags) as second:
            second.line("Ready after")

            def publish(*texts: str) -> None:
                for text in texts:
                    assert first.json("publish", "news", text, "--peers", "1")["outcome"] == "SENT"

            subscribed = Listening(second, "subscribe", "news", "--count", "1")
            more.write_text(RULE.format(name="more", topic="ne*", size=5))
            assert second.json("rules", "set", str(more)) == {"set": ["more"]}
            publish("too long", "a text by far too long", "short")
            assert subscribed.output().splitlines()[-1].endswith("short")
            told = second.command("rules", "list", "--json").stdout.splitlines()
            listed = {rule["name"]: rule for rule in map(json.loads, told)}
            assert [(name, rule["configured"]) for name, rule in listed.items()] == [("own", True), ("more", False)]
            assert listed["more"]["description"] == "payloads of at most 5 bytes; else ignore"

            refused = second.command("rules", "set", str(own))
            assert refused.returncode == 1
            assert "a rule named 'own' is in the file of rules already" in refused.stderr
            more.write_text(RULE.format(name="more", topic="ne*", size=-5))
            refused = second.command("rules", "set", str(more))
            assert (refused.returncode, f"{more}:4: max_payload = -5" in refused.stderr) == (2, True)

            assert second.json("rules", "clear") == {"set": []}
            subscribed = Listening(second, "subscribe", "news", "--count", "1")
            publish("too long")  # and no more
            assert subscribed.output().splitlines()[-1].endswith("too long")
            counts = json.loads(second.command("rules", "list", "--json").stdout)["counts"]
            assert counts == [{"topic": "news", "limit": "max_payload", "messages": 1}]
            audit = [json.loads(line) for line in (second.state / "audit.log").read_text().splitlines()]
            assert [line["rules"] for line in audit if line["action"] == "rules.set"] == [["more"], []]
            assert second.terminate() == 0
    more.write_text(RULE.format(name="a", topic="news", size=7) + RULE.format(name="b", topic="x", size=1))
    done = command(tmp_path, "rules", "test", str(more), str(trace), "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"rule": "a", "topic": "news", "limit": "max_payload", "messages": 3, "on_break": "ignore"},
        {"rule": "b", "messages": 0},
        {"judged": 4, "ignored": 3, "rejected": 0},
    ]
    assert command(tmp_path, "rules", "test", str(more)).returncode == 2
    assert command(tmp_path, "rules", "test", str(more), str(more)).returncode == 1
