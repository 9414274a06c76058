"""Builds the peer programs before the interop tests; skips what cannot run here."""

import os
import sys

import pytest

from tests.interop.build import NAMES, ToolMissing, build


@pytest.fixture(scope="session")
def peer_programs() -> None:
    """All peer programs are built.

    Without their languages' tools the tests are skipped; on a CI machine (CI=true) that is a failure.
    """
    for name in NAMES:
        try:
            build(name, say=lambda text: print(text, file=sys.__stderr__, flush=True))
        except ToolMissing as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{missing}, and CI must run the interop tests", pytrace=False)
            pytest.skip(str(missing))
