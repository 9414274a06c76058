"""The node machine: all protocols on one set of connections."""

from .config import NodeConfig
from .node import Node, NodeAddresses

__all__ = ["Node", "NodeAddresses", "NodeConfig"]
