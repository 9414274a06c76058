"""Plays the published attacks on gossipsub, and others, on virtual time: `make attack-sim` (ATTACKS=... for options).

    python -m bench.attack_sim.run [--only NAME,NAME] [--full] [--scores] [--keep] [--out FOLDER] [--print]

Each attack is played with scores and without; where a limit of connections came into play, both once more without
limits, so that all attackers get in. Exit code 1 where a message was lost, or one took more than six seconds, although
there were scores. It takes some 40 minutes of one core; `--full`, with the published number of nodes, a day.
"""

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench import page as pages
from bench.attack_sim import page
from bench.attack_sim.plan import DEFAULTS, OPEN, Outcome, Variant, attacks, full, outcome

_PAGE = "defence.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME,NAME", help="some attacks; nothing is written then")
    parser.add_argument("--full", action="store_true", help="25 times as many nodes, as in the published evaluation")
    parser.add_argument("--scores", action="store_true", help="with scores only")
    parser.add_argument("--keep", action="store_true", help="take what was played before, and play what is missing")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("sim/attacks"), help="where reports go")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print it, and write no page")
    options = parser.parse_args()
    try:
        files = attacks(options.only)
    except ValueError as error:
        parser.error(str(error))
    outcomes: list[Outcome] = []
    for file in files:
        found = [_played(file, variant, options) for variant in DEFAULTS if variant.scored or not options.scores]
        if any(each.bounded for each in found):
            found += [_played(file, variant, options) for variant in OPEN if variant.scored or not options.scores]
        outcomes += found
    part = page.section(outcomes, pages.facts("bench.attack_sim.run"), whole=options.full)
    if options.only_print or options.only is not None:
        print(part)
    else:
        file = pages.DOCS / _PAGE
        file.write_text(page.replaced(file.read_text(encoding="utf-8"), part), encoding="utf-8")
        _say(f"written: {file}")
    failed = [each for each in outcomes if each.variant.scored and not each.holds]
    for each in failed:
        _say(f"{each.attack}, {each.variant.name}: {each.missed} missed, the last after {each.last} s")
    return 1 if failed else 0


def _played(file: Path, variant: Variant, options: argparse.Namespace) -> Outcome:
    folder = options.out / ("full" if options.full else "small") / f"{file.stem}-{variant.name}"
    if not (options.keep and (folder / "report.jsonl").exists()):
        settings = [*(full(file) if options.full else ()), *variant.settings]
        command = [Path(sysconfig.get_path("scripts")) / "sidecar", "sim", "run", file, "--out", folder]
        subprocess.run(
            [*command, *(word for setting in settings for word in ("--set", setting))],
            stdout=subprocess.DEVNULL,
            check=True,
        )
    found = outcome(folder, file, variant)
    _say(page.line(found))
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
