"""What several of these tests are given."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = Path(tempfile.mkdtemp())
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("needs the mount command")
    if mounted.returncode:
        place.rmdir()
        pytest.skip(f"mounting needs root's rights: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)
    place.rmdir()
