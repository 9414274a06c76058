"""Plays scenes of chaos with real sidecars and apps, and tells whether what was promised held.

    python -m bench.chaos [--scenes kill,clock] [--short] [--seed 1] [--write]

It ends with 1 where a promise did not hold. A scene that this machine cannot play is told, and left out. `--write` puts
the figures into docs/durability.md, in place of those that the same scenes have there.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench.chaos import table
from bench.chaos.scene import Found, Plan, Scene, Skipped
from bench.chaos.scenes import SCENES


async def _play(scene: Scene, plan: Plan) -> tuple[Found, float]:
    """Play one in a folder of its own; what it found, and in how many seconds."""
    place = Path(tempfile.mkdtemp(prefix=f"chaos-{scene.name}-"))
    begun = time.monotonic()
    try:
        found = await scene.play(place, plan)
    except (RuntimeError, TimeoutError, OSError) as error:
        found = Found("it could not be played to its end", [f"{type(error).__name__}: {error}"])
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return found, time.monotonic() - begun


async def run(names: list[str], plan: Plan, command: str) -> tuple[list[str], bool]:
    """Play scenes one after the other; their rows, and whether all that was promised held."""
    rows, held = [], True
    for name in names:
        print(f"{name}:", flush=True)
        try:
            found, seconds = await _play(SCENES[name], plan)
        except Skipped as error:
            print(f"  cannot be played here: {error}", flush=True)
            continue
        rows.append(table.row(SCENES[name], found, command, seconds))
        for fault in found.faults:
            print(f"  NOT HELD: {fault}", flush=True)
        print(rows[-1], flush=True)
        held = held and not found.faults
    return rows, held


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in SCENES:
            raise argparse.ArgumentTypeError(f"no scene is called {name!r}; there are {', '.join(SCENES)}")
    return names


def main() -> int:
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=_names, default=list(SCENES), help=f"of {', '.join(SCENES)}; all unless given")
    parser.add_argument("--short", action="store_true", help="as the tests play them: seconds in place of minutes")
    parser.add_argument("--rounds", type=int, default=plan.rounds, help="of `kill`")
    parser.add_argument("--messages", type=int, default=plan.messages, help="in each round of `kill`")
    parser.add_argument("--kills", type=int, default=plan.kills, help="in each round of `kill`")
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/durability.md")
    options = parser.parse_args()
    plan = Plan(options.seed, options.short, options.rounds, options.messages, options.kills)
    command = " ".join(["python -m bench.chaos", *(word for word in sys.argv[1:] if word != "--write")])
    rows, held = asyncio.run(run(options.scenes, plan, command))
    if options.write and rows:
        table.write(rows, list(SCENES))
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
