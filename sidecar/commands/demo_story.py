"""What happens in the demo, step by step; each step waits for what it shows and fails when it does not come."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sidecar

from .demo_nodes import DemoFailed, DemoNode, together

_PATIENCE = 15.0  # seconds that any single step may take
_COUNT = 5
_BOOTSTRAP, _ASKED, _SENDER, _KILLED = 1, 2, 5, 4


class Story:
    """The whole demo, told line by line. `tell` performs it, `end` clears up."""

    def __init__(self, directory: Path) -> None:
        network = f"demo-{secrets.token_hex(4)}"
        self._begun = time.monotonic()
        self._nodes = {number: DemoNode(number, directory, network) for number in range(1, _COUNT + 1)}
        self._facts: list[str] = []

    async def tell(self) -> None:
        """Perform. Raises DemoFailed."""
        await self._start()
        await self._discover()
        await self._talk()
        await self._broadcast()
        await self._kill()
        await self._return()

    async def end(self) -> None:
        """End every process that was started."""
        await asyncio.gather(*(node.end() for node in self._nodes.values()))

    def summary(self) -> None:
        """Say all that was shown, and how long it took."""
        print("\nAll of it happened:")
        for fact in self._facts:
            print(f"  - {fact}")
        print(f"Done in {time.monotonic() - self._begun:.1f} s; nothing is left running.", flush=True)

    def logs(self) -> str:
        """The tails of all logs."""
        started = [child for node in self._nodes.values() for child in (node.sidecar, node.app) if child.started]
        return DemoFailed("", started).logs()

    # ------------------------------------------------------------ the steps

    async def _start(self) -> None:
        first = self._nodes[_BOOTSTRAP]
        self._say("Five sidecars start, each a process of its own on this machine, each with an app that uses it.")
        await first.start(None)
        self._introduce(first, "knows nobody; the others will be told its address")
        await together(*(self._start_other(node, first) for node in self._all_but(_BOOTSTRAP)))

    async def _start_other(self, node: DemoNode, first: DemoNode) -> None:
        await node.start(first.address)
        self._introduce(node, f"was told of {first.name} and of nobody else")

    async def _discover(self) -> None:
        begun = time.monotonic()
        self._say("They find each other through Kademlia: each asks those it knows for peers nearer to itself.")
        await together(*(self._finds_all(node) for node in self._nodes.values()))
        took = time.monotonic() - begun
        self._fact(f"five nodes that knew one address found each other within {took:.1f} s of the last one's start")
        asker, target = self._nodes[_SENDER], self._nodes[_ASKED]
        async with asker.within(_PATIENCE, "did not find a peer", asker.sidecar):
            addresses = await asker.client.find_peer(target.peer_id)
        self._say(f"{asker.name}, asked where {target.name} is, knows: {addresses[0]}")
        await together(*(node.start_app() for node in self._nodes.values()))
        self._say("The five apps are up: processes that use one sidecar each, over gRPC.")

    async def _finds_all(self, node: DemoNode) -> None:
        await node.meets(self._all_but(node.number), _PATIENCE)
        async with node.within(_PATIENCE, "did not answer", node.sidecar):
            counts = await node.client.statistics()
        queries, held = int(counts["dht_queries"]), int(counts["dht_peers"])
        if not held or (node.number != _BOOTSTRAP and not queries):
            raise DemoFailed(f"{node.name} met the others without Kademlia", [node.sidecar])
        self._say(
            f"  {node.name} is connected to all four others: {queries} questions asked, {held} in its routing table"
        )

    async def _talk(self) -> None:
        sender, asked = self._nodes[_SENDER], self._nodes[_ASKED]
        text = "good morning, node 2"
        self._say(f"The app on {sender.name} sends a direct message, knowing nothing but a peer id: {text!r}")
        sender.app.order(do="send", peer=asked.peer_id, text=text)
        arrived = await self._event(asked, "direct", text=text, sender=sender.peer_id)
        receipt = await self._event(sender, "receipt")
        if receipt["outcome"] != "DELIVERED":
            raise DemoFailed(
                f"the receipt says {receipt['outcome']}: {receipt['detail']}", [sender.sidecar, asked.sidecar]
            )
        self._say(f"  the app on {asked.name} got it: {arrived['text']!r}")
        self._fact(f"direct message: receipt DELIVERED after {_ms(receipt['took'])}")
        sender.app.order(do="request", peer=asked.peer_id, text="how do you do?")
        await self._event(asked, "asked", sender=sender.peer_id)
        response = await self._event(sender, "response", text="HOW DO YOU DO?")
        self._fact(f"request answered by the app on {asked.name}: {response['text']!r} after {_ms(response['took'])}")

    async def _broadcast(self) -> None:
        publisher = self._nodes[3]
        others = self._all_but(3)
        path = _a_real_file()
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self._say(f"The app on {publisher.name} broadcasts {path.name} ({len(data)} bytes) in pieces on a topic.")
        publisher.app.order(do="broadcast", path=str(path), peers=len(others))
        done = await self._event(publisher, "broadcast")
        if list(done["outcomes"]) != ["SENT"]:
            raise DemoFailed(f"not every piece was sent: {done['outcomes']}", [publisher.sidecar])
        delays: list[float] = []
        for node in others:
            file = await self._event(node, "file")
            if file["sha256"] != digest or file["size"] != len(data):
                raise DemoFailed(
                    f"{node.name} got another file: {file['size']} bytes", [node.sidecar, publisher.sidecar]
                )
            own = sorted(file["delays"])
            delays += own
            self._say(
                f"  the app on {node.name} has all {file['pieces']} pieces, and the file is identical; "
                f"from app to app: median {_ms(_median(own))}, longest {_ms(own[-1])}"
            )
        delays.sort()
        self._fact(
            f"{path.name} in {done['pieces']} pieces reached four apps complete and identical (SHA-256 {digest[:12]}); "
            f"propagation from app to app: median {_ms(_median(delays))}, longest {_ms(delays[-1])}"
        )

    async def _kill(self) -> None:
        victim, publisher = self._nodes[_KILLED], self._nodes[1]
        await victim.remembers(self._all_but(_KILLED), _PATIENCE)
        await victim.kill()
        self._say(f"SIGKILL for the sidecar of {victim.name}: no goodbye to anybody.")
        await self._hear(publisher, self._all_but(1, _KILLED), "who is still here?")
        self._fact(f"with {victim.name} killed, a broadcast reached the apps on the three others")

    async def _return(self) -> None:
        lost, first = self._nodes[_KILLED], self._nodes[_BOOTSTRAP]
        identity = lost.peer_id
        code = await first.stop()
        if code != 0:
            raise DemoFailed(f"{first.name} ended with exit code {code} after SIGTERM", [first.sidecar])
        self._say(f"SIGTERM for {first.name}, the bootstrap peer: it says goodbye and ends with exit code 0.")
        await lost.start(None)
        self._say(f"{lost.name} starts again on its old state directory, with no bootstrap peer configured.")
        if lost.peer_id != identity:
            raise DemoFailed(f"{lost.name} came back as {lost.peer_id}, it was {identity}", [lost.sidecar])
        remaining = self._all_but(_BOOTSTRAP, _KILLED)
        begun = time.monotonic()
        await lost.meets(remaining, _PATIENCE)
        took = time.monotonic() - begun
        self._fact(
            f"{lost.name} came back as the same peer and found the others, without the bootstrap peer, in {took:.1f} s"
        )
        await self._event(lost, "lagged", reason="RESTARTED")  # its app has its subscription again
        await self._hear(self._nodes[2], [*self._all_but(_BOOTSTRAP, 2, _KILLED), lost], "welcome back")
        self._fact(f"the app on {lost.name}, never restarted, reconnected by itself and hears broadcasts again")

    # ------------------------------------------------------------

    async def _hear(self, publisher: DemoNode, listeners: Sequence[DemoNode], text: str) -> None:
        """One app publishes a text, and the others must hear it."""
        publisher.app.order(do="publish", text=text, peers=len(listeners))
        await self._event(publisher, "published")
        for node in listeners:
            heard = await self._event(node, "heard", text=text, sender=publisher.peer_id)
            self._say(f"  the app on {node.name} hears {text!r} from {publisher.name} after {_ms(heard['delay'])}")

    async def _event(self, node: DemoNode, kind: str, **fields: Any) -> dict[str, Any]:
        async with node.within(_PATIENCE, f"its app did not tell {kind!r}", node.app, node.sidecar):
            return await node.app.event(kind, _PATIENCE, **fields)

    def _all_but(self, *numbers: int) -> list[DemoNode]:
        return [node for number, node in self._nodes.items() if number not in numbers]

    def _introduce(self, node: DemoNode, what: str) -> None:
        self._say(f"  {node.name} is {node.peer_id} and {what}")

    def _fact(self, text: str) -> None:
        self._facts.append(text)
        self._say(f"  {text}")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:5.1f} s  {text}", flush=True)


def _a_real_file() -> Path:
    """The repository's README; where the package is installed alone, a source file of about its size."""
    package = Path(sidecar.__file__).parent
    readme = package.parent / "README.md"
    return readme if readme.is_file() else package / "core" / "events.py"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
