"""A file of all that a node says and hears, decrypted: writing it and reading it (docs/tracing.md)."""

from .file import VERSION, TraceFile
from .node import TracedNode

__all__ = ["VERSION", "TraceFile", "TracedNode"]
