"""Reconciling sets of keys: both sides' differences are found, whatever the sets; and other implementations agree."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import ProtocolError
from sidecar.core.history import reconcile
from sidecar.core.history.reconcile import KeySet, answer, compare, opening
from sidecar.core.parameters.history import MAX_RECONCILE

# Dialogues of Negentropy's own implementation (JavaScript) with itself, over the keys of `known`.
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "negentropy.json").read_text(encoding="utf-8")
)


def known(vector: dict[str, Any]) -> tuple[KeySet, KeySet]:
    """The keys of both sides: SHA-256 of numbers, some that both have and some of each."""
    common = list(range(vector["common"]))
    sides = (
        common + [10_000 + number for number in range(vector["asking"])],
        common + [20_000 + number for number in range(vector["asked"])],
    )
    asking, asked = (sorted(hashlib.sha256(str(number).encode()).digest() for number in side) for side in sides)
    return KeySet(asking), KeySet(asked)


def play(asking: KeySet, asked: KeySet, limit: int = MAX_RECONCILE) -> tuple[set[bytes], set[bytes], int]:
    """What the asking side learns that it alone has, and that it needs; and the rounds that it took."""
    have: set[bytes] = set()
    need: set[bytes] = set()
    message: bytes | None = opening(asking)
    rounds = 0
    while message is not None:
        rounds += 1
        assert rounds < 1000
        reply = answer(asked, message, limit)
        assert max(len(message), len(reply)) <= limit
        compared = compare(asking, reply, limit)
        have.update(compared.have)
        need.update(compared.need)
        message = compared.answer
    return have, need, rounds


# ---------------------------------------------------------------- other implementations


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_we_ask_as_others_do_and_understand_what_they_answer(vector: dict[str, Any]) -> None:
    asking, asked = known(vector)
    messages = [bytes.fromhex(message) for message in vector["messages"]]
    limit = vector["limit"] or MAX_RECONCILE
    said = opening(asking)
    have: set[bytes] = set()
    need: set[bytes] = set()
    for ours, theirs in zip(messages[::2], messages[1::2], strict=True):
        if not vector["limit"]:  # where messages are short, everybody cuts them off somewhere else
            assert said == ours
        compared = compare(asking, theirs, limit)
        have.update(compared.have)
        need.update(compared.need)
        said = compared.answer or b""
    if not vector["limit"]:
        assert said == b""
        assert have == set(asking.keys) - set(asked.keys)
        assert need == set(asked.keys) - set(asking.keys)
        assert (len(have), len(need)) == (vector["have"], vector["need"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_we_answer_what_others_ask(vector: dict[str, Any]) -> None:
    asking, asked = known(vector)
    first = bytes.fromhex(vector["messages"][0])
    reply = answer(asked, first, vector["limit"] or MAX_RECONCILE)
    theirs = bytes.fromhex(vector["messages"][1])
    if vector["asking"] or vector["asked"]:
        assert reply == theirs or vector["limit"]
    else:  # of ranges that are the same we say no more
        assert reply == bytes((reconcile.VERSION,))
    assert compare(asking, reply).need == compare(asking, theirs).need or vector["limit"]


# ---------------------------------------------------------------- any sets


def keys(rng: random.Random, count: int) -> list[bytes]:
    return [rng.randbytes(32) for _ in range(count)]


@given(
    st.integers(0, 2**32),
    st.integers(0, 300),
    st.integers(0, 100),
    st.integers(0, 100),
    st.sampled_from((4096, MAX_RECONCILE)),
)
def test_the_differences_are_found(seed: int, common: int, asking: int, asked: int, limit: int) -> None:
    rng = random.Random(seed)
    both, one, other = keys(rng, common), keys(rng, asking), keys(rng, asked)
    have, need, _ = play(KeySet(sorted(both + one)), KeySet(sorted(both + other)), limit)
    assert have == set(one)
    assert need == set(other)


@given(st.sets(st.binary(min_size=1, max_size=1)), st.sets(st.binary(min_size=1, max_size=1)), st.booleans())
def test_keys_that_are_close_to_each_other_are_told_apart(one: set[bytes], other: set[bytes], last: bool) -> None:
    """They differ in their first byte alone, or in their last one."""

    def made(ends: set[bytes]) -> KeySet:
        return KeySet(sorted(bytes(31) + end if last else end + bytes(31) for end in ends))

    asking, asked = made(one), made(other)
    have, need, _ = play(asking, asked)
    assert have == set(asking.keys) - set(asked.keys)
    assert need == set(asked.keys) - set(asking.keys)


@pytest.mark.parametrize(
    ("common", "asking", "asked", "most"),
    [(10_000, 1, 1, 3), (10_000, 50, 50, 4), (0, 3000, 3000, 8), (0, 0, 20_000, 12), (0, 20_000, 0, 1)],
)
def test_it_takes_few_rounds(common: int, asking: int, asked: int, most: int) -> None:
    rng = random.Random(common + asking + asked)
    both = keys(rng, common)
    have, need, rounds = play(KeySet(sorted(both + keys(rng, asking))), KeySet(sorted(both + keys(rng, asked))))
    assert (len(have), len(need)) == (asking, asked)
    assert rounds <= most


def test_equal_sets_take_one_round() -> None:
    same = KeySet(sorted(keys(random.Random(1), 5000)))
    assert play(same, same) == (set(), set(), 1)
    assert answer(same, opening(same)) == bytes((reconcile.VERSION,))


# ---------------------------------------------------------------- what is malformed


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x62",  # another version
        b"\x61\x00\x00\x03",  # an unknown mode
        b"\x61\x00\x00\x01" + bytes(15),  # a fingerprint cut short
        b"\x61\x00\x00\x02\x02" + bytes(32),  # two keys announced
        b"\x61\x00\x00\x02\xff\xff\xff\xff\x7f",  # very many announced
        b"\x61\x00\x00\x02\xff\xff\xff\xff\xff\x7f",  # a number that has no end
        b"\x61\x01\x21" + bytes(33) + b"\x00",  # a bound of 33 bytes
        b"\x61\x02\x00\x00",  # a timestamp
        b"\x61\x00\x01\x01\x00",  # infinity with a key
        b"\x61\x00\x00\x00\x00\x00\x00",  # more behind infinity
        b"\x61\x01\x01\x02\x00\x01\x01\x01\x00",  # bounds that go back
        b"\x61\x01\x01\x02\x02\x01\x02" + bytes(31),  # a key behind its range
        b"\x61\x01\x01\x02\x00\x00\x00\x02\x01" + bytes(32),  # a key before its range
    ],
)
def test_what_is_malformed_is_refused(message: bytes) -> None:
    own = KeySet(sorted(keys(random.Random(2), 100)))
    with pytest.raises(ProtocolError):
        answer(own, message)
    with pytest.raises(ProtocolError):
        compare(own, message)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused_or_answered_within_bounds(message: bytes) -> None:
    own = KeySet(sorted(keys(random.Random(3), 5000)))
    for body in (message, b"\x61" + message):
        try:
            assert len(answer(own, body, 4096)) <= 4096
            compared = compare(own, body, 4096)
            assert compared.answer is None or len(compared.answer) <= 4096
        except ProtocolError:
            pass


def test_a_bound_with_zeros_at_its_end_is_the_one_without() -> None:
    own = KeySet(sorted([bytes(32), b"\x05" + bytes(31), b"\x06" + bytes(31)]))
    short, long = b"\x01\x01\x05", b"\x01\x03\x05\x00\x00"
    assert answer(own, b"\x61" + short + b"\x02\x00") == answer(own, b"\x61" + long + b"\x02\x00")
