"""Identify on every connection: who we are, who they are, and whether they belong to our network."""

from collections import Counter
from dataclasses import replace
from typing import Never

from .. import events
from ..classes import NamedTuple
from ..errors import DeadlineExceeded, NotSupported, ProtocolError, SidecarError, WrongNetwork
from ..events import LogLevel, PeerChange
from ..identify import IDENTIFY, IDENTIFY_PUSH, IdentifyInfo, IdentifyReader, encode
from ..multiaddr import Multiaddr
from ..networks import Scope
from ..override import override
from ..peers import Origin
from ..records import OpenRecord, fitting, make_peer_record
from ..types import Direction, PeerId
from .dialling import Dialling
from .service import Follower, Service
from .statistics import IdentifyStatistics
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

_TWINS = 600.0  # seconds for which a peer that was in two places at once keeps the addresses of both; a guess
_MAX_TWINS = 256
_MAX_OBSERVED = 64  # distinct observed addresses counted; a guess
_PUSH_INTERVAL = 0.25  # seconds between pushes of changes to one peer, so that a burst of them is told once; a guess
_VISIT = 5.0  # seconds that a stranger may stay while a dial-back is awaited: as long as go-libp2p waits for its answer
_WORK = 50.0  # points that one identify counts: its messages and signature take some 200 us
_MAX_EXCHANGED = 2048  # bytes of a record that is passed on: 16 in a PRUNE must fit the 64 KiB that rust-libp2p reads


class _Asked(NamedTuple):
    """State of an identify stream of ours."""

    reader: IdentifyReader
    connection: PeerConnection


class _Kept(NamedTuple):
    """The newest signed record of a connected peer."""

    seq: int
    envelope: bytes
    addresses: tuple[Multiaddr, ...]


