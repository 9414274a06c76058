"""A process that checks signatures, from standard input to standard output: `python -m sidecar.net.verify_worker`.

It imports little, so that it is there soon and takes little memory. `signatures.py` starts it, feeds it, and has the
other half of what is said here.

First it writes one byte: it is ready. A batch that comes is a number of checks (four bytes, little-endian), then for
each its type of key and the lengths of key, signature and content, then the bytes of these, one behind the other. The
answer is a byte for each: 1 where the signature is good.
"""

import os
import signal
import struct
from collections.abc import Callable

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

COUNT = struct.Struct("<I")
CHECK = struct.Struct("<BIII")
READY = b"\x01"
_ED25519 = 1  # the type of a key in libp2p's peer ids
_READ = 1 << 18


def main() -> None:
    """Serve until the input ends."""
    # The sidecar's Ctrl-C and its service manager's signals go to all of the group: it ends when the sidecar has ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(lambda size: os.read(0, size), lambda data: os.write(1, data))


def serve(read: Callable[[int], bytes], write: Callable[[bytes], int]) -> None:
    """Answer batches until `read` gives nothing."""
    buffer = bytearray()
    answer = READY
    while True:
        while answer:
            answer = answer[write(answer) :]
        batch = _take(buffer)
        while batch is None:
            data = read(_READ)
            if not data:
                return
            buffer += data
            batch = _take(buffer)
        answer = bytes(map(_good, *zip(*batch, strict=True))) if batch else b""


Check = tuple[int, bytes, bytes, bytes]


def _take(buffer: bytearray) -> list[Check] | None:
    """The next batch, taken off the buffer; None while some of it is missing."""
    if len(buffer) < COUNT.size:
        return None
    (count,) = COUNT.unpack_from(buffer)
    offset = COUNT.size + count * CHECK.size
    if len(buffer) < offset:
        return None
    with memoryview(buffer) as view:
        heads = list(CHECK.iter_unpack(view[COUNT.size : offset]))
    if len(buffer) < offset + sum(key + signature + content for _, key, signature, content in heads):
        return None
    checks: list[Check] = []
    for kind, key, signature, content in heads:
        behind_key, behind_signature = offset + key, offset + key + signature
        end = behind_signature + content
        checks.append(
            (
                kind,
                bytes(buffer[offset:behind_key]),
                bytes(buffer[behind_key:behind_signature]),
                bytes(buffer[behind_signature:end]),
            )
        )
        offset = end
    del buffer[:offset]
    return checks


def _good(kind: int, key: bytes, signature: bytes, content: bytes) -> bool:
    if kind == _ED25519:
        if len(signature) != 64 or len(key) != 32:
            return False
        try:
            crypto_sign_open(signature + content, key)
        except BadSignatureError:
            return False
        return True
    from ..core.identity import KeyType, PublicKey  # rare, and `cryptography` behind it takes 10 MB

    return PublicKey(KeyType(kind), key).verify(content, signature)


if __name__ == "__main__":
    main()
