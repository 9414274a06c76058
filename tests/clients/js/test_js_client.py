"""The JavaScript client: its own tests, which need no sidecar, and its checks."""

from functools import partial

from tests.clients.js import npm_tools

run = partial(npm_tools.run, seconds=120.0)  # only a hang reaches it


def test_units() -> None:
    run("npm", "test", "--silent")


def test_lint() -> None:
    run("npm", "run", "lint", "--silent")


def test_every_exported_thing_is_documented() -> None:
    # Without links to sources, which it makes of git's remote: a checkout need not have one.
    run("node_modules/.bin/typedoc", "--emit", "none", "--disableSources")
