"""One small mesh for all tests of what sidecars tell."""

from collections.abc import Iterator

import pytest

from .small_mesh import SmallMesh


@pytest.fixture(scope="package")
def small_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallMesh]:
    mesh = SmallMesh(tmp_path_factory.mktemp("m"))
    yield mesh
    mesh.close()
