"""Who may connect: bans, and lists of peers and networks to allow and to deny. Pure, as all of the core."""

from .gate import Ban, BanView, Gate, GateLists, Subject
from .networks import Network, NetworkTable, split_address

__all__ = ["Ban", "BanView", "Gate", "GateLists", "Network", "NetworkTable", "Subject", "split_address"]
