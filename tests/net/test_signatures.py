"""Processes that check signatures: real ones, and such as die, hang, or do not start."""

import asyncio
import sys
from collections.abc import Sequence

import pytest

from sidecar.core.gossip import SignatureCheck
from sidecar.core.gossip.signing import SIGN_PREFIX
from sidecar.core.identity import Identity, KeyType, PublicKey
from sidecar.net import signatures, verify_worker
from sidecar.net.signatures import SignatureWorkers

from .harness import both_loops

IDENTITY = Identity(bytes(32))


def checks(count: int, start: int = 0) -> tuple[list[SignatureCheck], list[str | None]]:
    """Signatures, every third of them invalid, and what is to be said of them."""
    made: list[SignatureCheck] = []
    for number in range(start, start + count):
        content = b"%d" % number * (number % 50 + 1)
        signature = IDENTITY.sign(SIGN_PREFIX + content)
        made.append(SignatureCheck(IDENTITY.public_key, content if number % 3 else content + b"!", signature))
    return made, [None if number % 3 else "signature" for number in range(start, start + count)]


class Answers:
    def __init__(self) -> None:
        self.found: dict[int, list[str | None]] = {}
        self.order: list[int] = []
        self._changed = asyncio.Event()

    def __call__(self, number: int, reasons: Sequence[str | None]) -> None:
        assert number not in self.found, "answered twice"
        self.found[number] = list(reasons)
        self.order.append(number)
        self._changed.set()

    async def have(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.found) < count:
                self._changed.clear()
                await self._changed.wait()


async def ready(workers: SignatureWorkers, answers: Answers, count: int = 1) -> None:
    """Ask until so many processes are there."""
    number = -1
    async with asyncio.timeout(60):
        while workers.ready < count:
            workers.check(number, checks(1)[0])
            await answers.have(-number)
            number -= 1


@both_loops
async def test_they_say_what_the_check_itself_says_and_in_order_where_there_is_one() -> None:
    answers = Answers()
    workers = SignatureWorkers(asyncio.get_running_loop(), 1, answers)
    await ready(workers, answers)
    before = len(answers.found)
    expected = {}
    for number in range(20):
        batch, expected[number] = checks(number * 7, number * 100)
        workers.check(number, batch)
    await answers.have(before + 20)
    assert {number: answers.found[number] for number in expected} == expected
    assert answers.order[before:] == list(range(20))
    assert workers.memory() > 1_000_000
    assert workers.failures == 0
    await workers.close()
    assert workers.ready == 0


@both_loops
async def test_keys_of_all_kinds_and_of_no_kind() -> None:
    answers = Answers()
    workers = SignatureWorkers(asyncio.get_running_loop(), 1, answers)
    await ready(workers, answers)
    odd = [
        SignatureCheck(IDENTITY.public_key, b"x", b"short"),
        SignatureCheck(PublicKey(KeyType.ED25519, b"short"), b"x", bytes(64)),
        SignatureCheck(IDENTITY.public_key, b"", b""),
    ]
    workers.check(1, odd)
    before = len(answers.found)
    await answers.have(before + 1)
    assert answers.found[1] == ["signature"] * 3
    await workers.close()


@both_loops
async def test_until_one_is_ready_signatures_are_checked_here_and_never_within_the_call() -> None:
    answers = Answers()
    workers = SignatureWorkers(asyncio.get_running_loop(), 2, answers)
    batch, expected = checks(30)
    workers.check(1, batch)
    assert not answers.found
    await answers.have(1)
    assert answers.found[1] == expected
    await workers.close()


