"""The node machine: all protocols on one set of connections."""

from .config import ConfigurationChanged, NodeConfig, WorkConfig
from .node import Node, NodeAddresses

__all__ = ["ConfigurationChanged", "Node", "NodeAddresses", "NodeConfig", "WorkConfig"]
