"""The Go client's examples, as a user runs them, against real sidecars; the chat is played by `make example`."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.examples import Kept, Start, keep_exactly_once, outlive_the_sidecar, starting
from tests.e2e.processes import PATIENCE, running_pair
from tests.missing import not_there

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "clients/go/examples"
BUILT = ROOT / ".cache/go-examples"


def build(folder: Path, *packages: str) -> None:
    """Go's own cache knows what has changed."""
    if shutil.which("go") is None:
        not_there("the Go client's examples need `go`, which is not installed")
    BUILT.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["go", "build", "-mod=readonly", "-o", f"{BUILT}/", *packages],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session", autouse=True)
def _built() -> None:
    build(EXAMPLES.parent, "./examples/service", "./examples/app")


@pytest.fixture(scope="session")
def _ingest() -> None:
    """Its SQLite is one file of 4 MB, which Go takes half a minute to compile: what asks for it is slow."""
    build(EXAMPLES / "ingest", ".")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts examples, and kills those that still run."""
    with starting(lambda name: (BUILT / name,)) as start:
        yield start


def says_how_it_is_used(name: str, place: Path, start: Start) -> None:
    example = start(place, name)
    out, err = example.popen.communicate(timeout=PATIENCE)
    assert (example.popen.returncode, out) == (2, "")
    assert err.startswith(f"usage: {name} ")


def test_the_service_says_how_it_is_used(tmp_path: Path, start: Start) -> None:
    says_how_it_is_used("service", tmp_path, start)


@pytest.mark.slow
@pytest.mark.usefixtures("_ingest")
def test_ingest_says_how_it_is_used(tmp_path: Path, start: Start) -> None:
    says_how_it_is_used("ingest", tmp_path, start)


def test_a_service(tmp_path: Path, start: Start) -> None:
    with running_pair(tmp_path) as (first, second):
        nobody = start(second.home, "service", "ask", "one two")
        assert nobody.popen.communicate(timeout=PATIENCE) == ("", "service: nobody serves it\n")
        serving = start(first.home, "service", "serve")
        peer_id = serving.line().removeprefix("serving as ")
        assert start(second.home, "service", "ask", "one two three").end() == '{"letters":11,"words":3}\n'
        assert start(second.home, "service", "ask", "one two", peer_id).end() == '{"letters":6,"words":2}\n'
        wrong = start(second.home, "service", "ask", "one", "nonsense")
        assert wrong.popen.communicate(timeout=PATIENCE)[1].startswith("service: ")
        assert wrong.popen.returncode == 1
        serving.popen.terminate()
        assert serving.end() == ""


@pytest.mark.slow
@pytest.mark.usefixtures("_ingest")
def test_gossip_is_kept_exactly_once_whoever_is_killed(tmp_path: Path, start: Start) -> None:
    keep_exactly_once(tmp_path, lambda sidecar, path: start(sidecar.home, "ingest", str(path), "news"))


@pytest.mark.slow
@pytest.mark.usefixtures("_ingest")
def test_gossip_behind_a_start_without_messages_is_kept(tmp_path: Path, start: Start) -> None:
    """It has its place before the first message; and a database may have any name."""
    path = tmp_path / "a ?name%.db"
    kept = Kept(path)
    with running_pair(tmp_path) as (first, second):
        example = start(second.home, "ingest", str(path), "news")
        assert example.line() == f"keeping news in {path}"
        example.popen.kill()
        example.popen.wait()
        first.json("publish", "news", "while it is away", "--peers", "1")
        example = start(second.home, "ingest", str(path), "news")
        kept.wait_for(1)
        assert kept.rows("SELECT data FROM messages") == [(b"while it is away",)]
        assert kept.rows("SELECT * FROM gaps") == []
        example.popen.terminate()
        assert example.end() == f"keeping news in {path}\n"


def test_an_app_that_starts_before_its_sidecar_and_outlives_it(tmp_path: Path, start: Start) -> None:
    outlive_the_sidecar(tmp_path, lambda home: start(home, "app", PORT="0"))


def test_an_app_that_can_never_work_ends(tmp_path: Path, start: Start) -> None:
    example = start(tmp_path, "app", PORT="0", SIDECAR_API="/" + "x" * 200)
    _, err = example.popen.communicate(timeout=PATIENCE)
    assert example.popen.returncode == 1
    assert err == f"app: the path of a Unix socket has at most 107 bytes, this one has 201: /{'x' * 200}\n"
