"""Simulated nodes that do harm: what the core never does, done to it over real connections."""

from .bare import BareNode
from .conduct import Accomplice, Conduct, Contact, Exchange, Surroundings
from .kinds import BEHAVIOURS, Behaviour
from .node import HostileNode

__all__ = [
    "BEHAVIOURS", "Accomplice", "BareNode", "Behaviour", "Conduct", "Contact", "Exchange", "HostileNode",
    "Surroundings",
]  # fmt: skip
