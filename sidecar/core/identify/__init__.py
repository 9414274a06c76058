"""Identify: what a peer says about itself on every connection (libp2p specs, identify)."""

from .info import IDENTIFY, IDENTIFY_PUSH, IdentifyInfo
from .messages import IdentifyReader, decode, encode

__all__ = ["IDENTIFY", "IDENTIFY_PUSH", "IdentifyInfo", "IdentifyReader", "decode", "encode"]
