"""Benchmark rows of the sidecar: two sidecar processes, and an app of each in a process of its own."""

import contextlib

from bench import idle
from bench.apps import AppSubject, Node
from bench.rows import Cell
from bench.sidecars import start_sidecar


class SidecarSubject(AppSubject):
    """Two sidecars, from app to app over gRPC."""

    def __init__(self, language: str = "Go", *flags: str) -> None:
        """Name the apps' language, and further flags of the sidecars."""
        self.language = language
        self.name = "sidecar" if language == "Go" else f"sidecar, {language}"
        self._flags = flags

    async def start_node(self, stack: contextlib.AsyncExitStack, *, signed: bool = True, alone: bool = False) -> Node:
        # Otherwise the nodes would seek each other by themselves after each disconnection.
        return await start_sidecar(stack, *self._flags, *(("--peers-target", "0") if alone else ()))

    async def bundled(self, size: int, seconds: float) -> Cell | None:
        subject = SidecarSubject(self.language, *self._flags, "--gossip-bundled-topics", "*=known")
        subject.recorder = self.recorder
        return await subject.gossip(size, True, seconds)

    async def idle(self, connections: int, seconds: float) -> Cell | None:
        used = await idle.measure(connections, settle=seconds / 2, seconds=seconds, subscribed=False)
        return Cell(core=used.all.seconds / used.seconds)
