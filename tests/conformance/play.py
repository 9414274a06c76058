"""Plays one scenario with one cast of languages, and says what was not as it should be."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sidecar_client

from .agent import Agent, AgentFailed, Failed, Operation
from .build import REFERENCE
from .mirror import Mirror
from .proxy import Proxy
from .scenario import CALLS, ON_STREAMS, OPENINGS, AnyStep, App, Equal, Finish, Loop, Scenario, Step
from .stage import SHARED, Listener, Sidecar, Stage, free_port
from .values import WrongScenario, differences, encoded, expected, resolved

_BETWEEN_LOOKS = 0.01  # seconds, for what can only be looked at; nothing is true because of them


class NotAsExpected(Exception):
    """A step of a scenario went otherwise; the text says which, and how."""


class Play:
    """One scenario, once.

    Args:
        stage: what it is played on.
        scenario: what is played.
        cast: the language of `client`, or those of `first` and `second`.
    """

    def __init__(self, stage: Stage, scenario: Scenario, cast: Mapping[str, str]) -> None:
        self._stage = stage
        self._scenario = scenario
        self._cast = {**cast, "reference": REFERENCE}
        self._prefix = f"p{next(stage.numbers)}"
        self._apps: dict[str, Agent] = {}
        self._own: list[Agent] = []
        self._connected: dict[str, bool] = {}
        self._sidecars: dict[str, Sidecar] = {}
        self._proxies: dict[str, Proxy] = {}
        self._variables: dict[str, Any] = {"play": self._prefix}
        self._begun: dict[str, Operation] = {}
        self._begun_by: dict[str, Step] = {}
        self._stack = contextlib.AsyncExitStack()
        self._at = "the beginning"

    async def run(self) -> None:
        """Raises NotAsExpected with what everybody said last."""
        try:
            async with asyncio.timeout(self._scenario.patience), self._stack:
                await self._prepare()
                await self._perform(self._scenario.steps)
                self._at = "the end"
                await self._leave()
        except TimeoutError:
            await self._complain(f"not done within {self._scenario.patience:.0f} s")
        except (NotAsExpected, AgentFailed, Failed, WrongScenario, AssertionError) as error:
            await self._complain(str(error))

    async def _complain(self, text: str) -> None:
        logs = [agent.log() for agent in dict.fromkeys(self._apps.values())]
        logs += [f"--- sidecar {name}\n{sidecar.last_words}" for name, sidecar in self._sidecars.items()]
        for language in {self._cast[app.by] for app in self._scenario.apps.values()}:
            await self._stage.dismiss(language)  # nobody knows what it still does
        raise NotAsExpected("\n".join([f"at {self._at}: {text}", *logs])) from None

    # ------------------------------------------------------------ before and after

    async def _prepare(self) -> None:
        home = self._stage.folder / self._prefix
        home.mkdir()
        self._variables |= {"home": str(home), "port": free_port()}
        for name in SHARED:
            await self._place(name)
        for name, wanted in self._scenario.sidecars.items():
            sidecar = await self._stage.new_sidecar(home / name, resolved(wanted, self._variables))
            self._stack.push_async_callback(sidecar.end)
            self._sidecars[name] = sidecar
            if wanted.get("started", True):
                await sidecar.start()
            self._know(name)
        for name, target in self._scenario.proxies.items():
            proxy = Proxy(home / f"{name}.sock", (await self._place(target)).socket)
            await proxy.start()
            self._stack.push_async_callback(proxy.stop)
            self._proxies[name] = proxy
        for name, wanted in self._scenario.mirrors.items():
            mirror = Mirror(home, token=wanted.get("token"))
            await mirror.start()
            self._stack.push_async_callback(mirror.stop)
            self._variables[name] = {"target": mirror.target, **mirror.files}
        for name, kind in self._scenario.listeners.items():
            listener = Listener(kind)
            self._stack.push_async_callback(listener.stop)
            self._variables[name] = {"address": await listener.start()}
        for name, app in self._scenario.apps.items():
            await self._cast_app(name, app, home)

    def _know(self, name: str) -> None:
        sidecar = self._sidecars[name]
        self._variables[name] = {
            "peer_id": sidecar.peer_id,
            "address": sidecar.address,
            "target": sidecar.target,
            "socket": str(sidecar.socket),
            "tokens": sidecar.tokens,
        }

    async def _place(self, name: str) -> Sidecar:
        if name not in self._sidecars:
            self._sidecars[name] = await self._stage.sidecar(name)
            self._know(name)
        return self._sidecars[name]

    async def _cast_app(self, name: str, app: App, home: Path) -> None:
        language = self._cast[app.by]
        if app.at in self._proxies:
            target = f"unix:{self._proxies[app.at].socket}"
        elif app.at in self._variables:
            target = self._variables[app.at]["target"]
        else:
            target = (await self._place(app.at)).target
        self._variables[name] = {"target": target}
        if app.process or app.environment is not None:
            variables = resolved(app.environment or {}, self._variables)
            agent = self._apps[name] = await self._stage.new_agent(language, variables)
            self._own.append(agent)
            self._stack.push_async_callback(agent.kill)
        else:
            self._apps[name] = await self._stage.agent("reference" if app.by == "reference" else language, language)
        if app.connect:
            await self._operate(Step(name, "connect", None, {}))

    async def _leave(self) -> None:
        """Close what is open; nothing may be left of it in the apps."""
        for name, connected in self._connected.items():
            if connected:
                await self._apps[name].call("close", client=f"{self._prefix}:{name}")
        for name, sidecar in self._sidecars.items():
            if complaints := sidecar.complaints():
                raise NotAsExpected(f"sidecar {name} has logged {complaints}")
        if self._scenario.pairs:
            return  # several plays share the agents at the same time
        for name, agent in self._apps.items():
            if self._scenario.apps[name].by != "reference" and not agent.ended:
                left = (await agent.call("leaks"))["left"]
                if left:
                    raise NotAsExpected(f"{name} has left behind {left}")
        for agent in self._own:
            if not agent.ended and (status := await agent.stop()):
                raise NotAsExpected(f"the {agent.language} agent ended with status {status}")

    # ------------------------------------------------------------ steps

    async def _perform(self, steps: list[AnyStep]) -> None:
        for step in steps:
            self._at = str(step)
            if isinstance(step, Loop):
                for value in resolved(step.values, self._variables):
                    self._variables[step.variable] = value
                    await self._perform(step.steps)
            elif isinstance(step, Finish):
                await self._judge(self._begun.pop(step.begun), step)
                if step.error is None:
                    self._note_connected(self._begun_by[step.begun])
            elif isinstance(step, Equal):
                want, *found = expected(step.values, self._variables)
                for number, value in enumerate(found, 2):
                    if lines := differences(want, value, f"value {number}"):
                        raise NotAsExpected("; ".join(lines))
            elif step.actor in self._apps:
                await self._operate(step)
            elif step.actor in self._scenario.sidecars:
                await getattr(self._sidecars[step.actor], step.verb)(*([step.name] if step.name else []))
                self._know(step.actor)
            else:
                await self._relay(step)

    async def _operate(self, step: Step) -> None:
        if step.verb in ("kill", "memory"):
            await self._to_process(step)
            return
        while True:
            operation = self._begin(step)
            if step.begin is not None:
                self._begun[step.begin] = operation
                self._variables[step.begin] = operation.number
                self._begun_by[step.begin] = step
                return
            try:
                await self._judge(operation, step)
                self._note_connected(step)
            except (NotAsExpected, Failed) as error:
                if not step.eventually:
                    raise
                self._at = f"{step}, where it always was {error}"
                await asyncio.sleep(_BETWEEN_LOOKS)  # the scenario's patience ends it
                continue
            return

    def _note_connected(self, step: Step) -> None:
        if step.verb in ("connect", "close") and step.error is None:
            self._connected[step.actor] = step.verb == "connect"

    def _begin(self, step: Step) -> Operation:
        """Give the operation to the agent, with the names that this play has for its things."""
        fields = encoded(step.fields, self._variables)
        client = f"{self._prefix}:{step.actor}"
        stream = f"{self._prefix}:{resolved(step.name, self._variables)}"
        if step.verb == "connect":
            fields = {"target": self._variables[step.actor]["target"], **fields, "client": client}
            if fields["target"] is None:
                del fields["target"]
        elif step.verb in CALLS or step.verb == "close":
            fields["client"] = client
        elif step.verb in OPENINGS:
            fields |= {"client": client, "as": stream}
        elif step.verb in ON_STREAMS or step.name is not None:
            fields["stream"] = stream
        return self._apps[step.actor].begin(step.verb, fields)

    async def _judge(self, operation: Operation, step: Step | Finish) -> None:
        """Wait for the answer and compare it."""
        try:
            answer = await operation.result()
        except Failed as failed:
            if step.error is None:
                raise
            self._check_error(step.error, failed.error)
            answer = failed.error
        else:
            if step.error is not None:
                raise NotAsExpected(f"it succeeded with {answer!r:.300}, and should fail with {step.error}")
            answer = self._unprefixed(answer)
            if step.expect is not None:
                self._check(step.expect, answer)
        if step.save is not None:
            self._variables[step.save] = answer

    def _check(self, want: Any, answer: Any) -> None:
        want = _typed(expected(want, self._variables))
        if lines := differences(want, answer):
            raise NotAsExpected("; ".join(lines))

    def _check_error(self, want: Any, error: Any) -> None:
        self._check({"type": want} if isinstance(want, str) else want, error)
        if error["kinds"] != _kinds(error["type"]):
            raise NotAsExpected(f"{error['type']} is {error['kinds']}, and should be {_kinds(error['type'])}")

    def _unprefixed(self, answer: Any) -> Any:
        """The play's own names for streams become those of the scenario."""
        for item in answer.get("items", ()) if isinstance(answer, dict) else ():
            if "stream" in item:
                item["stream"] = item["stream"].removeprefix(f"{self._prefix}:")
        return answer

    async def _to_process(self, step: Step) -> None:
        agent = self._apps[step.actor]
        if step.verb == "kill":
            self._connected[step.actor] = False
            await agent.kill()
            return
        lines = Path(f"/proc/{agent.pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
        if step.save is not None:
            self._variables[step.save] = resident
        if step.expect is not None:
            self._check({"bytes": step.expect}, {"bytes": resident})

    async def _relay(self, step: Step) -> None:
        proxy = self._proxies[step.actor]
        if step.verb == "cut":
            await proxy.cut()
        elif step.verb == "counts":
            while lines := differences(expected(step.expect or {}, self._variables), proxy.counts()):
                if not step.eventually:
                    raise NotAsExpected("; ".join(lines))
                await proxy.change()
            if step.save is not None:
                self._variables[step.save] = proxy.counts()
        else:
            proxy.become(step.verb)


def _kinds(name: str) -> list[str]:
    """An error's ancestors in the tree that all clients share."""
    kind = getattr(sidecar_client.errors, name, None)
    if kind is None:
        return [name]
    return [above.__name__ for above in kind.__mro__ if issubclass(above, sidecar_client.SidecarError)]


def _typed(want: Any) -> Any:
    """`end: SlowReader` means an error of that type."""
    if isinstance(want, dict) and isinstance(want.get("end"), str):
        return {**want, "end": {"type": want["end"], "kinds": _kinds(want["end"])}}
    return want
