"""Each way to install the JavaScript client that its README names, in an empty folder, from nothing but its sources."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.js import npm_tools
from tests.clients.js.npm_tools import CLIENT
from tests.e2e.processes import PATIENCE, Process, environment, running

pytestmark = pytest.mark.slow  # npm installs, and tsc compiles, for each way

_NPM_SECONDS = 300.0  # only a hang reaches it
_OFFLINE = ("--prefer-offline", "--no-audit", "--no-fund", "--silent")

HELLO = """\
import { connect } from "@p2p-sidecar/client";

const node = await connect();
const news = await node.subscribe("hello").open();
await node.publish("hello", "hello");
for await (const message of news) {
  console.log(message.sender, message.data.toString());
  break;
}
await node.close();
"""

TYPED = """\
import { connect, type Client, type Message, Lagged, SidecarError } from "@p2p-sidecar/client";

const node: Client = await connect({ wait: 10 });
const messages: AsyncIterable<Message> = node.subscribe(["news"]);
for await (const event of node.receive("/x/1").events()) {
  const told: string = event instanceof Lagged ? event.reason : event.peerId;
  console.log(told, messages);
}
// @ts-expect-error -- a topic is a text
void node.publish(1, "x").catch((error: unknown) => error instanceof SidecarError && error.reason);
"""

TSCONFIG = """{"compilerOptions": {"target": "ES2022", "lib": ["ES2023", "ESNext.Disposable"], "module": "NodeNext",
"strict": true, "noEmit": true, "types": ["node"]}, "files": ["typed.ts"]}"""


def npm(folder: Path, *words: str) -> None:
    npm_tools.run("npm", *words, folder=folder, seconds=_NPM_SECONDS)


def empty(place: Path) -> Path:
    """A folder with nothing but a package.json and a program."""
    place.mkdir()
    (place / "package.json").write_text('{"type": "module"}')
    (place / "hello.js").write_text(HELLO)
    return place


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's folder as a clone has it: nothing is installed or built there."""
    place = tmp_path_factory.mktemp("clone") / "js"
    ignored = (line.strip().strip("/") for line in (CLIENT / ".gitignore").read_text().splitlines())
    shutil.copytree(CLIENT, place, ignore=shutil.ignore_patterns("node_modules", "dist", *ignored))
    return place


@pytest.fixture(scope="module")
def linked(sources: Path) -> Path:
    """An app that has the folder installed: the first that builds it."""
    app = empty(sources.parent / "linked")
    npm(app, "install", *_OFFLINE, str(sources))
    return app


@pytest.fixture(scope="module")
def tarball(sources: Path, linked: Path) -> Path:
    """What `npm pack` makes of the folder."""
    npm(sources, "pack", "--silent", "--pack-destination", str(sources.parent))
    (tarball,) = sources.parent.glob("*.tgz")
    return tarball


@pytest.fixture(scope="module")
def packed(tarball: Path) -> Path:
    """An app that has the tarball installed, by one who runs no scripts of packages."""
    app = empty(tarball.parent / "packed")
    npm(app, "install", *_OFFLINE, "--ignore-scripts", str(tarball))
    return app


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("s")) as sidecar:
        sidecar.line("Ready after")
        yield sidecar


def hello(app: Path, sidecar: Process) -> None:
    """The program in an app's folder works beside a real sidecar."""
    environ = environment(sidecar.home) | {"SIDECAR_API": str(sidecar.socket)}
    done = subprocess.run(["node", "hello.js"], cwd=app, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{sidecar.json('id')['peer_id']} hello\n"


def test_the_folder(linked: Path, sidecar: Process) -> None:
    hello(linked, sidecar)


def test_the_tarball(packed: Path, sidecar: Process) -> None:
    assert not (packed / "node_modules/@p2p-sidecar/client").is_symlink()
    hello(packed, sidecar)


def test_the_tarball_has_all_that_is_needed_and_no_more(packed: Path) -> None:
    client = packed / "node_modules/@p2p-sidecar/client"
    assert {path.name for path in client.iterdir()} == {"LICENSE", "README.md", "dist", "package.json"}
    code = {path.relative_to(client / "dist").with_suffix("") for path in (client / "dist").rglob("*.js")}
    wanted = {path.relative_to(CLIENT / "src").with_suffix("") for path in (CLIENT / "src").rglob("*.ts")}
    assert code == wanted
    types = {
        path.relative_to(client / "dist").with_suffix("").with_suffix("") for path in client.rglob("dist/**/*.d.ts")
    }
    assert types == wanted


@pytest.mark.parametrize("way", ["linked", "packed"])
def test_types(way: str, request: pytest.FixtureRequest) -> None:
    app: Path = request.getfixturevalue(way)
    (app / "typed.ts").write_text(TYPED)
    (app / "tsconfig.json").write_text(TSCONFIG)
    types = app / "node_modules/@types"
    if not types.exists():  # an app in TypeScript has them by itself
        types.symlink_to(CLIENT / "node_modules/@types")
    npm_tools.run(str(CLIENT / "node_modules/.bin/tsc"), folder=app, seconds=_NPM_SECONDS)


def test_the_folder_where_no_scripts_are_run(sources: Path, linked: Path, sidecar: Process) -> None:
    shutil.rmtree(sources / "dist")
    app = empty(sources.parent / "without")
    npm(app, "install", *_OFFLINE, "--ignore-scripts", str(sources))
    assert not (sources / "dist").exists()
    npm(sources, "run", "prepare", "--silent", "--ignore-scripts")
    hello(app, sidecar)


def test_what_is_built_is_not_built_again_until_its_sources_change(sources: Path, linked: Path) -> None:
    built = sources / "dist/index.js"
    before = built.stat().st_ino
    npm(sources, "run", "prepare", "--silent")
    assert built.stat().st_ino == before
    (sources / "src/index.ts").touch()
    npm(sources, "run", "prepare", "--silent")
    assert built.stat().st_ino != before
    assert [path for path in (sources / "build").iterdir() if path.name.startswith("dist")] == []
