"""The node is configured anew."""

from ..classes import NamedTuple
from ..parameters import NodeConfig


class ConfigurationChanged(NamedTuple):
    """An input: the node is configured anew, as far as that is possible while it runs.

    Bootstrap peers, the target of peers, high and low water with the times of grace that belong to them, the budgets of
    work, and the intervals and time-outs of upkeep and ping take effect; the rest must be as at the start.
    """

    config: NodeConfig
