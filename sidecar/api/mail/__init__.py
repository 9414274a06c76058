"""Durable messages between the store, the node and the services that apps call."""

from .mail import DISK_AGAIN, Mail
from .reading import Reader

__all__ = ["DISK_AGAIN", "Mail", "Reader"]
