"""Scenarios: read from `scenarios/*.yaml` and checked, so that a misspelt word is no silent pass."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .stage import SHARED
from .values import WrongScenario

FOLDER = Path(__file__).parent / "scenarios"
_TIMED = {"timeout_ms"}

CALLS: dict[str, set[str]] = {
    "info": _TIMED,
    "readiness": _TIMED,
    "ready": _TIMED,
    "statistics": _TIMED,
    "set_log_level": _TIMED | {"part", "level"},
    "configuration": _TIMED,
    "topics": _TIMED,
    "rules": _TIMED,
    "set_rules": _TIMED | {"rules"},
    "peers": {"connected_only", "protocol"},
    "peer": _TIMED | {"peer_id"},
    "find_peer": _TIMED | {"peer_id"},
    "closest_peers": _TIMED | {"key", "peer_id", "limit"},
    "connect_peer": _TIMED | {"peer_id", "addresses"},
    "disconnect_peer": _TIMED | {"peer_id"},
    "ping_peer": _TIMED | {"peer_id"},
    "ban_peer": _TIMED | {"peer_id", "network", "reason", "duration_ms"},
    "allow_peer": _TIMED | {"peer_id", "network"},
    "bans": set(),
    "protect_peer": _TIMED | {"peer_id"},
    "unprotect_peer": _TIMED | {"peer_id"},
    "set_peer_score": _TIMED | {"peer_id", "score", "duration_ms"},
    "send": _TIMED | {"peer_id", "protocol", "data", "run", "request_id", "durable"},
    "send_many": _TIMED | {"peer_id", "protocol", "messages", "run", "then_wait"},
    "request": _TIMED | {"peer_id", "protocol", "data", "run", "traceparent"},
    "publish": _TIMED | {"topic", "data", "run", "signing", "minimum_peers", "bundling", "request_id"},
    "publish_many": _TIMED
    | {"topic", "messages", "run", "then_wait", "signing", "minimum_peers", "bundling", "return_message_ids"},
    "put_record": _TIMED | {"key", "value", "quorum"},
    "get_record": _TIMED | {"key", "quorum"},
}
OPENINGS: dict[str, set[str]] = {
    "subscribe": {
        "topics",
        "cursor",
        "signing",
        "policy",
        "queue_messages",
        "queue_bytes",
        "skip_local",
        "expected_rate",
        "start_time_ms",
        "from_beginning",
        "via",
    },
    "receive": {"protocols", "queue_messages", "via"},
    "receive_durable": {"protocols", "max_open"},
    "watch_outbox": {"from_cursor", "peer_id", "protocol"},
    "watch_readiness": set(),
    "watch_events": set(),
    "watch_peers": set(),
    "advertise": {"name", "ttl_ms"},
    "find_peers": _TIMED | {"name", "limit"},
    "probe": _TIMED | {"topic", "message_count", "interval_ms", "answers", "size", "signing", "exposed"},
    "serve": {"protocols", "concurrency", "behaviour"},
    "validate": _TIMED | {"topics", "fallback", "max_waiting"},
    "accept_streams": {"protocols", "behaviour"},
    "open_stream": {"peer_id", "protocols"},
}
ON_STREAMS: dict[str, set[str]] = {
    "read": {"count", "until", "digest"},
    "answer": {"request", "data", "refuse", "fail"},
    "settle": {"delivery", "reject", "delay_ms"},
    "write": {"data", "run"},
    "read_bytes": {"size"},
    "close_write": set(),
    "reset": set(),
    "close_stream": set(),
}
CONNECT = {"target", "wait_ms", "reconnect", "token", "token_file", "tls_ca", "tls_cert", "tls_key"}
BY_RUNNER = {"kill", "memory"}  # what the runner does to an app's process
OF_SIDECARS = {"start", "stop", "kill", "revoke"}
OF_PROXIES = {"pass", "refuse", "hold", "mute", "cut", "counts"}

_SCENARIO = {
    "name",
    "group",
    "apps",
    "sidecars",
    "proxies",
    "mirrors",
    "listeners",
    "steps",
    "heavy",
    "alone",
    "pairs",
    "patience",
}
_STEP = {"expect", "error", "save", "begin", "eventually"}
_APP = {"at", "by", "connect", "process", "environment"}


@dataclass(frozen=True, slots=True)
class App:
    """An app of a scenario.

    Attributes:
        at: the sidecar or proxy.
        by: `client`, the one that is tested; `reference`; in a scenario of pairs `first` or `second`.
        connect: whether it is connected before the first step.
        process: whether it has a process of its own.
        environment: variables of that process.
    """

    at: str
    by: str = "client"
    connect: bool = True
    process: bool = False
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done, and what must come of it."""

    actor: str
    verb: str
    name: str | None
    fields: Mapping[str, Any]
    expect: Any = None
    error: Any = None
    save: str | None = None
    begin: str | None = None
    eventually: bool = False

    def __str__(self) -> str:
        return " ".join(filter(None, (self.actor, self.verb, self.name)))


