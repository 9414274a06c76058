"""What scenarios are written in: a wrong word or a wrong answer is noticed."""

import hashlib
from typing import Any

import pytest

from .proxy import Counter
from .scenario import load, parsed
from .values import WrongScenario, differences, encoded, expected, generated, resolved, shown

SCENARIO = """
group: g
scenarios:
  - name: n
    apps: {{A: one}}
    steps:
      - {step}
"""


def test_the_scenarios_are_well_formed() -> None:
    assert len(load()) > 20


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("A shout", "there is no 'shout'"),
        ("Z info", "nobody is called 'Z'"),
        ("A info: {timeout: 3}", "'timeout' is not one of"),
        ("A info: {}\n        expects: {}", "a step says one thing"),
        ("A read: {count: 1}", "takes a stream's name"),
        ("A info x: {}", "takes no stream's name"),
        ("equal: [1, 1]\n        error: X", "'error' is not one of"),
    ],
)
def test_a_misspelt_step_is_an_error(step: str, said: str) -> None:
    with pytest.raises(WrongScenario, match=said):
        parsed(SCENARIO.format(step=step))


@pytest.mark.parametrize(
    ("want", "found", "said"),
    [
        ({"a": 1}, {"a": 2}, "answer.a is 2, not 1"),
        ({"a": 1}, {"b": 1}, "answer has no a"),
        ({"a": [1, 2]}, {"a": [1]}, "answer.a has 1 items, not 2"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 0}]}, "answer.a.0.b is 0, not 1"),
        ({"a": {"at least": 2}}, {"a": 1}, "not at least 2"),
        ({"a": {"at most": 2}}, {"a": None}, "not at most 2"),
        ({"a": {"contains": {"b": 1}}}, {"a": [{"b": 2}]}, "does not contain"),
        ({"a": {"lacks": "x"}}, {"a": "axb"}, "contains 'x'"),
        ({"a": {"length": {"at least": 2}}}, {"a": [1]}, "another length"),
        ({"a": {"one of": [1, 2]}}, {"a": 3}, "none of"),
        ({"a": {"some": True}}, {"a": ""}, "should be something"),
        ({"a": True}, {"a": 1}, "is 1, not True"),
    ],
)
def test_an_answer_that_is_not_as_expected_is_told(want: Any, found: Any, said: str) -> None:
    (line,) = differences(want, found)
    assert said in line


def test_fields_that_nobody_asked_about_are_not_looked_at() -> None:
    assert differences({"a": [{"b": {"at least": 1}}], "c": None}, {"a": [{"b": 1, "x": 0}], "c": None, "d": 5}) == []


def test_variables_are_put_in_and_payloads_are_made() -> None:
    variables = {"one": {"ids": ["x", "y"]}, "size": 3}
    assert resolved({"a": ["$one.ids.1", "<${one.ids.0}>"], "b": {"sum": [1, "$size"]}}, variables) == {
        "a": ["y", "<x>"],
        "b": 4,
    }
    with pytest.raises(WrongScenario, match="there is no 'two'"):
        resolved("$two", variables)
    assert encoded({"data": "hi", "cursor": "$one.ids.0", "topic": "t"}, variables) == {
        "data": "aGk=",
        "cursor": "x",
        "topic": "t",
    }
    assert expected({"data": {"seed": "s", "size": "$size"}}, variables) == {"data": shown(generated("s", 0, 3))}
    assert shown(bytes(2000)) == {"size": 2000, "sha256": hashlib.sha256(bytes(2000)).hexdigest()}


def frame(kind: int, payload: bytes, stream: int = 1, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_calls_and_messages_are_counted_however_the_bytes_come(piece: int) -> None:
    message = b"\0" + (300).to_bytes(4, "big") + bytes(300)
    written = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, b"") + frame(1, b"headers") + frame(0, message + message[:7])
    )
    written += frame(1, b"headers", 3) + frame(0, message, 3) + frame(0, b"\x02" + message[7:] + b"\0\0", 1, 8)
    counter = Counter()
    for start in range(0, len(written), piece):
        counter.feed(written[start : start + piece])
    assert (counter.calls, counter.messages) == (2, 3)
