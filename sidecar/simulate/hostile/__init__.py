"""Simulated nodes that do harm: what the core never does, done to it over real connections."""

from .conduct import Accomplice, Conduct, Exchange, Surroundings
from .kinds import BEHAVIOURS, Behaviour
from .node import HostileNode

__all__ = ["BEHAVIOURS", "Accomplice", "Behaviour", "Conduct", "Exchange", "HostileNode", "Surroundings"]
