"""Measures every row for every subject in interleaved rounds, and writes the table of medians.

`python -m bench.run` (or `make bench`) takes most of an hour and writes `docs/benchmarks.md`. The machine should be
idle. go-libp2p-daemon joins where its program is named (`--p2pd PATH`, `make bench P2PD=PATH`).
"""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import apps, goals, page
from bench.apps import AppSubject
from bench.clients.processes import Unavailable
from bench.ours import SidecarSubject
from bench.p2pd import DaemonSubject
from bench.peers import PeerSubject
from bench.peers import subjects as peer_subjects
from bench.rows import MANY, ROWS, Cell, Results, Row, Subject, markdown
from tests.interop.build import PEERS, BuildFailed, ToolMissing, build


async def measure(subjects: Sequence[Subject], rows: Sequence[Row], rounds: int, seconds: float) -> Results:
    """Measure each row for each subject, `rounds` times.

    A row's subjects follow each other directly, since the speed of a shared machine drifts within seconds.
    """
    results: dict[tuple[str, str], list[Cell | str | None]] = {}
    for number in range(rounds):
        for row in rows:
            if row.once and number:
                continue
            for subject in subjects:
                if not row.apps and "," in subject.name:
                    continue  # as with other apps
                outcome: Cell | str | None
                try:
                    outcome = await row.measure(subject, seconds)
                except Exception as error:  # noqa: BLE001  one subject's failure is a result, the others go on
                    outcome = f"{type(error).__name__}: {error}"
                results.setdefault((row.title, subject.name), []).append(outcome)
                if outcome is not None:
                    print(f"round {number + 1}  {row.title}  {subject.name}: {outcome}", file=sys.stderr, flush=True)
    return results


_OURS = SidecarSubject().name


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


def report(names: Sequence[str], results: Results, rows: Sequence[Row], rounds: int, seconds: float) -> str:
    """The page: the tables, how they were taken, on what."""
    others = [name for name in names if "," not in name]
    languages = [name for name in names if name == _OURS or "," in name]
    ratio = (_OURS, DaemonSubject.name) if _OURS in names and DaemonSubject.name in names else None
    parts = [
        f"""# Benchmarks

Made by `make bench`; do not edit by hand.

Two nodes on loopback, each in a process of its own. Medians of {rounds} interleaved rounds of about {seconds:g} s each,
lowest and highest rate in brackets. CPU is user and system time of all processes for each message delivered or
request answered. Times behind a rate are the 50th and 99th percentile. The sidecar's rows and those of
go-libp2p-daemon (p2pd 0.9.2) are from app to app, with the same app in Go on both sides, so they count two nodes and
their apps: over gRPC with the sidecar, over its control protocol with the daemon. The other implementations run in
process: the benchmark program is the node.

No gossip message was lost: a flood ends when the receiver has every message, with at most 1,024 messages or 4 MiB on
the way. The daemon drops messages without a word where more than 32 are on the way, so that is its bound in every row;
two rows have the same bound for all. Many in flight is {MANY}. Bytes on streams count once the far end has them all,
CPU is for each MB of them; the memory of idle streams is what all processes have grown by. The sidecar publishes by
`PublishFrom`, and sends many by `SendAsync`. The others have no direct messages with receipts and no requests: their
echoes on an open stream stand beside those. rust-libp2p sends no gossip of 64 KiB unless told to, and the daemon takes
64 streams of a protocol from a peer.

{markdown(others, results, rows, ratio)}"""
    ]
    if ratio:
        parts.append(
            f"## Goals\n\n{goals.markdown(results)}\n\n"
            "Where the time goes in those that are hard to reach: [obstacles](benchmarks-obstacles.md)."
        )
    if len(languages) > 1:
        table = markdown(languages, results, [row for row in rows if row.apps])
        parts.append(
            "## Apps in other languages\n\nThe same sidecars, with apps on both sides in the language that the column "
            f"names, else in Go.\n\n{table}"
        )
    pins = "\n".join(f"- {line}" for line in _pins())
    parts.append(f"{page.facts('bench.run')}, {page.output('rustc', '--version')}\n{pins}")
    return "\n\n".join(parts) + "\n"


def _prepared(language: str) -> bool:
    """Have apps of a language; without its tools the tables go without it."""
    try:
        apps.prepare(language)
    except (Unavailable, ToolMissing, BuildFailed) as missing:
        print(f"Apps in {language} are left out: {missing}", file=sys.stderr)
        return False
    return True


def _built(subject: PeerSubject) -> bool:
    """Have a peer program; without its language's tools the table goes without it."""
    try:
        build(subject.language, say=lambda text: print(text, file=sys.stderr))
    except ToolMissing as missing:
        print(f"{subject.name} is left out: {missing}", file=sys.stderr)
        return False
    return True


def app_subjects(p2pd: str) -> list[AppSubject]:
    """What is measured from app to app: sidecars, with apps in each language that is here, and the daemon, if named."""
    subjects: list[AppSubject] = [SidecarSubject(language) for language in apps.LANGUAGES]
    if p2pd:
        program = shutil.which(p2pd)
        if program is None:
            sys.exit(f"{p2pd}: no such program")
        subjects.insert(1, DaemonSubject(Path(program).resolve()))
    return subjects


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rows", default="", help="only rows whose title has this text")
    parser.add_argument("--subjects", default="", help="only subjects whose name has one of these texts: sidecar,p2pd")
    parser.add_argument(
        "--p2pd", default="", metavar="PATH", help="the program of go-libp2p-daemon, to be measured too"
    )
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    return parser.parse_args()


def main(only_peers: bool = False) -> None:
    """Measure as the command line says, and write or print the page."""
    arguments = _arguments()
    wanted = arguments.subjects.split(",")

    def chosen(name: str) -> bool:
        return any(text in name for text in wanted)

    beside: list[Subject] = [
        subject
        for subject in ([] if only_peers else app_subjects(arguments.p2pd))
        if chosen(subject.name) and _prepared(subject.language)
    ]
    others = [peer for peer in peer_subjects() if chosen(peer.name) and _built(peer)]
    # Those with apps in other languages come last.
    subjects = sorted([*beside, *others], key=lambda subject: "," in subject.name)
    rows = [row for row in ROWS if arguments.rows in row.title]
    results = asyncio.run(measure(subjects, rows, arguments.rounds, arguments.seconds))
    text = report([s.name for s in subjects], results, rows, arguments.rounds, arguments.seconds)
    page.publish(text, "benchmarks.md", only_print=arguments.print or only_peers)


if __name__ == "__main__":
    main()
