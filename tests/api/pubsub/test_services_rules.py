"""Rules through the API, against a node that is a fake with real rules."""

from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import Rule, RuleCount

from sidecar.core.gossip import Candidates, RulesSet
from sidecar.core.parameters import TopicRule
from tests.api.fakes import OTHER, asynchronous, served

SIZE = '[[rule]]\nname = "size"\ntopics = ["ne*"]\nmax_payload = 3\n'


@asynchronous
async def test_rules_are_set_and_listed_with_what_they_kept_back(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.rule_book.put([TopicRule("own", ("*",), require_signature=True)], configured=True)
        await client.set_rules(SIZE)
        rules = node.rule_book.of("news")
        assert rules is not None
        rules.judge(Candidates("news", [b"long", b"far too long", b"x"], [OTHER] * 3, [1, 2, 3], OTHER), 0.0)
        assert await client.rules() == [
            Rule("own", ("*",), "signatures; else ignore", True, ()),
            Rule(
                "size",
                ("ne*",),
                "payloads of at most 3 bytes; else ignore",
                False,
                (RuleCount("news", "max_payload", 2),),
            ),
        ]
        await client.set_rules("")
        assert [rule.name for rule in await client.rules()] == ["own"]


@asynchronous
async def test_rules_that_are_wrong_change_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        await client.set_rules(SIZE)
        for text, said in (
            (SIZE.replace("3", "-3"), "rules:4: max_payload = -3 in [[rule]] 1"),
            ("[[rule", "they are not TOML"),
            (SIZE + SIZE, "rules:6: name in [[rule]] 2: another rule is named"),
            (SIZE + 'allow_file = "/etc/passwd"\n', "rules:5: allow_file in [[rule]] 1: only a node's own file"),
            ("#" * (256 << 10) + "\n", "at most 262144"),
        ):
            with pytest.raises(sidecar_client.InvalidArgument) as told:
                await client.set_rules(text)
            assert told.value.field == "rules"
            assert said in str(told.value)
        node.rule_book.put([TopicRule("own", ("*",), max_payload=1)], configured=True)
        with pytest.raises(sidecar_client.AlreadyExists, match="a rule named 'own' is in the file of rules already"):
            await client.set_rules(SIZE.replace("size", "own"))
        assert [rule.name for rule in await client.rules()] == ["own", "size"]
        assert len([fed for fed in node.fed if isinstance(fed, RulesSet)]) == 2
