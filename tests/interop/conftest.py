"""Builds the peer programs before the interop tests; skips what cannot run here."""

import os

import pytest

from tests.interop.build import NAMES, ToolMissing, build


@pytest.fixture(scope="session")
def peer_programs(request: pytest.FixtureRequest) -> None:
    """All peer programs are built.

    Without their languages' tools the tests are skipped; on a CI machine (CI=true) that is a failure.
    """
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():  # a minute of silence would look like a hang
            print(f"\n{text}", flush=True)

    for name in NAMES:
        try:
            build(name, say)
        except ToolMissing as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{missing}, and CI must run the interop tests", pytrace=False)
            pytest.skip(str(missing))
