"""Measures every row for every subject in interleaved rounds, and writes the table of medians.

`python -m bench.run` (or `make bench`) takes some minutes and writes `docs/benchmarks.md`. The machine should be idle.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from bench import page
from bench.ours import SidecarSubject
from bench.peers import PeerSubject
from bench.peers import subjects as peer_subjects
from bench.rows import MANY, ROWS, Cell, Row, Subject, markdown
from tests.interop.build import PEERS, ToolMissing, build

Results = dict[tuple[str, str], list[Cell | str | None]]


async def measure(subjects: Sequence[Subject], rows: Sequence[Row], rounds: int, seconds: float) -> Results:
    """Measure each row for each subject, `rounds` times.

    A row's subjects follow each other directly, since the speed of a shared machine drifts within seconds.
    """
    results: Results = {}
    for number in range(rounds):
        for row in rows:
            for subject in subjects:
                outcome: Cell | str | None
                try:
                    outcome = await row.measure(subject, seconds)
                except Exception as error:  # noqa: BLE001  one subject's failure is a result, the others go on
                    outcome = f"{type(error).__name__}: {error}"
                results.setdefault((row.title, subject.name), []).append(outcome)
                if outcome is not None:
                    print(f"round {number + 1}  {row.title}  {subject.name}: {outcome}", file=sys.stderr, flush=True)
    return results


def _pins() -> list[str]:
    """The measured versions, as the peer programs pin them."""
    go = [
        line.split()
        for line in (PEERS / "go" / "go.mod").read_text().splitlines()
        if line.startswith("\tgithub.com/libp2p/go-libp2p")
    ]
    js = [
        line.strip(' ",')
        for line in (PEERS / "js" / "package.json").read_text().splitlines()
        if "libp2p" in line and "name" not in line
    ]
    rust = [
        line.split(",")[0].replace("version = ", "").translate(str.maketrans("", "", '{"=}')).split()
        for line in (PEERS / "rust" / "Cargo.toml").read_text().splitlines()
        if line.startswith("libp2p")
    ]
    return [
        "go: " + ", ".join(f"{name.rpartition('/')[2]} {version}" for name, version, *comment in go if not comment),
        "js: " + ", ".join(line.replace('": "', " ") for line in js),
        "rust: " + ", ".join(" ".join(line) for line in rust),
    ]


def report(names: Sequence[str], results: Results, rounds: int, seconds: float) -> str:
    """The page: the table, how it was taken, on what."""
    pins = "\n".join(f"- {line}" for line in _pins())
    return f"""# Benchmarks

Made by `make bench`; do not edit by hand.

Two nodes on loopback, each in a process of its own. Medians of {rounds} interleaved rounds of about {seconds:g} s each,
lowest and highest rate in brackets. CPU is user and system time of all processes for each message delivered or
request answered. The others run in process (the benchmark program is the node); the sidecar's rows are from app to app
over gRPC, so they count two sidecars and their apps. No gossip message was lost: a flood ends when the receiver has
every message, with at most 1,024 messages or 4 MiB on the way. Many in flight is {MANY}; what stands for a request
with the others is an echo on one open stream. The sidecar's apps acknowledge by direct messages; it publishes
by `publish_many` and sends many by `send_many`. Bytes on streams count once the far end has them all, CPU is for
each MB of them; the memory of idle streams is what all processes have grown by. The others have no direct messages
with receipts, and rust-libp2p sends no gossip of 64 KiB unless told to. Times behind
a rate are the 50th and 99th percentile.

{markdown(names, results)}

{page.facts("bench.run")}, {page.output("rustc", "--version")}
{pins}
"""


def _build(subject: PeerSubject) -> bool:
    """Have a peer program; without its language's tools the table goes without it."""
    try:
        build(subject.language, say=lambda text: print(text, file=sys.stderr))
    except ToolMissing as missing:
        print(f"{subject.name} is left out: {missing}", file=sys.stderr)
        return False
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rows", default="", help="only rows whose title has this text")
    parser.add_argument("--subjects", default="", help="only subjects whose name has this text")
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    return parser.parse_args()


def main(only_peers: bool = False) -> None:
    """Measure as the command line says, and write or print the page."""
    arguments = _arguments()
    subjects: list[Subject] = [] if only_peers or arguments.subjects not in SidecarSubject.name else [SidecarSubject()]
    subjects += [peer for peer in peer_subjects() if arguments.subjects in peer.name and _build(peer)]
    rows = [row for row in ROWS if arguments.rows in row.title]
    results = asyncio.run(measure(subjects, rows, arguments.rounds, arguments.seconds))
    text = report([s.name for s in subjects], results, arguments.rounds, arguments.seconds)
    page.publish(text, "benchmarks.md", only_print=arguments.print or only_peers)


if __name__ == "__main__":
    main()
