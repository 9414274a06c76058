"""How a key is written down."""

from dataclasses import field
from typing import Any

from ..kinds import Kind

KIB, MIB = 2**10, 2**20
DAY = 86400.0


def key(default: Any, kind: Kind, doc: str, source: str, flag: str = "", *, live: bool = False) -> Any:
    """A field of a section.

    `flag`: a shorter name of its flag, beside `--section-key`. `live`: SIGHUP changes it, by `App.reload`.
    """
    return field(default=default, metadata={"kind": kind, "doc": doc, "source": source, "flag": flag, "live": live})