@dataclass(frozen=True, slots=True)
class Finish:
    """An operation that was begun is waited for."""

    begun: str
    expect: Any = None
    error: Any = None
    save: str | None = None

    def __str__(self) -> str:
        return f"finish {self.begun}"


@dataclass(frozen=True, slots=True)
class Equal:
    """Values that must be the same."""

    values: list[Any]

    def __str__(self) -> str:
        return f"equal {self.values}"


@dataclass(frozen=True, slots=True)
class Loop:
    """Steps once for each value of a variable."""

    variable: str
    values: list[Any]
    steps: "list[AnyStep]"

    def __str__(self) -> str:
        return f"for {self.variable}"


AnyStep = Step | Finish | Equal | Loop


@dataclass(frozen=True, slots=True)
class Scenario:
    """What README.md describes."""

    name: str
    group: str
    apps: Mapping[str, App]
    sidecars: Mapping[str, Mapping[str, Any]]
    proxies: Mapping[str, str]
    mirrors: Mapping[str, Mapping[str, Any]]
    listeners: Mapping[str, str]
    steps: list[AnyStep]
    heavy: bool
    alone: bool
    pairs: bool
    patience: float


def load() -> list[Scenario]:
    """All scenarios, in the order of the files' names. Raises WrongScenario."""
    found = [scenario for path in sorted(FOLDER.glob("*.yaml")) for scenario in parsed(path.read_text(), path.name)]
    names = [scenario.name for scenario in found]
    for name in names:
        if names.count(name) > 1:
            raise WrongScenario(f"two scenarios are called {name!r}")
    return found


