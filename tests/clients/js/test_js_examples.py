"""The JavaScript examples beside real sidecars. (The chat and the service: `test_js_package.py`.)"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.examples import Start, keep_exactly_once, outlive_the_sidecar, starting
from tests.clients.js.npm_tools import CLIENT, run

EXAMPLES = CLIENT / "examples"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts examples, and kills those that still run."""
    with starting(lambda name: ("node", EXAMPLES / name)) as start:
        yield start


def test_gossip_is_kept_exactly_once_whoever_is_killed(tmp_path: Path, start: Start) -> None:
    run("npm", "ci", "--prefer-offline", "--ignore-scripts", "--silent", folder=EXAMPLES / "ingest")
    keep_exactly_once(tmp_path, lambda sidecar, path: start(sidecar.home, "ingest/ingest.js", str(path), "news"))


def test_an_app_that_starts_before_its_sidecar_and_outlives_it(tmp_path: Path, start: Start) -> None:
    outlive_the_sidecar(tmp_path, lambda home: start(home, "app.js", PORT="0"))
