"""Flame graphs of the benchmark: what is recorded, and where it goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import profile

_SPY = """#!{python}
import signal, sys
def written(*_):
    open(sys.argv[sys.argv.index("--output") + 1], "w").write(" ".join(sys.argv[1:]))
    sys.exit()
signal.signal(signal.SIGINT, written)
open({begun!r}, "a").write("x")
signal.pause()
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/exe"), reason="reads /proc, which Linux has")
def test_python_processes_are_recorded_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)  # opening it to read waits for the recorder
    spy = tmp_path / "py-spy"
    spy.write_text(_SPY.format(python=sys.executable, begun=str(begun)))
    spy.chmod(0o755)
    monkeypatch.setattr(profile, "_SPY", spy)
    recordings = profile.Recordings(tmp_path / "out", "a-row", "flamegraph", 100, native=True)
    with subprocess.Popen(["sleep", "100"]) as other:
        with recordings.recording({"sender": os.getpid(), "sender-app": other.pid}):
            begun.read_text()
        other.kill()
    assert list(recordings.cpu) == ["sender", "sender-app"]
    (path,) = recordings.written
    assert path == tmp_path / "out" / "a-row.sender.svg"
    words = path.read_text().split()
    assert words[:3] == ["record", "--pid", str(os.getpid())]
    assert words[-1] == "--native"


def test_files_are_named_after_rows() -> None:
    assert profile.file_name("signed gossip 100 B: messages, CPU each") == "signed-gossip-100-b"
    assert profile.file_name("connect, handshake, close") == "connect-handshake-close"


def test_shares_of_libraries_are_read_from_what_perf_says() -> None:
    said = """# Samples: 120
#
# Overhead  Shared Object
# ........  .............
#
    61.79%  libpython3.11.so.1.0           -      -
    17.91%  [kernel.kallsyms]              -      -
     0.30%  _rust.abi3.so
"""
    assert profile.library_shares(said) == [("libpython3", 61.79), ("kernel", 17.91), ("_rust", 0.3)]
    assert profile.library_shares("") == []
