"""The Noise handshake against public test vectors, and what tampering gets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.channel.noise import CipherState, KeyPair, XXHandshake
from sidecar.core.errors import HandshakeError, ProtocolError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "noise.json").read_text())


def _side(vector: dict[str, Any], role: str) -> XXHandshake:
    return XXHandshake(
        initiator=role == "init",
        static=KeyPair(bytes.fromhex(vector[f"{role}_static"])),
        ephemeral=KeyPair(bytes.fromhex(vector[f"{role}_ephemeral"])),
        prologue=bytes.fromhex(vector[f"{role}_prologue"]),
    )


def _handshake() -> tuple[XXHandshake, XXHandshake]:
    keys = [KeyPair(bytes([number] * 32)) for number in range(1, 5)]
    return (
        XXHandshake(initiator=True, static=keys[0], ephemeral=keys[1]),
        XXHandshake(initiator=False, static=keys[2], ephemeral=keys[3]),
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["source"])
def test_public_vectors(vector: dict[str, Any]) -> None:
    writer, reader = _side(vector, "init"), _side(vector, "resp")
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    for payload, ciphertext in messages[:3]:
        assert writer.write_message(payload) == ciphertext
        assert reader.read_message(ciphertext) == payload
        writer, reader = reader, writer
    assert writer.finished
    assert reader.finished
    if expected := vector.get("handshake_hash"):
        assert writer.hash == reader.hash == bytes.fromhex(expected)
    sender, receiver = writer.split(), reader.split()
    for payload, ciphertext in messages[3:]:
        assert sender[0].encrypt(payload) == ciphertext
        assert receiver[1].decrypt(ciphertext) == payload
        sender, receiver = receiver, sender


def _run(change: Callable[[int, bytes], bytes]) -> list[bytes]:
    """A handshake whose messages are changed on the way."""
    writer, reader = _handshake()
    messages = []
    for step in range(3):
        messages.append(writer.write_message(b"payload" if step else b""))
        reader.read_message(change(step, messages[-1]))
        writer, reader = reader, writer
    return messages


def _flip(message: bytes, position: int) -> bytes:
    return message[:position] + bytes([message[position] ^ 1]) + message[position + 1 :]


def _cut(message: bytes, position: int) -> bytes:
    return message[:position]


@pytest.mark.parametrize("spoil", [_flip, _cut])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_no_changed_byte_and_no_cut_goes_unnoticed(step: int, spoil: Callable[[bytes, int], bytes]) -> None:
    """Nothing protects the first message itself, but the next one's reader notices."""
    length = len(_run(lambda _, message: message)[step])
    for position in range(0, length, 5):
        with pytest.raises(HandshakeError):
            _run(lambda number, message, at=position: spoil(message, at) if number == step else message)  # type: ignore[misc]


def test_a_public_key_of_low_order_is_refused() -> None:
    _, responder = _handshake()
    responder.read_message(bytes(32))
    with pytest.raises(HandshakeError, match="low order"):
        responder.write_message(b"")


def test_messages_must_come_whole_and_in_order() -> None:
    key = bytes(32)
    sender, receiver = CipherState(key), CipherState(key)
    first, second = sender.encrypt(b"first"), sender.encrypt(b"second")
    for wrong in (second, first[:-1], first + b"x", b"", first[:3]):
        with pytest.raises(ProtocolError, match="not authentic"):
            receiver.decrypt(wrong)
    assert receiver.decrypt(first) == b"first"
    assert receiver.decrypt(memoryview(second)) == b"second"
