"""What the tests of the JavaScript client share."""

from pathlib import Path

import pytest

from tests.clients.js.npm_tools import CLIENT, run
from tests.conformance.build import ToolMissing, build
from tests.missing import not_there


@pytest.fixture(scope="session", autouse=True)
def client() -> Path:
    """The folder of the client: what npm installs is there, and it is compiled."""
    try:
        build("js")
    except ToolMissing as missing:
        not_there(missing)
    return CLIENT


@pytest.fixture(scope="session")
def app(client: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has nothing but the packed client and what it asks for."""
    folder = tmp_path_factory.mktemp("app")
    run("npm", "pack", "--silent", "--pack-destination", str(folder))
    (tarball,) = folder.glob("*.tgz")
    (folder / "package.json").write_text('{"type": "module"}')
    run("npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--silent", str(tarball), folder=folder)
    return folder
