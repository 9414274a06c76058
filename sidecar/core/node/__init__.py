"""The node machine: all protocols on one set of connections."""

from ..parameters import NodeConfig, WorkConfig
from .config import ConfigurationChanged
from .machine import AppNews, NodeEffect, NodeInput, NodeMachine, NodeNews
from .node import Node, NodeAddresses, Participation

__all__ = [
    "AppNews",
    "ConfigurationChanged",
    "Node",
    "NodeAddresses",
    "NodeConfig",
    "NodeEffect",
    "NodeInput",
    "NodeMachine",
    "NodeNews",
    "Participation",
    "WorkConfig",
]
