"""Who may connect: bans, and lists of peers and networks to allow and to deny. Pure, as all of the core."""

from .gate import Ban, BanView, Gate, GateLists, Subject

__all__ = ["Ban", "BanView", "Gate", "GateLists", "Subject"]
