"""Every behaviour that a scenario can name, and the keys that it takes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...config.kinds import Kind, share
from ..values import KIND_NAME
from .conduct import Conduct
from .sybil import Censor, Degrade, Silent


class Behaviour(NamedTuple):
    """What makes the conduct of a node, and its own keys in `[nodes.NAME]`: kind of value and default.

    A default of None makes the key required. A key whose kind is `KIND_NAME` names a kind of nodes of the scenario.
    """

    conduct: type[Conduct]
    keys: Mapping[str, tuple[Kind, Any]] = {}


BEHAVIOURS: Mapping[str, Behaviour] = {
    "silent": Behaviour(Silent),
    "censor": Behaviour(Censor, {"author": (KIND_NAME, None)}),
    "degrade": Behaviour(Degrade, {"forwards": (share(), 0.5)}),
}