class IdentifyService(SimpleHandler, Service[Never], Follower[events.AddressesChanged]):
    """Asks and answers identify and identify/push (libp2p specs, identify)."""

    name = "identify"

    def __init__(self, switch: Switch, dialling: Dialling, sequence: int, open_record: OpenRecord) -> None:
        self._switch = switch
        self.open_record = open_record
        self._dialling = dialling
        self._started = False
        self._identity_conflicts = 0
        self._record_seq = sequence
        self._record = b""
        self._given: tuple[Multiaddr, ...] = ()  # the addresses that it was made of
        self._recorded: tuple[Multiaddr, ...] = ()  # those in it
        self._records: dict[PeerId, _Kept] = {}
        self._twins: dict[PeerId, float] = {}  # peers that were in two places at once, and when last, in this order
        self._version = 0  # counts changes of what we say
        self._told: dict[PeerId, int] = {}  # connected peer -> the version that it was told last
        self._pusher = _Pusher(self, switch)
        self._next_push = 0.0
        self._push_due = False
        self.observed: Counter[Multiaddr] = Counter()
        self.mapped: Counter[Multiaddr] = Counter()
        """Of these, those on connections from or to a port that this node listens at: others may come in there."""
        switch.register(IDENTIFY, self, housekeeping=True)
        switch.register(IDENTIFY_PUSH, _Pushed(self, switch), housekeeping=True)

    # ------------------------------------------------------------ ours

    def followed(self, arrived: events.AddressesChanged, now: float) -> None:
        """Our addresses have changed, or are known for the first time: then nobody is there to be told."""
        if self._started:
            self.advertise(now)
        self._started = True

    def connection_opened(self, connection: PeerConnection, now: float) -> None:
        """Ask a fresh connection who is there; the peer is of no use before it has said so."""
        switch = self._switch
        if connection.visit or (connection.peer.info is not None and not _again(connection)):
            return
        asked = _Asked(IdentifyReader(), connection)
        switch.open_stream(connection, (IDENTIFY,), self, asked)
        switch.deadlines.at(now + switch.config.identify_timeout, lambda now: self._overdue(connection, now))

    def advertise(self, now: float) -> None:
        """Addresses or protocols changed: tell everybody who listens to pushes, a burst of changes at once."""
        self._version += 1
        if self._push_due:
            return
        if now >= self._next_push:
            self._push_all(now)
        else:
            self._push_due = True
            self._switch.deadlines.at(self._next_push, self._push_all)

    def _push_all(self, now: float) -> None:
        self._push_due = False
        self._next_push = now + _PUSH_INTERVAL
        for peer in self._switch.peers.values():
            self._push(peer)

    def _push(self, peer: Peer) -> None:
        if peer.ready and peer.speaks(IDENTIFY_PUSH) and self._told.get(peer.id) != self._version:
            self._pusher.push(peer)

    def signed_record(self, peer: PeerId) -> bytes | None:
        """The signed record of a connected peer for peer exchange, if it has given one of at most 2 KiB."""
        kept = self._records.get(peer)
        return kept.envelope if kept is not None and len(kept.envelope) <= _MAX_EXCHANGED else None

    @override
    def peer_lost(self, peer: Peer, now: float) -> None:
        self._records.pop(peer.id, None)
        self._told.pop(peer.id, None)
        self._pusher.forget(peer)

    def tell(self, stream: Stream) -> None:
        """Write on a stream what we are now, and end it."""
        switch, connection = self._switch, stream.connection
        addresses = self._signed(switch.advertised())
        info = IdentifyInfo(
            protocol_version=switch.config.protocol_version,
            agent=switch.config.agent,
            public_key=switch.identity.public_key,
            listen_addresses=addresses,
            observed_address=connection.remote,
            protocols=tuple(switch.handlers),
            signed_record=self._record,
            gossip_max_rpc=switch.config.gossip.max_rpc,
        )
        self._told[stream.peer.id] = self._version
        switch.write(stream, encode(info))
        switch.close_write(stream)

    def _signed(self, addresses: tuple[Multiaddr, ...]) -> tuple[Multiaddr, ...]:
        """The addresses that peers are told: those that a signed record holds, which is made where they are new."""
        if self._record and addresses == self._given:
            return self._recorded
        self._given, self._recorded = addresses, fitting(self._switch.identity, addresses)
        told = len(self._recorded)
        if told < len(addresses):
            text = "peers are told the first %d of %d addresses: more do not fit into a signed record"
            self._switch.note(LogLevel.WARNING, None, text, told, len(addresses))
        self._record_seq += 1
        self._record = make_peer_record(self._switch.identity, self._record_seq, self._recorded)
        return self._recorded

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        self._switch.expire(stream, now)
        if stream.state is None:  # they ask
            self._switch.charge(stream.peer.id, "identify", _WORK, now)
            self.tell(stream)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if isinstance(stream.state, _Asked):
            stream.state.reader.receive(data)
        else:
            raise ProtocolError("identify: bytes from the side that only reads")

    @override
    def ended(self, stream: Stream, now: float) -> None:
        if isinstance(stream.state, _Asked):
            self._switch.close_write(stream)
            self.identified(stream.peer, stream.state.reader.finish(), now, again=_again(stream.connection))

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        if isinstance(stream.state, _Asked):
            self._unidentified(stream.connection, error, now)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Asked):
            self._unidentified(state.connection, error, now)

    def statistics(self) -> IdentifyStatistics:
        """What peers said that cannot be right, counted since the start."""
        return IdentifyStatistics(self._identity_conflicts)

    # ------------------------------------------------------------ verdicts

    def identified(self, peer: Peer, info: IdentifyInfo, now: float, *, again: bool = False) -> None:
        """Judge what a peer said of itself, by identify or by push. Raises ProtocolError where it is a lie.

        `again`: on a connection beside one that it had opened before.
        """
        switch = self._switch
        if info.public_key is not None and info.public_key != peer.public_key:
            raise ProtocolError("identify shows another public key than the connection")
        before = peer.info
        info, told = self._with_record(peer, info, again)
        if again and before is not None:
            self._two_of_one_identity(peer, before, told, now)
        peer.info = info if before is None else before.updated(info)
        if peer.info == before:
            return  # a push that says nothing new
        refusal = self._refusal(peer.info)
        if refusal is not None:
            switch.note(LogLevel.WARNING, peer.id, "refused: %s", refusal)
            self._dialling.refused(peer, refusal, now)
            switch.disconnect(peer, refusal)
            return
        if peer.info.listen_addresses:
            twins = now - self._twins.get(peer.id, -_TWINS) < _TWINS
            teller = Scope.of_teller(peer.best.remote)
            usable = [address for address in peer.info.listen_addresses if Scope.of(address) >= teller]
            kept = self._records.get(peer.id)
            origin = Origin.RECORD if kept is not None and kept.addresses else Origin.IDENTIFY
            switch.book.learn(peer.id, usable, replace=not twins, origin=origin, reach=teller)
        if before is None:
            self._observe(info, peer.best)
            peer.ready = True
            self._dialling.arrived(peer, now)
            if peer.id in self._told:
                self._push(peer)  # what changed since it asked
        else:
            self._dialling.updated(peer, now)
        self._tell(peer, PeerChange.UPDATED if before else PeerChange.IDENTIFIED)

    def _two_of_one_identity(self, peer: Peer, before: IdentifyInfo, new: tuple[Multiaddr, ...], now: float) -> None:
        """Note a peer that has come from elsewhere while it is still connected, as two nodes with one key do.

        The addresses of both stay in the book for a while, so that others can see that there are two.
        """
        old = before.listen_addresses
        if not old or not new or set(old) & set(new):
            return
        self._twins.pop(peer.id, None)
        self._twins[peer.id] = now
        if len(self._twins) > _MAX_TWINS:
            del self._twins[next(iter(self._twins))]
        self._switch.book.learn(peer.id, new, origin=Origin.IDENTIFY, reach=Scope.of_teller(peer.best.remote))
        self._identity_conflicts += 1
        self._switch.note(
            LogLevel.WARNING,
            peer.id,
            "connected a second time, listening at %s, while the connection of the one at %s is open: two nodes with "
            "one identity, or one that has just moved",
            new[0],
            old[0],
        )

    def _tell(self, peer: Peer, change: PeerChange) -> None:
        self._switch.emit(events.PeerChanged(change, self._dialling.view(peer.id)))
        self._switch.emit(events.PeersLearned(((peer.id, self._switch.book.addresses(peer.id)),), good=True))
        self._dialling.keep_addresses(peer.id)

    def _with_record(self, peer: Peer, info: IdentifyInfo, again: bool) -> tuple[IdentifyInfo, tuple[Multiaddr, ...]]:
        """Prefer the addresses that the peer has signed; a record that is unusable or old is noted and left.

        Also returns the addresses that it has told just now: of two nodes with one key, one has always an old record.

        A record stays in force when what comes later brings none (libp2p specs, RFC 0003).
        """
        kept = self._records.get(peer.id)
        envelope = info.signed_record
        told = info.listen_addresses or (kept.addresses if kept is not None else ())
        if envelope is not None and (kept is None or envelope != kept.envelope):
            try:
                record = self.open_record(envelope, peer.id)
            except ProtocolError as error:
                self._switch.note(LogLevel.WARNING, peer.id, "identify: %s", error)
            else:
                told = record.addresses or told
                # An equal number too, as in go-libp2p: rust-libp2p numbers by the second, changes may come faster.
                # A smaller one from a peer that has come back: it began anew, under a clock that was set back.
                if kept is None or record.seq >= kept.seq or again:
                    kept = self._records[peer.id] = _Kept(record.seq, envelope, record.addresses)
                else:
                    self._switch.note(LogLevel.DEBUG, peer.id, "identify: record %d is old", record.seq)
        addresses = kept.addresses if kept is not None and kept.addresses else info.listen_addresses
        key = peer.public_key if info.public_key is not None else None  # an equal one, which is there already
        return replace(info, signed_record=None, listen_addresses=addresses, public_key=key), told

    def _refusal(self, info: IdentifyInfo) -> WrongNetwork | None:
        """Why a peer does not belong here, or None. Its network shows in protocolVersion or in protocol ids."""
        ours = self._switch.config
        network = shown_network(info)
        if network == ours.network:
            return None
        if network is not None:
            return WrongNetwork(f"the peer belongs to network {network!r}, this node to {ours.network!r}")
        if ours.accept_unnamed:
            return None
        return WrongNetwork(f"the peer shows no network, this node belongs to {ours.network!r} and takes no others")

    def _observe(self, info: IdentifyInfo, connection: PeerConnection) -> None:
        address = info.observed_address
        if address is None or address.is_relayed:
            return
        if address in self.observed or len(self.observed) < _MAX_OBSERVED:
            self.observed[address.without_peer()] += 1
            here = connection.local.value("tcp")
            if not connection.relayed and any(own.value("tcp") == here for own in self._switch.listening):
                self.mapped[address.without_peer()] += 1

    def _unidentified(self, connection: PeerConnection, error: SidecarError, now: float) -> None:
        """The peer does not say who it is: then it shows no network."""
        switch, peer = self._switch, connection.peer
        if peer.info is not None or connection.number not in switch.connections:
            return
        if switch.asked_back and connection.direction is Direction.INBOUND and not connection.visit:
            # Servers dial back under keys that are nobody's, and say nothing of themselves.
            connection.visit = True
            switch.deadlines.at(now + _VISIT, lambda now: self._unidentified(connection, error, now))
            return
        if isinstance(error, NotSupported) and switch.config.accept_unnamed:
            self.identified(peer, IdentifyInfo(), now)
            return
        failure = WrongNetwork(f"the peer could not be identified: {error}")
        switch.note(LogLevel.WARNING, peer.id, "refused: %s", failure)
        self._dialling.refused(peer, failure, now)
        switch.close_connection(connection, failure)

    def _overdue(self, connection: PeerConnection, now: float) -> None:
        if connection.number in self._switch.connections and connection.peer.info is None:
            timeout = self._switch.config.identify_timeout
            self._unidentified(connection, DeadlineExceeded(f"no identify within {timeout:g} s"), now)


