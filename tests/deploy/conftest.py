"""What `make deploy-test` runs and `make test` does not: tests marked `deploy`, which need tools and build images."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.missing import not_there

from .engine import Engine
from .tools import ToolMissing

ALL = os.environ.get("DEPLOY_TEST") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if ALL:
        return
    heavy = [item for item in items if item.get_closest_marker("deploy")]
    if heavy:
        config.hook.pytest_deselected(items=heavy)
        left_out = set(map(id, heavy))
        items[:] = [item for item in items if id(item) not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _plainly():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _plainly():
        return (yield)


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Without its tool a test is skipped, and says which; on a CI machine that is a failure."""
    try:
        yield
    except ToolMissing as missing:
        not_there(missing)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """podman or docker, whichever works here; what it was made to start is gone at the end."""
    engine = Engine.find(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The sidecar's image, built from this tree by `make image`."""
    return engine.build_image()


@pytest.fixture(scope="session")
def app_image(engine: Engine, image: str) -> str:
    """The image of the example's app."""
    return engine.build_app_image(image)
