"""`sidecar demo`: five sidecars and five apps on this machine, each a process, and what they do told as it happens."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from .common.exit_codes import FAILED
from .common.scratch import scratch
from .demo_nodes import DemoFailed
from .demo_story import Story

_LIMIT = 55.0  # seconds; whatever hangs, the demo ends


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="put state and logs there and leave them, to look at afterwards"
    )
    parser.epilog = "exit code: 0 when all of it happened. Nothing is left running, Ctrl-C included."


def run(options: argparse.Namespace) -> int:
    if options.keep is None:
        with scratch("demo") as directory:
            return asyncio.run(_perform(directory))
    options.keep.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_perform(options.keep))


async def _perform(directory: Path) -> int:
    """Tell the story; a signal breaks it off. The processes are ended in every case."""
    loop = asyncio.get_running_loop()
    story = Story(directory)
    telling = asyncio.create_task(story.tell(), name="story")
    broken_off: list[int] = []

    def break_off(number: int) -> None:
        broken_off.append(number)
        telling.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, break_off, number)
    code = 0
    try:
        async with asyncio.timeout(_LIMIT):
            await telling
    except asyncio.CancelledError:
        if not broken_off:
            raise
        print("\nBroken off; ending what was started.", file=sys.stderr)
        code = 128 + broken_off[0]
    except DemoFailed as failure:
        print(f"\nFAILED: {failure}\n{failure.logs()}", file=sys.stderr)
        code = FAILED
    except TimeoutError:
        print(f"\nFAILED: not done within {_LIMIT:g} seconds\n{story.logs()}", file=sys.stderr)
        code = FAILED
    finally:
        await story.end()
    if not code:
        story.summary()
    return code
