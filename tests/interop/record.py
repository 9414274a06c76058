"""Records the golden transcripts: one session of a real sidecar with a real peer of each implementation.

`make transcripts`, or `python -m tests.interop.record go js`, writes `tests/vectors/transcripts/NAME.jsonl` with
`sidecar run --trace-wire`. `tests/trace/test_transcripts.py` replays them without any peer, and so does this command
before it keeps one. The sidecar's key is made from a seed that only tests use, and all addresses are of loopback.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path

from sidecar.core.identity import Identity
from sidecar.store.directory import KEY_FILE
from tests.interop.build import CORE, NAMES, BuildFailed, ToolMissing
from tests.interop.cells import NETWORK
from tests.interop.ours import connect, our_sidecar
from tests.interop.peer import TIMEOUT, PeerError, Stage
from tests.trace.replay import OURS, SEED, THEIRS, TOPIC, TRANSCRIPTS, check, load

_MOST = 200_000  # bytes of a transcript


async def session(language: str, home: Path, trace: Path) -> None:
    """Hold the session: connect, identify, ping, FIND_NODE and gossip both ways, unsubscribe, disconnect.

    Args:
        language: the peer's implementation.
        home: an empty folder for the sidecar.
        trace: where it is recorded.
    """
    state = home / "state"
    state.mkdir(mode=0o700)
    (state / KEY_FILE).touch(0o600)
    (state / KEY_FILE).write_bytes(Identity(SEED).to_bytes())
    # Only what the session asks for is to be in it: no other peers sought, no second ping, no second refresh.
    flags = ("--trace-wire", str(trace), "--peers-target", "0", "--peers-ping-interval", "1h")
    async with Stage() as stage:
        peer, sought = await asyncio.gather(
            stage.start(language, "peer", network=NETWORK, dht="server"),
            stage.start(language, "sought", network=NETWORK, dht="server"),
        )
        await sought.call("connect", address=peer.address)
        await peer.event("dht_peer", peer_id=sought.peer_id)
        async with our_sidecar(home, *flags) as ours:
            client = ours.client
            await connect(ours, peer, we_dial=True)
            await client.ping_peer(peer.peer_id, timeout=TIMEOUT)
            await peer.call("ping", peer_id=ours.peer_id)
            await client.find_peer(sought.peer_id, timeout=TIMEOUT)
            await peer.event("dht_peer", peer_id=ours.peer_id)
            await peer.call("closest_peers", peer_id=ours.peer_id)
            async with client.subscribe(TOPIC, skip_local=True) as subscription, aclosing(aiter(subscription)) as news:
                await peer.call("subscribe", topic=TOPIC)
                await peer.event("graft", topic=TOPIC, peer_id=ours.peer_id)
                await client.publish(TOPIC, OURS, minimum_peers=1, timeout=TIMEOUT)
                await peer.message(TOPIC)
                await peer.publish(TOPIC, THEIRS)
                await asyncio.wait_for(anext(news), TIMEOUT)
                await peer.call("unsubscribe", topic=TOPIC)
                await peer.call("ping", peer_id=ours.peer_id)  # so that it does not cut its own words short
                await peer.call("disconnect", peer_id=ours.peer_id)
                await ours.gone(peer.peer_id)
            ours.process.popen.terminate()
            await asyncio.to_thread(ours.process.ended)


def record(language: str) -> Path:
    """Record, replay and keep the transcript with a peer; returns its file.

    Raises AssertionError when it does not replay, PeerError, ToolMissing, BuildFailed.
    """
    with tempfile.TemporaryDirectory() as folder:
        home, trace = Path(folder) / "sidecar", Path(folder) / "trace.jsonl"
        home.mkdir()
        asyncio.run(session(language, home, trace))
        written = trace.read_bytes()
        assert folder.encode() not in written, "a transcript names no folder of this machine"
        assert len(written) <= _MOST, f"a transcript of {len(written)} bytes, at most {_MOST}"
        check(language, load(trace))
        kept = TRANSCRIPTS / f"{language}.jsonl"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(written)
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the golden transcripts again.")
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=f"of {', '.join(NAMES)}; default: all")
    languages = parser.parse_args().languages or NAMES
    failed = False
    for language in languages:
        try:
            kept = record(language)
            print(f"{language}: {kept} ({kept.stat().st_size} bytes)")
        except ToolMissing as missing:
            print(f"{language}: {missing}", file=sys.stderr)
            failed = failed or language in CORE
        except (PeerError, BuildFailed) as error:
            print(f"{language}: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
