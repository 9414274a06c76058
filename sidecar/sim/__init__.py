"""The same node machine on virtual time: a mesh of many nodes in one process, deterministic for a seed."""

from .clock import Clock
from .history import MemoryHistory
from .network import Link, LinkModel, Simulation
from .peer import SimPeer

__all__ = ["Clock", "Link", "LinkModel", "MemoryHistory", "SimPeer", "Simulation"]
