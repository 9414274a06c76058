"""The client's engines."""

import pytest


@pytest.fixture(params=["http2", "grpcio"])
def each_client_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """For `pytest.mark.usefixtures`: the clients of a test are of this engine."""
    monkeypatch.setenv("SIDECAR_CLIENT_ENGINE", request.param)
    return str(request.param)
