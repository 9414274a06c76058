"""The JavaScript client's own tests, which need no sidecar; `make lint` has its checks."""

from functools import partial

from tests.clients.js import npm_tools

run = partial(npm_tools.run, seconds=120.0)  # only a hang reaches it


def test_units() -> None:
    run("npm", "test", "--silent")
