"""The image's figures: `python -m tests.deploy.figures` builds it and prints them. Needs podman or docker."""

import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from .engine import Container, Engine
from .tools import ToolMissing

RUNS = 5
FLAGS = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")
METRICS = ("--env", "SIDECAR_METRICS_LISTEN=0.0.0.0:9464")
IDLE_SECONDS = 60.0


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        try:
            engine = Engine.find(Path(folder))
            image = engine.build_image()
        except ToolMissing as missing:
            print(missing, file=sys.stderr)
            return 1
        try:
            print("\n".join(measured(engine, image)))
        finally:
            engine.close()
    return 0


def measured(engine: Engine, image: str) -> list[str]:
    size = int(engine.inspect("image", image)["Size"])
    starts, readies = [], []
    for _ in range(RUNS):
        begun = time.monotonic()
        container = engine.start(image, *FLAGS, *METRICS)
        container.line("Ready after")
        starts.append(time.monotonic() - begun)
        readies.append(_age_of_process_1(container, time.clock_gettime(time.CLOCK_BOOTTIME)))
        if len(starts) < RUNS:
            container.stop()
    time.sleep(IDLE_SECONDS)
    memory = engine("exec", container.name, "python", "-c", "print(open('/proc/1/status').read())").stdout
    mib = {name: round(int(kib) / 1024) for name, kib in re.findall(r"(VmHWM|VmRSS|RssAnon):\s+(\d+) kB", memory)}
    idle = f"resident memory with metrics on, {IDLE_SECONDS:.0f} s idle"
    return [
        "| what | measured |",
        "|---|---|",
        f"| image, unpacked | {size / 1e6:.0f} MB |",
        f"| `{engine.name} run` to ready | {statistics.median(starts):.1f} s (median of {RUNS}) |",
        f"| of it, from the process's start to ready | {statistics.median(readies):.1f} s |",
        f"| {idle} | {mib['VmRSS']} MiB, {mib['RssAnon']} of it anonymous |",
    ]


def _age_of_process_1(container: Container, now: float) -> float:
    """How long it had run, by the clock of the kernel that it shares with us."""
    script = (
        "import os\n"
        "ticks = int(open('/proc/1/stat').read().rpartition(')')[2].split()[19])\n"
        "print(ticks / os.sysconf('SC_CLK_TCK'))"
    )
    return now - float(container.exec("python", "-c", script).stdout)


if __name__ == "__main__":
    sys.exit(main())
