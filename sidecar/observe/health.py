"""`/live` and `/ready`: whether the process answers, and whether it is of use, in the words of `WatchReadiness`."""

import json
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from ..api.backend import Backend
from ..core.events import Condition
from .http import HttpRequest, HttpResponse

_JSON = "application/json"


def live(request: HttpRequest) -> HttpResponse:
    """That this is answered is the answer: the event loop turns. An orchestrator restarts what does not."""
    return HttpResponse(HTTPStatus.OK, _JSON, b'{"live": true}\n')


class ReadyPage:
    """200 when every condition is met, else 503; the body has all conditions, with reasons and remedies."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def page(self, request: HttpRequest) -> HttpResponse:
        """The answer to one request; nothing is cached."""
        backend = self._backend
        conditions: Sequence[Condition] = backend.readiness.conditions()
        if backend.lifetime.refusing():
            conditions = (*conditions, _stopping(backend.now()))
        ready = all(condition.met for condition in conditions)
        body = {"ready": ready, "conditions": [_shown(condition, backend.epoch_ns) for condition in conditions]}
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return HttpResponse(status, _JSON, json.dumps(body, indent=2, ensure_ascii=False).encode() + b"\n")


def _stopping(now: float) -> Condition:
    return Condition("Serving", False, "Stopping", "the sidecar is stopping", "Wait for the next one to start.", now)


def _shown(condition: Condition, epoch_ns: int) -> dict[str, Any]:
    seconds = epoch_ns / 1e9 + condition.since
    return {**condition._asdict(), "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))}