class _Pusher(SimpleHandler):
    """Our identify/push streams. At most one a peer waits to be opened: it tells what is true once it is open."""

    name = "identify"

    def __init__(self, identify: IdentifyService, switch: Switch) -> None:
        self._identify = identify
        self._switch = switch
        self._opening: dict[PeerId, None] = {}

    def push(self, peer: Peer) -> None:
        if peer.id not in self._opening:
            self._opening[peer.id] = None
            self._switch.open_stream(peer.best, (IDENTIFY_PUSH,), self, peer)

    def forget(self, peer: Peer) -> None:
        self._opening.pop(peer.id, None)

    def opened(self, stream: Stream, now: float) -> None:
        self._opening.pop(stream.peer.id, None)
        self._switch.expire(stream, now)
        self._identify.tell(stream)

    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, Peer):
            self._opening.pop(state.id, None)

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        raise ProtocolError("identify/push: bytes from the side that only reads")


class _Pushed(SimpleHandler):
    """Their identify/push streams."""

    name = "identify"

    def __init__(self, identify: IdentifyService, switch: Switch) -> None:
        self._identify = identify
        self._switch = switch

    def opened(self, stream: Stream, now: float) -> None:
        stream.state = IdentifyReader()
        self._switch.charge(stream.peer.id, "identify", _WORK, now)
        self._switch.close_write(stream)
        self._switch.expire(stream, now)

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if isinstance(stream.state, IdentifyReader):
            stream.state.receive(data)

    def ended(self, stream: Stream, now: float) -> None:
        if isinstance(stream.state, IdentifyReader) and stream.peer.info is not None:
            self._identify.identified(stream.peer, stream.state.finish(), now)


def _again(connection: PeerConnection) -> bool:
    """Whether the side that opened the connection has another one open: it has lost that, or there are two of it."""
    return any(
        other is not connection and other.direction is connection.direction and not other.draining
        for other in connection.peer.connections
    )


def shown_network(info: IdentifyInfo) -> str | None:
    """The network that a peer shows, or None."""
    version = info.protocol_version or ""
    if version.startswith("sidecar/"):
        return version.removeprefix("sidecar/")
    for protocol in info.protocols:
        if protocol.startswith("/sidecar/"):
            return protocol.split("/")[2]
    return None
