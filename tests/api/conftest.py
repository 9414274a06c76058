"""The API's tests run with one engine; those that say so, with each."""

import pytest

from tests.api import fakes


@pytest.fixture(params=["grpcio", "http2"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """For `pytest.mark.usefixtures`: the servers of a test are of this engine."""
    monkeypatch.setattr(fakes, "ENGINE", request.param)
    return str(request.param)
