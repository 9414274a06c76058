"""Every behaviour that a scenario can name, and the keys that it takes."""

from collections.abc import Mapping
from typing import Any

from ...config.kinds import Kind, number, share
from ...core.classes import NamedTuple
from ..values import KIND_NAME, positive
from .conduct import Conduct
from .floods import Asking, BrokenPromises, GraftFlood, IhaveSpam, IwantFlood, PxPoison
from .poison import DhtSybils, DhtVictim, TableEclipse
from .sybil import Censor, Degrade, Silent


class Behaviour(NamedTuple):
    """What makes the conduct of a node, and its own keys in `[nodes.NAME]`: kind of value and default.

    A default of None makes the key required. A key whose kind is `KIND_NAME` names a kind of nodes of the scenario.
    """

    conduct: type[Conduct]
    keys: Mapping[str, tuple[Kind, Any]] = {}
    bare: bool = False
    """Whether there is no node beneath the conduct (`BareNode`): it needs no more than connections and identify."""
    near: str | None = None
    """The key that names the kind of nodes near to which its own ids are."""


_RATE = positive(1000, "times a second")
_IDS = number(1, 5000, "ids")
_VICTIM: Mapping[str, tuple[Kind, Any]] = {"victim": (KIND_NAME, None)}

BEHAVIOURS: Mapping[str, Behaviour] = {
    "silent": Behaviour(Silent, bare=True),
    "asking": Behaviour(Asking, bare=True),
    "censor": Behaviour(Censor, {"author": (KIND_NAME, None)}, bare=True),
    "degrade": Behaviour(Degrade, {"forwards": (share(), 0.5)}, bare=True),
    "graft-flood": Behaviour(GraftFlood, {"rate": (_RATE, 10.0)}, bare=True),
    "ihave-spam": Behaviour(IhaveSpam, {"rate": (_RATE, 5.0), "ids": (_IDS, 200)}, bare=True),
    "iwant-flood": Behaviour(IwantFlood, {"rate": (_RATE, 5.0), "ids": (_IDS, 50)}, bare=True),
    "broken-promises": Behaviour(BrokenPromises, bare=True),
    "px-poison": Behaviour(PxPoison, {"rate": (_RATE, 0.5)}, bare=True),
    "dht-sybils": Behaviour(DhtSybils, bare=True),
    "dht-victim": Behaviour(DhtVictim, _VICTIM, bare=True),
    "table-eclipse": Behaviour(TableEclipse, _VICTIM, bare=True, near="victim"),
}
