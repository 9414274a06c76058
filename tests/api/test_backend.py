"""What stands behind the API: each of the node's news has its place."""

from typing import get_args

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.api.server import schema
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
