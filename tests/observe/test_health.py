"""/live and /ready, over the fake node."""

import asyncio
import json
from http import HTTPStatus

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.observe.health import ReadyPage, live
from sidecar.observe.http import HttpRequest
from tests.api.fakes import FakeNode

ASKED = HttpRequest("/", "")


def test_that_it_answers_is_liveness() -> None:
    assert live(ASKED)[0] is HTTPStatus.OK
    assert json.loads(live(ASKED).body) == {"live": True}


def test_readiness_has_the_reasons_and_remedies_of_the_api() -> None:
    node = FakeNode()
    backend = Backend(node, node.feed, ApiConfig(), agent="x")
    ready = ReadyPage(backend)
    status, kind, body = ready.page(ASKED)
    assert (status, kind, json.loads(body)["ready"]) == (HTTPStatus.OK, "application/json", True)
    node.met = False
    status, _, body = ready.page(ASKED)
    (condition,) = json.loads(body)["conditions"]
    assert status is HTTPStatus.SERVICE_UNAVAILABLE
    assert condition.pop("since").endswith("Z")
    assert condition == {
        "type": "Listening",
        "met": False,
        "reason": "NoAddress",
        "message": "a sentence",
        "remedy": "Set one.",
    }
    node.met = True
    asyncio.run(backend.drain(0.0))
    status, _, body = ready.page(ASKED)
    assert (status, json.loads(body)["conditions"][-1]["reason"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "Stopping")
