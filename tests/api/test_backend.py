"""What stands behind the API: each of the node's news has its place."""

import importlib
import logging
from typing import get_args

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.api.server import schema, server  # noqa: F401 - the latter brings all modules along
from sidecar.core.events import OperationCompleted
from sidecar.core.node import AppNews
from tests.api.fakes import FakeNode


def test_all_news_of_the_node_are_taken_each_by_one_service() -> None:
    node = FakeNode()
    backend = Backend(node, node.feed, ApiConfig(), agent="sidecar/test")
    taken = [OperationCompleted, *(news for service in backend.services for news in service.effects())]
    assert len(set(taken)) == len(taken)
    assert set(taken) == set(get_args(AppNews))


def test_every_service_of_the_schemas_is_there() -> None:
    node = FakeNode()
    backend = Backend(node, node.feed, ApiConfig(), agent="sidecar/test")
    assert {f"sidecar.v1.{type(service).__name__}" for service in backend.services} == set(schema.services())


def test_the_parts_of_the_log_keep_the_names_that_levels_are_set_by() -> None:
    """Files move; what stands in configurations stays."""
    for engine in ("grpc_server", "http2.server"):  # whichever other tests have used
        importlib.import_module(f"sidecar.api.server.{engine}")
    parts = ("bulk", "callers", "certificates", "durable", "errors", "gatekeeper", "guard.gate", "http2", "server")
    assert {f"sidecar.api.{part}" for part in parts} == {
        name
        for name, logger in logging.root.manager.loggerDict.items()
        if name.startswith("sidecar.api.") and isinstance(logger, logging.Logger)
    }
