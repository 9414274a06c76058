"""The demo as a user starts it: it shows what it promises, and leaves nothing behind however it ends."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.commands.common.scratch import scratch

from .processes import PATIENCE, environment


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The demo, its temporary directory under `tmp_path`, which all its processes' command lines name."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path) | {"TMPDIR": str(tmp_path)},
    )
    yield process
    process.kill()
    process.communicate()


def descendants(place: Path) -> dict[int, int]:
    """Processes whose command line names the place: pid -> a handle of it."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
                if str(place).encode() in words:
                    found[int(entry.name)] = os.pidfd_open(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def until(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the demo ended without {text!r}")


def test_all_of_it_happens_and_nothing_is_left(demo: "subprocess.Popen[str]", tmp_path: Path) -> None:
    out, err = demo.communicate(timeout=90)
    assert (demo.returncode, err) == (0, ""), out + err
    told = out.partition("All of it happened:")[2]
    promised = [
        "five nodes that knew one address found each other",
        "direct message: receipt DELIVERED",
        "request answered by the app on node 2: 'HOW DO YOU DO?'",
        "reached four apps complete and identical",
        "propagation from app to app: median",
        "with node 4 killed, a broadcast reached the apps on the three others",
        "node 4 came back as the same peer and found the others, without the bootstrap peer",
    ]
    assert [words for words in promised if words not in told] == []
    assert descendants(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_broken_off_it_leaves_no_process(
    demo: "subprocess.Popen[str]", tmp_path: Path, number: signal.Signals, code: int
) -> None:
    until(demo, "They find each other")
    left = descendants(tmp_path)
    try:
        assert len(left) >= 5
        demo.send_signal(number)
        assert demo.wait(PATIENCE) == code
        for handle in left.values():  # readable once the process has ended
            assert select.select([handle], [], [], PATIENCE)[0]
        if number is signal.SIGKILL:
            assert [left.name.startswith("sidecar-demo-") for left in tmp_path.iterdir()] == [True]
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(tempfile, "tempdir", str(tmp_path))
                with scratch("demo") as directory:
                    assert list(tmp_path.iterdir()) == [directory]
        assert list(tmp_path.iterdir()) == []
    finally:
        for handle in left.values():
            os.close(handle)
