"""The file of rules: what is read of it, and what is said of one that is wrong."""

from pathlib import Path

import pytest

from sidecar.config import describe, load
from sidecar.config.rules import NO_RULES, load_rules
from sidecar.core.errors import ConfigError
from sidecar.core.parameters import OnBreak, SenderRate, SeqnoDistance, TopicRule
from sidecar.core.parameters.rules import MAX_RULES
from sidecar.core.types import PeerId

ONE = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
TWO = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
LEAST = '[[rule]]\nname = "a"\ntopics = ["x"]\n'


def written(place: Path, text: str) -> Path:
    file = place / "rules.toml"
    file.write_text(text)
    return file


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "bad").write_text(f"# those of last week\n\n  {TWO}  # why\r\n")
    file = written(
        tmp_path,
        f"""
        [[rule]]
        name = "prices"
        topics = ["prices.*", "rates"]
        max_payload = "4KiB"
        require_signature = true
        allow = ["{ONE}", "{ONE}"]
        deny_file = "lists/bad"
        rate = 2.5
        burst = 10
        seqno_least = -16
        seqno_most = 1000
        seqno_remember = "2h"
        on_break = "reject"

        [[rule]]
        name = "replays"
        topics = ["*"]
        seqno_least = 1
        rate = 0.5
        """,
    )
    assert load_rules(file) == (
        TopicRule(
            "prices",
            ("prices.*", "rates"),
            max_payload=4096,
            require_signature=True,
            allow=frozenset([PeerId.from_text(ONE)]),
            deny=frozenset([PeerId.from_text(TWO)]),
            seqno=SeqnoDistance(-16, 1000, 7200.0),
            rate=SenderRate(2.5, 10.0),
            on_break=OnBreak.REJECT,
        ),
        TopicRule("replays", ("*",), seqno=SeqnoDistance(1), rate=SenderRate(0.5, 1.0)),
    )


def test_a_file_without_senders_allows_nobody(tmp_path: Path) -> None:
    (tmp_path / "nobody").write_text("# nobody yet\n")
    (rule,) = load_rules(written(tmp_path, LEAST + 'allow_file = "nobody"\n'))
    assert rule.allow == frozenset()


def test_a_file_without_rules_is_read(tmp_path: Path) -> None:
    assert load_rules(written(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]", "the file of rules {file} is not TOML"),
        ("[rule]\n", "{file}: rule is a list of tables: write [[rule]]"),
        ("[[rules]]\n", "{file}: no key 'rules' in the file of rules; there are rule (did you mean rule?)"),
        ('[[rule]]\ntopics = ["x"]\nrate = 1\n', "{file}:1: [[rule]] 1 lacks name"),
        ('[[rule]]\nname = "a"\n', "{file}:1: topics in [[rule]] 1: it is a list of 1 to 64 names"),
        (LEAST, "{file}:1: [[rule]] 1: rule 'a' limits nothing"),
        (LEAST + 'max_payload = "4 KB"\n', "{file}:4: max_payload = '4 KB' in [[rule]] 1: not a number with"),
        (LEAST + "ratte = 1\n", "{file}:4: no key 'ratte' in [[rule]] 1; there are "),
        (LEAST + "rate = 0\n", "{file}:4: rate = 0 in [[rule]] 1: below the least allowed"),
        (LEAST + "burst = 3\n", "{file}:4: burst in [[rule]] 1: it goes with rate"),
        (LEAST + "rate = 1\n" + LEAST + "rate = 1\n", "{file}:6: name in [[rule]] 2: another rule is named 'a'"),
        (LEAST + 'allow = ["x"]\n', "{file}:4: allow in [[rule]] 1: 'x': "),
        (LEAST + "allow = [1]\n", "{file}:4: allow in [[rule]] 1: 1: "),
        (LEAST + "deny = []\n", "{file}:4: deny in [[rule]] 1: it is a list of peer ids, at least one"),
        (LEAST + 'deny_file = "none"\n', "{file}:4: deny_file in [[rule]] 1: {place}/none cannot be read: No such"),
        (LEAST + 'deny_file = "bad"\n', "{file}:4: deny_file in [[rule]] 1: {place}/bad:2: 'nobody': "),
        (LEAST + "seqno_least = -5000\n", "{file}:4: seqno_least = -5000 in [[rule]] 1: below the least allowed"),
        (LEAST + 'rate = 1\nseqno_remember = "1h"\n', "{file}:5: seqno_remember in [[rule]] 1: it goes with"),
        (LEAST + 'rate = 1\non_break = "drop"\n', "{file}:5: on_break = 'drop' in [[rule]] 1: "),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad").write_text(f"{ONE}\nnobody\n")
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as told:
        load_rules(file)
    assert str(told.value).startswith(message.format(file=file, place=tmp_path))
    assert "\n" not in str(told.value) or "TOML" in message


def test_there_are_no_more_rules_than_a_node_takes(tmp_path: Path) -> None:
    text = "".join(f'[[rule]]\nname = "{n}"\ntopics = ["x"]\nrate = 1\n' for n in range(MAX_RULES + 1))
    with pytest.raises(ConfigError, match=f"{MAX_RULES + 1} rules, at most {MAX_RULES}"):
        load_rules(written(tmp_path, text))


def test_the_key_reads_the_file_and_shows_its_path(tmp_path: Path) -> None:
    file = written(tmp_path, LEAST + "rate = 1\n")
    loaded = load({}, {"gossip.rules": str(file)}, tmp_path / "empty") if (tmp_path / "empty").touch() is None else None
    assert loaded is not None
    assert loaded.config.gossip.rules == (file, load_rules(file))
    assert f'rules = "{file}"  # --gossip-rules' in describe.in_force(loaded)
    assert describe.as_json(loaded)["gossip.rules"]["value"] == str(file)
    assert load({}, {"gossip.rules": ""}, tmp_path / "empty").config.gossip.rules == NO_RULES
    with pytest.raises(ConfigError, match="the file of rules nowhere cannot be read: No such file"):
        load({"SIDECAR_GOSSIP_RULES": "nowhere"}, {}, tmp_path / "empty")
