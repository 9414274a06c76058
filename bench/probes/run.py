"""Checks the probe against the truth and against the simulator: `make probe-check` (PROBE_CHECK=... for options).

    python -m bench.probes.run [--rounds 10] [--messages 100] [--interval 0.5] [--seeds 1,2,3] [--print]

Starts 20 sidecars in network namespaces with delays between them, which takes Linux and root, and ends all of it when
it ends, however that comes. It takes about 20 minutes; exit code 1 where a figure is further off than it may be.
"""

import argparse
import asyncio
import signal
import sys

from sidecar_client import SidecarError

from bench import page as pages
from bench.namespaces import LabUnavailable
from bench.probes import page
from bench.probes.live import Live, measure
from bench.probes.plan import Plan
from bench.probes.simulated import simulate
from sidecar.core.parameters.probe import MIN_INTERVAL
from sidecar.simulate.pictures import lacking

_PAGE = "propagation.md"
_LEAST = 300  # bytes: a probe's message has some 200 in any case, and apps' are to be as large


def main() -> int:
    default = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=default.rounds, help="each with another publisher")
    parser.add_argument(
        "--messages", type=int, default=default.messages, help="in each round, of apps and of probes each"
    )
    parser.add_argument("--interval", type=float, default=default.interval, help="seconds between two of them")
    parser.add_argument("--size", type=int, default=default.size, help="bytes of each")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--print", action="store_true", dest="only_print", help="print it, and write no page")
    options = parser.parse_args()
    if options.rounds < 1 or options.messages < 1 or options.interval < MIN_INTERVAL or options.size < _LEAST:
        parser.error(f"at least one round, one message, {MIN_INTERVAL:g} seconds and {_LEAST} bytes")
    plan = default._replace(
        rounds=options.rounds, messages=options.messages, interval=options.interval, size=options.size
    )
    without = lacking()
    if without is not None:
        print(f"no pictures: {without}", file=sys.stderr)
        return 1
    try:
        live = asyncio.run(_live(plan))
    except LabUnavailable as error:
        print(f"there can be no network of namespaces here: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, TimeoutError, SidecarError) as error:
        print(f"the sidecars did not do as they should: {error or type(error).__name__}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        print("ended before it was over; nothing is left of it", file=sys.stderr)
        return 130
    simulated = []
    for seed in options.seeds:
        _say(f"the same simulated, seed {seed}")
        simulated.append(simulate(plan, live.edges, seed))
    part = page.section(plan, live, simulated, pages.facts("bench.probes.run"))
    if options.only_print:
        print(part)
    else:
        _write(part, page.pictures(live, simulated))
    compared = page.compare(live, simulated)
    for each in compared:
        _say(f"{each.what}: p50 {each.of[0]:+.1%}, p99 {each.of[1]:+.1%}; wanted within {each.bound:.0%}")
    return 0 if all(each.holds for each in compared) else 1


async def _live(plan: Plan) -> Live:
    """Measure; Ctrl-C and SIGTERM end it in order."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await measure(plan, _say)


def _write(part: str, pictures: dict[str, str]) -> None:
    for name, picture in pictures.items():
        (pages.DOCS / "images" / name).write_text(picture, encoding="utf-8")
    file = pages.DOCS / _PAGE
    file.write_text(page.replaced(file.read_text(encoding="utf-8"), part), encoding="utf-8")
    _say(f"written: {file} and {len(pictures)} pictures")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
