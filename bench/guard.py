"""What the guard costs: the server's CPU for a unary call without it, and with tokens of each kind, in one run.

`python -m bench.guard` (or `make bench-guard`) takes a minute or two. Each row is a server process of its own around a
node that answers at once, so that nothing but gRPC and the API is measured. Rounds are short and their order is drawn,
for the speed of a shared machine drifts; medians are told, the ratios' of each round's own.
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
from sidecar_client.v1 import node_pb2, node_pb2_grpc, pubsub_pb2, pubsub_pb2_grpc

from sidecar.api.config import ApiConfig
from sidecar.api.guard import caller, quota
from sidecar.api.guard.tokens import TokenFile
from sidecar.api.server import server as api_server
from tests.api.fakes import server

TOKENS = 1000
SCOPES = [f"publish:elsewhere-{number}/*" for number in range(62)]
LIMITS = {
    "calls": "1000000/s",
    "messages": "1000000/s",
    "bytes": "1GiB/s",
    "streams": 100,
    "subscriptions": 100,
    "open_calls": 1000,
}
KINDS = {
    "no guard": "",
    "no guard, a token's header": "",
    "no token": "",
    "token": "plain",
    "token, 64 scopes": "scopes",
    "token, all quotas": "limited",
    f"token, one of {TOKENS}": "many",
}
_PARALLEL = 16


async def serve(path: Path, kind: str) -> None:
    """Until standard input ends. The first line out has the token."""
    file = TokenFile(path.with_suffix(".tokens"))
    text = ""
    match KINDS[kind]:
        case "plain":
            _, text = file.create("app", ["publish:news", "node:read"], None, 0.0)
        case "scopes":
            _, text = file.create("app", [*SCOPES, "publish:news", "node:read"], None, 0.0)
        case "limited":
            _, text = file.create("app", ["publish:news", "node:read"], None, 0.0, quota.read(LIMITS))
        case "many":
            token, text = file.create("app", ["publish:news", "node:read"], None, 0.0)
            others = (token._replace(id=f"{number:012x}", name=f"app{number}") for number in range(TOKENS - 1))
            file._write({token.id: token} | {other.id: other for other in others})
    if kind.startswith("no guard"):
        _take_down()
    async with server(path, tokens=file.path, require_token=bool(text), tokens_fresh=ApiConfig().tokens_fresh):
        print(text, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _take_down() -> None:
    """The server as it would be without the gate."""
    build: Any = grpc.aio.server
    grpc.aio.server = lambda *given, interceptors, **named: build(*given, **named)  # type: ignore[assignment]
    api_server.TokenGate.guarded = lambda gate, method, handler, **named: handler  # type: ignore[method-assign]
    caller.present = lambda: caller.EVERYONE


class Subject:
    """A server process, and calls of it."""

    def __init__(self, place: Path, number: int, kind: str) -> None:
        self.kind = kind
        path = place / f"{number}.sock"
        command = [sys.executable, "-m", "bench.guard", "--serve", str(path), "--kind", kind]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        token = self._process.stdout.readline().strip()
        self._metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {token}"),) if token else ()
        if kind == "no guard, a token's header":
            self._metadata = (("authorization", "Bearer " + "x" * 60),)
        self._target = f"unix:{path}"

    async def cpu(self, method: str, seconds: float) -> float:
        """Microseconds of the server's CPU for a call."""
        async with grpc.aio.insecure_channel(self._target) as channel:
            if method == "GetNode":
                call = node_pb2_grpc.NodeServiceStub(channel).GetNode
                request: Any = node_pb2.GetNodeRequest()
            else:
                call = pubsub_pb2_grpc.PubSubServiceStub(channel).Publish
                request = pubsub_pb2.PublishRequest(topic="news", data=bytes(100))
            await call(request, metadata=self._metadata)
            loop = asyncio.get_running_loop()
            count, ends, before = 0, loop.time() + seconds, self._used()

            async def ask() -> None:
                nonlocal count
                while True:
                    await call(request, metadata=self._metadata)
                    count += 1
                    if loop.time() >= ends:
                        return

            await asyncio.gather(*(ask() for _ in range(_PARALLEL)))
            return (self._used() - before) / count * 1e6

    def _used(self) -> float:
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def end(self) -> None:
        self._process.communicate("")


async def measure(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as place:
        subjects = [Subject(Path(place), number, kind) for number, kind in enumerate(KINDS)]
        try:
            for method in ("GetNode", "Publish"):
                found: dict[str, list[float]] = {kind: [] for kind in KINDS}
                for _ in range(rounds):
                    for subject in random.sample(subjects, len(subjects)):
                        found[subject.kind].append(await subject.cpu(method, seconds))
                print(f"\n| {method} | CPU a call | to no guard |\n|---|---|---|")
                for kind, costs in found.items():
                    ratio = statistics.median(cost / base for cost, base in zip(costs, found["no guard"], strict=True))
                    print(f"| {kind} | {statistics.median(costs):.0f} µs | {ratio:.3f} |")
        finally:
            for subject in subjects:
                subject.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.12, help="for each row and round")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.kind))
    else:
        asyncio.run(measure(options.rounds, options.seconds))
