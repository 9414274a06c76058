"""Finds out who behind which NAT reaches whom, and how: `make reach` (TRIES=100 for the holes; REACH=... for options).

    python -m bench.reach.run [--tries 100] [--ways direct,punched] [--print]

Takes Linux, root, `ip`, `nft` and `nsenter`. Without --tries it plays the table, some ten minutes; with it, holes are
punched between two home routers that often, some three seconds each. Either writes its part of docs/reach.md. Exit code
1 where a pair that must connect does not, where one connects that cannot, or where too few holes are punched.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from sidecar_client import SidecarError

from bench import page as pages
from bench.namespaces import LabUnavailable
from bench.reach import page
from bench.reach.behaviour import observe
from bench.reach.kinds import KINDS, SHARED, STOCK, Behaviour, Kind, Way
from bench.reach.nodes import LabFailed
from bench.reach.places import Internet, internet
from bench.reach.play import kinds_needed, play
from bench.reach.punches import HOME, Tries, punches

_PAGE = "reach.md"

Result = TypeVar("Result")


def main() -> int:
    chosen = options()
    try:
        return punch(chosen) if chosen.tries else table(chosen)
    except LabUnavailable as error:
        print(f"there can be no network of namespaces here: {error}", file=sys.stderr)
    except (LabFailed, TimeoutError, SidecarError) as error:
        print(f"the sidecars did not do as they should: {error or type(error).__name__}", file=sys.stderr)
    except asyncio.CancelledError:
        print("ended before it was over; nothing is left of it", file=sys.stderr)
        return 130
    return 1


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=0, help="punch so many holes between two home routers")
    parser.add_argument("--ways", type=_ways, default=tuple(Way), help="of the table: direct,mapped,punched,relayed")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print it, and write no page")
    found = parser.parse_args()
    if not 0 <= found.tries <= page.MAX_NODES**2:
        parser.error(f"--tries: at most {page.MAX_NODES**2}, each of other sidecars")
    if set(found.ways) != set(Way) and not found.only_print:
        parser.error("a part of the table is only for --print")
    return found


def _ways(text: str) -> tuple[Way, ...]:
    return tuple(map(Way, text.split(",")))


# ---------------------------------------------------------------- the table


def table(options: argparse.Namespace) -> int:
    """Look at all places, play all pairs, and write it down; returns the exit code."""
    with internet([*kinds_needed(), STOCK]) as lab, tempfile.TemporaryDirectory() as directory:
        seen = look(lab, (*KINDS, *SHARED, STOCK))
        wrong = [kind for kind, behaviour in seen.items() if behaviour != kind.behaviour]
        for kind in wrong:
            _say(f"{kind.title}: is {seen[kind]}, and not {kind.behaviour}")
        if wrong:
            raise LabUnavailable("NATs of this kernel are not as they should be")
        _say(f"{len(seen)} kinds of places behave as they should")
        outcomes = [
            outcome for way in options.ways for outcome in _run(partial(play, lab, way, Path(directory, way), _say))
        ]
    _publish(page.table_part(seen, outcomes, _facts()), page.TABLE, only_print=options.only_print)
    failed = [outcome for outcome in outcomes if not outcome.holds]
    for outcome in failed:
        _say(f"{outcome.pair.title}, {outcome.way}: not as it must be; {outcome.said or 'it has connected'}")
    return 1 if failed else 0


def look(lab: Internet, kinds: Sequence[Kind]) -> dict[Kind, Behaviour]:
    """How the first place of each kind behaves."""
    return {kind: observe(lab, lab.place(kind)) for kind in kinds}


# ---------------------------------------------------------------- holes


def punch(options: argparse.Namespace) -> int:
    """Punch holes, and write down how many; returns the exit code."""
    with internet([HOME, HOME]) as lab, tempfile.TemporaryDirectory() as directory:
        if look(lab, [HOME]) != {HOME: HOME.behaviour}:
            raise LabUnavailable("the NATs of this kernel are not as they should be")
        home = Path(directory, "nodes")
        tries: Tries = _run(lambda: punches(lab, options.tries, home, _say))
    _publish(page.tries_part(tries, _facts()), page.TRIES, only_print=options.only_print)
    return 0 if tries.holds else 1


# ---------------------------------------------------------------- both


def _run(play: Callable[[], Awaitable[Result]]) -> Result:
    """Play it; Ctrl-C and SIGTERM end it in order."""

    async def guarded() -> Result:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await play()

    return asyncio.run(guarded())


def _facts() -> str:
    load = f"{os.getloadavg()[0]:.1f}"
    return f"{pages.facts('bench.reach.run')}\n- load of the machine at the end: {load}"


def _publish(part: str, marks: tuple[str, str], *, only_print: bool) -> None:
    if only_print:
        print(part)
        return
    file = pages.DOCS / _PAGE
    file.write_text(pages.replaced(file.read_text(encoding="utf-8"), *marks, part), encoding="utf-8")
    _say(f"written: {file}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
