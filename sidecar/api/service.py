"""What the services have in common: what each is given, and what each says of itself."""

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..core.classes import dataclass
from ..core.errors import SelfDial
from ..core.types import PeerId
from ..process.audit import Audit
from .common import values
from .common.lifetime import Lifetime
from .common.operations import AppOperations
from .config import ApiConfig
from .guard import caller
from .surface import Feed, NodeSurface

Handlers = Mapping[type, Callable[[Any], None]]
"""What takes which effect of the node."""


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What every service is given. Everything happens on the event loop's thread."""

    node: NodeSurface
    """Answers questions."""
    feed: Feed
    config: ApiConfig
    """The API's bounds."""
    lifetime: Lifetime
    operations: AppOperations
    audit: Audit
    """Where changes of the node are written down."""
    epoch_ns: int
    """What the wall clock showed, in nanoseconds since 1970, when the node's stood at 0."""

    def now(self) -> float:
        """The node's clock, which is the socket driver's."""
        return time.monotonic()

    def changed(self, action: str, **fields: Any) -> None:
        """Write down in the audit log what the call that this task answers has changed; see `Audit.record`."""
        self.audit.record(action, caller.who(), **fields)

    def other_peer(self, text: str, field: str = "peer_id") -> PeerId:
        """The id of a peer that is not this node. Raises InvalidField."""
        peer = values.peer_id(text, field)
        if peer == self.node.peer_id:
            raise values.invalid(field, SelfDial("the peer named is this node itself"))
        return peer


class ApiService:
    """One service of the schemas, which has the class's name; its methods' names are there in snake case.

    A method takes (request, call): the request's message, or an iterator of them where the app sends a stream. It
    returns its response, or writes responses to the call, and raises what it fails with.
    """

    serves_while_draining: ClassVar[bool] = False
    """Whether calls may begin while the sidecar drains."""

    def effects(self) -> Handlers:
        """The node's news that are this service's, and what takes them."""
        return {}

    def close(self) -> None:
        """The sidecar stops."""