@both_loops
async def test_one_that_is_killed_loses_nothing_and_is_replaced() -> None:
    answers = Answers()
    workers = SignatureWorkers(asyncio.get_running_loop(), 2, answers)
    await ready(workers, answers, 2)
    before = len(answers.found)
    expected = {}
    for number in range(12):
        batch, expected[number] = checks(200, number)
        workers.check(number, batch)
    next(iter(workers._workers)).kill()
    await answers.have(before + 12)
    assert {number: answers.found[number] for number in expected} == expected
    assert workers.failures == 1
    number = 100
    async with asyncio.timeout(60):
        while workers.ready < 2:
            workers.check(number, checks(1)[0])
            await answers.have(len(answers.found) + 1)
            number += 1
    await workers.close()


HANGS = "import os, time; os.write(1, b'\\x01'); time.sleep(1000)"
DIES = "import os; os.write(1, b'\\x01'); os.read(0, 1)"
NEVER_READY = "import time; time.sleep(1000)"


@pytest.mark.parametrize("code", [HANGS, DIES, NEVER_READY])
@both_loops
async def test_one_that_hangs_or_dies_holds_nothing_up_for_long(code: str) -> None:
    answers = Answers()
    command = (sys.executable, "-c", code)
    workers = SignatureWorkers(asyncio.get_running_loop(), 1, answers, command=command, patience=0.5)
    sent, expected = 0, {}
    async with asyncio.timeout(60):
        while workers.failures < 4 and not (code == NEVER_READY and workers.failures):
            sent += 1
            batch, expected[sent] = checks(5, sent)
            workers.check(sent, batch)
            await answers.have(sent)
            if workers._paused_until > asyncio.get_running_loop().time():
                break  # it was given up for some time
    await answers.have(sent)
    assert answers.found == expected
    assert workers.failures
    await workers.close()


@both_loops
async def test_one_that_cannot_be_started() -> None:
    answers = Answers()
    workers = SignatureWorkers(asyncio.get_running_loop(), 1, answers, command=("/nonexistent/verify",))
    for number in range(5):
        workers.check(number, checks(3)[0])
    await answers.have(5)
    assert answers.found == dict.fromkeys(range(5), checks(3)[1])
    assert workers.failures
    await workers.close()


@both_loops
async def test_one_that_does_not_end_is_killed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "_END", 0.2)
    answers = Answers()
    command = (sys.executable, "-c", "import os, time\nos.write(1, b'\\x01')\nwhile True: time.sleep(1000)")
    workers = SignatureWorkers(asyncio.get_running_loop(), 1, answers, command=command)
    await ready(workers, answers)
    (worker,) = workers._workers
    async with asyncio.timeout(30):
        await workers.close()
    assert worker.gone.done()


@both_loops
async def test_they_end_when_nothing_was_to_be_checked_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "_IDLE", 0.3)
    answers = Answers()
    workers = SignatureWorkers(asyncio.get_running_loop(), 1, answers)
    await ready(workers, answers)
    (worker,) = workers._workers
    async with asyncio.timeout(30):
        await worker.gone
    assert (workers.ready, workers.failures) == (0, 0)
    await workers.close()


def test_batches_come_in_any_pieces() -> None:
    made, expected = checks(9)
    pieces = [
        verify_worker.CHECK.pack(key.type, len(key.data), len(signature), len(SIGN_PREFIX) + len(content))
        for key, content, signature in made
    ]
    bodies = [b"".join((key.data, signature, SIGN_PREFIX, content)) for key, content, signature in made]
    batch = b"".join((verify_worker.COUNT.pack(len(made)), *pieces, *bodies))
    empty = verify_worker.COUNT.pack(0)
    for size in (1, 7, 1000, len(batch) * 3):
        written = bytearray()
        data = batch + empty + batch
        chunks = iter([data[first : first + size] for first in range(0, len(data), size)])

        def write(answer: bytes, written: bytearray = written) -> int:
            written.extend(answer[:2])  # as a full pipe takes it
            return len(answer[:2])

        verify_worker.serve(lambda _, chunks=chunks: next(chunks, b""), write)  # type: ignore[misc]
        assert written == verify_worker.READY + bytes(reason is None for reason in expected) * 2
