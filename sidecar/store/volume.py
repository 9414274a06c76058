"""Whether what is written to a place is still there after a restart of the machine, or of the container."""

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_VOLATILE = {
    "tmpfs": "it is in memory, and goes with the machine's or the container's end",
    "ramfs": "it is in memory, and goes with the machine's or the container's end",
    "overlay": "it is a container's own layer, and goes with the container",
    "aufs": "it is a container's own layer, and goes with the container",
}
_ESCAPED = re.compile(r"\\([0-7]{3})")


def volatile(path: Path, mounts: Path = _MOUNTS) -> str:
    """What is wrong with the volume of a path, a sentence; empty where nothing is, or where nobody can tell.

    `mounts`: the kernel's table of this process's mounts (proc(5)).
    """
    kind = _kind(path, mounts)
    return f"{path} is on {kind}: {_VOLATILE[kind]}" if kind in _VOLATILE else ""


def _kind(path: Path, mounts: Path) -> str:
    try:
        place = os.path.realpath(path)
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    best, found = -1, ""
    for line in table.splitlines():
        before, _, behind = line.partition(" - ")
        fields, kind = before.split(" "), behind.split(" ")[0]
        if len(fields) < 5:
            continue
        point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4])
        inside = point == "/" or place == point or place.startswith(point + "/")
        if inside and len(point) >= best:  # of two at one place, the later one hides the other
            best, found = len(point), kind
    return found
