"""Durable messages between the store, the node and the services that apps call."""

from .mail import Mail
from .reading import Reader

__all__ = ["Mail", "Reader"]
