"""What a service of the node is: a part that takes its own inputs and follows peers coming and going.

A protocol joins the node as a service: one class, and one line in `services.py` (CONTRIBUTING, "To add a protocol").
"""

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, TypeVar, get_args, get_origin

from .machine import NodeInput

if TYPE_CHECKING:
    from .switch import Connection, Peer

Input = TypeVar("Input", contravariant=True)


class Service(Generic[Input]):
    """The usual answers of a service, each to be overridden where there is something to do.

    `Service[A | B]` takes the inputs A and B, `Service[Never]` none. Every input of the node belongs to one service.
    """

    inputs: ClassVar[tuple[type[Any], ...]] = ()
    """The inputs that are its own, as its base `Service[...]` names them."""

    follows: ClassVar[tuple[type[Any], ...]] = ()
    """Inputs of others that it hears of by `followed`, once their own service has taken them."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Service:
                (own,) = get_args(base)
                cls.inputs = () if own is Never else get_args(own) or (own,)

    def handle(self, arrived: Input, now: float) -> None:
        """Take one of its inputs. Raises what the input's description names (a caller's misuse)."""
        raise NotImplementedError

    def followed(self, arrived: NodeInput, now: float) -> None:
        """An input that it follows has been taken."""

    # ------------------------------------------------------------ time

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, for a service with a clock of its own (others use `Turn`)."""
        return None

    def handle_deadline(self, now: float) -> None:
        """Do what is due."""

    def flush(self, now: float) -> None:
        """The turn ends: hand on what was gathered in it."""

    def upkeep(self, now: float) -> None:
        """The node looks after its connections; every few seconds."""

    # ------------------------------------------------------------ peers come and go

    def connection_opened(self, connection: "Connection", now: float) -> None:
        """A connection is there, or has become the best one, of a peer that is not identified yet."""

    def peer_ready(self, peer: "Peer", now: float) -> None:
        """The peer is identified and of our network."""

    def peer_updated(self, peer: "Peer", now: float) -> None:
        """It says something new of itself, or another connection is its best now."""

    def peer_gone(self, peer: "Peer", now: float) -> None:
        """Its last connection ended, after `peer_ready`."""

    def peer_lost(self, peer: "Peer", now: float) -> None:
        """Its last connection ended, identified or not; after `peer_gone`."""

    # ------------------------------------------------------------ views

    def statistics(self) -> dict[str, int | float]:
        """Counters since the start and sizes as they are, by name."""
        return {}
