"""Simulated nodes that do harm: what the core never does, done to it over real connections."""

from .bare import BareNode
from .conduct import Accomplice, Conduct, Exchange, Fellow, Surroundings
from .kinds import BEHAVIOURS, Behaviour
from .node import HostileNode

__all__ = [
    "BEHAVIOURS",
    "Accomplice",
    "BareNode",
    "Behaviour",
    "Conduct",
    "Exchange",
    "Fellow",
    "HostileNode",
    "Surroundings",
]  # fmt: skip
