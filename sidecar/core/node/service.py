"""What a service of the node is: a part that takes its own inputs and follows peers coming and going.

A protocol joins the node as a service: one class, and one line in `services.py` (CONTRIBUTING, "To add a protocol").
"""

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, TypeVar, get_args, get_origin

if TYPE_CHECKING:
    from .switch import Peer, PeerConnection

Input = TypeVar("Input", contravariant=True)


class Service(Generic[Input]):
    """The usual answers of a service, each to be overridden where there is something to do.

    `Service[A | B]` takes the inputs A and B, `Service[Never]` none. Every input of the node belongs to one service.
    """

    inputs: ClassVar[tuple[type[Any], ...]] = ()
    """The inputs that are its own, as its base `Service[...]` names them."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.inputs = _named(cls, Service) or cls.inputs

    def handle(self, arrived: Input, now: float) -> None:
        """Take one of its inputs. Raises what the input's description names (a caller's misuse)."""
        raise NotImplementedError

    # ------------------------------------------------------------ time

    keeps_time: ClassVar[bool] = False
    """Whether its machine has deadlines of its own; the others use those of `Turn`."""

    due: float = inf
    """When `handle_deadline` wants to be called.

    A service that keeps time asks its machine whenever it has used it: the node need not ask all after every input."""

    def handle_deadline(self, now: float) -> None:
        """Do what is due, where it keeps time."""

    def upkeep(self, now: float) -> None:
        """The node looks after its connections; every few seconds."""

    # ------------------------------------------------------------ peers come and go

    def connection_opened(self, connection: "PeerConnection", now: float) -> None:
        """A connection is there, or has become the best one, of a peer that is not identified yet."""

    def peer_ready(self, peer: "Peer", now: float) -> None:
        """The peer is identified and of our network."""

    def peer_updated(self, peer: "Peer", now: float) -> None:
        """It says something new of itself, or another connection is its best now."""

    def peer_gone(self, peer: "Peer", now: float) -> None:
        """Its last connection ended, after `peer_ready`."""

    def peer_lost(self, peer: "Peer", now: float) -> None:
        """Its last connection ended, identified or not; after `peer_gone`."""


class Follower(Generic[Input]):
    """A service that hears of inputs of others, once these have taken them: `Follower[A | B]` of A and B."""

    follows: ClassVar[tuple[type[Any], ...]] = ()
    """The inputs that it hears of, as its base `Follower[...]` names them."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.follows = _named(cls, Follower) or cls.follows

    def followed(self, arrived: Input, now: float) -> None:
        """An input that it follows has been taken."""
        raise NotImplementedError


def _named(cls: type, base: type) -> tuple[type[Any], ...]:
    """The classes that `base[A | B]`, among the bases of a class, names."""
    for each in getattr(cls, "__orig_bases__", ()):
        if get_origin(each) is base:
            (union,) = get_args(each)
            return () if union is Never else get_args(union) or (union,)
    return ()
