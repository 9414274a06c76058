"""Everything that can go wrong, as one tree.

SidecarError
├── ConfigError                 a configuration key or value is wrong; names it
├── IdentityError               a key file or key is unusable
├── InvalidPeerId               a text or bytes that is no peer id
├── InvalidMultiaddr            a text or bytes that is no multiaddr
├── InvalidArgument             any other malformed input of a caller
├── TooLarge                    a payload over its limit
├── StateLocked                 another sidecar holds the state directory
├── AddressInUse                a listening address or the API socket is taken
├── StorageError                the disk refused (full, read-only, damaged)
├── NotFound                    no such peer, topic or record
├── NotSupported                the remote speaks none of the protocols asked for
├── SelfDial                    the peer asked for is this node
├── Unreachable                 no address of the peer answered
│   ├── NoAddresses             none is known
│   ├── DialTimeout             none answered in time
│   ├── DialBackoff             failed a moment ago; not tried again yet
│   └── NoQuorum                fewer peers than asked for took a record
├── WrongPeer                   another key answered than the one dialled
├── WrongNetwork                the peer belongs to another network
├── PeerBanned                  the peer or its address is banned, denied or not allowed at this node
├── ResourceExhausted           a bound of this node is reached
│   ├── QueueFull               a bounded queue
│   ├── WorkExceeded            a peer's budget of needless work
│   └── TooManyConnections      total, per address or network, or half-open
├── Closed                      the connection, stream or node has ended
│   └── StreamReset             the remote reset the stream
├── DeadlineExceeded            the answer did not come in time
├── AlreadyExists               registered by somebody else already
├── Outdated                    a better value of the record is known already
├── Refused                     the remote refused; its reason is the message
└── ProtocolError               the remote broke a protocol
    ├── FrameTooLarge           a frame over its limit
    ├── HandshakeError          security or negotiation failed
    │   ├── WrongPrivateNetwork the remote does not have the key of our private network
    │   ├── SimultaneousOpen    both sides opened the connection at one moment, so nobody answers
    │   └── HandshakeTimeout    the remote did not finish the handshake in time
    ├── KeepAliveTimeout        the remote stopped answering
    └── WriteStalled            the remote stopped reading
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .types import PeerId


class SidecarError(Exception):
    """Any error of this program. `str(error)` is a sentence for a person, with the numbers in it."""


class ConfigError(SidecarError):
    """A configuration key or value is wrong; the message names it."""


class IdentityError(SidecarError):
    """A key file or key is unusable."""


class InvalidPeerId(SidecarError, ValueError):
    """A text or bytes that is no peer id."""


class InvalidMultiaddr(SidecarError, ValueError):
    """A text or bytes that is no multiaddr."""


class InvalidArgument(SidecarError, ValueError):
    """Any other malformed input of a caller."""


class TooLarge(SidecarError):
    """A payload over its limit; refused at the sender."""


class StateLocked(SidecarError):
    """Another sidecar holds the state directory."""


class AddressInUse(SidecarError):
    """A listening address or the API socket is taken."""


class StorageError(SidecarError):
    """The disk refused: full, read-only or damaged."""


class NotFound(SidecarError):
    """No such peer, topic or record."""


class NotSupported(SidecarError):
    """The remote speaks none of the protocols asked for."""


class SelfDial(SidecarError):
    """The peer asked for is this node itself."""


class Unreachable(SidecarError):
    """No address of the peer answered; `no_route`: this host has no way there, as without IPv6, so nobody was asked."""

    def __init__(self, *arguments: object, no_route: bool = False) -> None:
        super().__init__(*arguments)
        self.no_route = no_route


class NoAddresses(Unreachable):
    """No address of the peer is known."""


class DialTimeout(Unreachable):
    """No address of the peer answered in time."""


class DialBackoff(Unreachable):
    """The peer failed to answer a moment ago and is not tried again yet."""


class NoQuorum(Unreachable):
    """Fewer peers than asked for took a record."""


class WrongPeer(SidecarError):
    """Another key answered than the one that was dialled; `answered` is whose, where that was shown."""

    def __init__(self, *arguments: object, answered: "PeerId | None" = None) -> None:
        super().__init__(*arguments)
        self.answered = answered


class WrongNetwork(SidecarError):
    """The peer belongs to a network of another name."""


class PeerBanned(SidecarError):
    """The peer or its address is not to be connected with: banned, on a deny list, or not on an allow list."""


class ResourceExhausted(SidecarError):
    """A bound of this node is reached."""


class QueueFull(ResourceExhausted):
    """A bounded queue is full."""


class WorkExceeded(ResourceExhausted):
    """A peer goes on causing more needless work than its budget allows."""


class TooManyConnections(ResourceExhausted):
    """The bound on connections (total, per address or network, half-open) is reached."""


class Closed(SidecarError):
    """The connection, stream or node has ended."""


class StreamReset(Closed):
    """The remote reset the stream."""


class DeadlineExceeded(SidecarError):
    """The answer did not come in time."""


class AlreadyExists(SidecarError):
    """Registered by somebody else already."""


class Outdated(SidecarError):
    """A better value of the record, by its namespace's rule, is known already."""


class Refused(SidecarError):
    """The remote refused; its reason is the message."""


class ProtocolError(SidecarError):
    """The remote broke a protocol."""


class FrameTooLarge(ProtocolError):
    """A frame over its limit."""


class HandshakeError(ProtocolError):
    """Securing or negotiating a connection failed."""


class WrongPrivateNetwork(HandshakeError):
    """The remote does not seem to have the key of this node's private network."""


class SimultaneousOpen(HandshakeError):
    """Both sides opened the connection at one moment: each began the handshake, and nobody answers it."""


class HandshakeTimeout(HandshakeError):
    """The remote did not finish the handshake in time."""


class KeepAliveTimeout(ProtocolError):
    """The remote stopped answering keep-alives."""


class WriteStalled(ProtocolError):
    """The remote stopped reading while bytes waited for it."""