def parsed(text: str, source: str = "scenarios") -> list[Scenario]:
    """The scenarios of one file. Raises WrongScenario."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WrongScenario(f"{source}: {error}") from None
    return [_scenario(item, document["group"], source) for item in document["scenarios"]]


def _scenario(item: Mapping[str, Any], group: str, source: str) -> Scenario:
    where = f"{source}, {item.get('name')!r}"
    _known(item, _SCENARIO, where)
    sidecars = {name: wanted or {} for name, wanted in item.get("sidecars", {}).items()}
    for name, wanted in sidecars.items():
        _known(wanted, {"flags", "joins", "started", "ready", "tokens"}, f"{where}, {name}")
    proxies = item.get("proxies", {})
    mirrors = {name: wanted or {} for name, wanted in item.get("mirrors", {}).items()}
    for name, wanted in mirrors.items():
        _known(wanted, {"token"}, f"{where}, {name}")
    apps = {name: _app(app, f"{where}, {name}") for name, app in item["apps"].items()}
    for name, app in apps.items():
        if app.at not in {*SHARED, *sidecars, *proxies, *mirrors}:
            raise WrongScenario(f"{where}: {name} is at {app.at!r}, which there is not")
    reader = _Reader(where, set(apps), set(sidecars), set(proxies))
    return Scenario(
        name=item["name"],
        group=group,
        apps=apps,
        sidecars=sidecars,
        proxies=proxies,
        mirrors=mirrors,
        listeners=item.get("listeners", {}),
        steps=[reader.step(step) for step in item["steps"]],
        heavy=item.get("heavy", False),
        alone=item.get("alone", False),
        pairs=item.get("pairs", False),
        patience=item.get("patience", 120.0),
    )


def _app(given: Any, where: str) -> App:
    fields = {"at": given} if isinstance(given, str) else given
    _known(fields, _APP, where)
    return App(**fields)


def _known(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise WrongScenario(f"{where}: {name!r} is not one of {', '.join(sorted(known))}")


class _Reader:
    """Reads the steps of one scenario."""

    def __init__(self, where: str, apps: set[str], sidecars: set[str], proxies: set[str]) -> None:
        self._where = where
        self._apps = apps
        self._sidecars = sidecars
        self._proxies = proxies

    def step(self, given: Any) -> AnyStep:
        if isinstance(given, str):
            return self._sentence(given, {}, {})
        if "for" in given:
            _known(given, {"for", "do"}, self._where)
            ((variable, values),) = given["for"].items()
            return Loop(variable, values, [self.step(step) for step in given["do"]])
        if "equal" in given:
            _known(given, {"equal"}, self._where)
            return Equal(given["equal"])
        if "finish" in given:
            _known(given, {"finish", "expect", "error", "save"}, self._where)
            more = {name: value for name, value in given.items() if name != "finish"}
            return Finish(given["finish"], **more)
        sentences = [name for name in given if name not in _STEP]
        if len(sentences) != 1:
            raise WrongScenario(f"{self._where}: a step says one thing, not {sentences}")
        more = {name: value for name, value in given.items() if name in _STEP}
        return self._sentence(sentences[0], given[sentences[0]] or {}, more)

    def _sentence(self, sentence: str, fields: Mapping[str, Any], more: Mapping[str, Any]) -> Step:
        words = sentence.split()
        where = f"{self._where}: {sentence!r}"
        if not 2 <= len(words) <= 3:
            raise WrongScenario(f"{where} is not ACTOR VERB [NAME]")
        actor, verb, name = words[0], words[1], words[2] if len(words) == 3 else None
        if actor in self._apps:
            self._check_app(verb, name, fields, where)
        elif actor in self._sidecars:
            _known({verb: 0, **fields}, OF_SIDECARS, where)
            if (name is None) is (verb == "revoke"):
                raise WrongScenario(f"{where}: {verb} takes {'a' if name is None else 'no'} token's name")
        elif actor in self._proxies:
            _known({verb: 0, **fields}, OF_PROXIES, where)
        else:
            raise WrongScenario(f"{where}: nobody is called {actor!r}")
        return Step(actor, verb, name, fields, **more)

    def _check_app(self, verb: str, name: str | None, fields: Mapping[str, Any], where: str) -> None:
        named = verb in OPENINGS or verb in ON_STREAMS
        if named is (name is None) and verb != "cancel":
            raise WrongScenario(f"{where}: {verb} takes {'a' if named else 'no'} stream's name")
        if verb in BY_RUNNER or verb in ("close", "leaks"):
            known: set[str] = set()
        elif verb == "cancel":
            known = {"operation"}
        elif verb == "connect":
            known = CONNECT
        else:
            for table in (CALLS, OPENINGS, ON_STREAMS):
                if verb in table:
                    known = table[verb]
                    break
            else:
                raise WrongScenario(f"{where}: there is no {verb!r}")
        _known(fields, known, where)


def each_step(steps: list[AnyStep]) -> Iterator[AnyStep]:
    """All steps, those inside of loops too."""
    for step in steps:
        yield step
        if isinstance(step, Loop):
            yield from each_step(step.steps)
