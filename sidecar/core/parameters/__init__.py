"""Every number of the core's machines, with where it comes from.

Apart from the machines, so that the table of keys, which every command reads, loads none of them.
"""

from .autonat import AutonatConfig
from .channel import ChannelLimits
from .direct import DirectConfig
from .durable import DurableConfig
from .gossip import GossipConfig
from .history import HistoryConfig
from .kademlia import DEFAULT_NAMESPACES, KademliaConfig, Namespace, Rule
from .node import NodeConfig, WorkConfig
from .probe import ProbeConfig
from .relay import RelayConfig
from .rules import Limit, OnBreak, SenderRate, SeqnoDistance, TopicRule
from .score import ScoreConfig, TopicScoreConfig

__all__ = [
    "DEFAULT_NAMESPACES",
    "AutonatConfig",
    "ChannelLimits",
    "DirectConfig",
    "DurableConfig",
    "GossipConfig",
    "HistoryConfig",
    "KademliaConfig",
    "Limit",
    "Namespace",
    "NodeConfig",
    "OnBreak",
    "ProbeConfig",
    "RelayConfig",
    "Rule",
    "ScoreConfig",
    "SenderRate",
    "SeqnoDistance",
    "TopicRule",
    "TopicScoreConfig",
    "WorkConfig",
]
