"""Durable messages of one node, to and from all peers (docs/protocols.md)."""

from collections.abc import Callable
from typing import Any

from ..errors import ProtocolError
from ..parameters.durable import DurableConfig
from ..types import PeerId
from .correspondent import Correspondent, SharedState
from .events import (
    DurableDataReceived,
    DurableEffect,
    DurableInput,
    DurableLinkClosed,
    DurableLinkFailed,
    DurableLinkOpened,
    DurableLinkViolated,
    IncomingSettled,
    IncomingStored,
    OutgoingChanged,
    OutgoingLoaded,
    PeerCame,
    ProtocolReceived,
    UnconfirmedLoaded,
)


class DurableRouter:
    """The machine: `handle` inputs, carry out the effects, and keep its one deadline.

    It knows how far the messages to each peer have come, not the messages. Each side opens a link when it has
    something to tell: the sender what the peer lacks, the receiver what became of it. Either may then use the link.
    """

    def __init__(self, config: DurableConfig) -> None:
        self._shared = SharedState(config)
        self._peers = self._shared.peers
        self._links = self._shared.links
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            DurableLinkOpened: self._on_link_opened,
            DurableLinkFailed: self._on_link_failed,
            DurableLinkClosed: self._on_link_closed,
            PeerCame: self._on_peer_came,
            DurableDataReceived: self._on_data_received,
            OutgoingChanged: self._on_outgoing_changed,
            OutgoingLoaded: self._on_outgoing_loaded,
            IncomingStored: self._on_incoming_stored,
            IncomingSettled: self._on_incoming_settled,
            UnconfirmedLoaded: self._on_unconfirmed_loaded,
            ProtocolReceived: self._on_protocol_received,
        }

    def handle(self, arrived: DurableInput, now: float) -> list[DurableEffect]:
        """Take an input, at `now`, monotonic seconds."""
        self._shared.now = now
        self._handlers[type(arrived)](arrived)
        return self._effects()

    def next_deadline(self) -> float | None:
        """When to call `handle_deadline`, monotonic seconds."""
        return self._shared.deadlines.next()

    def handle_deadline(self, now: float) -> list[DurableEffect]:
        """Do what is due."""
        self._shared.now = now
        self._shared.deadlines.run(now)
        return self._effects()

    def take_charges(self) -> dict[PeerId, float]:
        """The needless work that peers caused since the last call, in points of some 5 us."""
        charged, self._shared.charged = self._shared.charged, {}
        return charged

    @property
    def links(self) -> int:
        """Links that are open."""
        return len(self._links)

    @property
    def waiting(self) -> int:
        """Peers that something waits for."""
        return sum(peer.wants_link for peer in self._peers.values())

    @property
    def sent(self) -> int:
        """Messages written since the start, repeats included."""
        return self._shared.sent

    @property
    def received(self) -> int:
        """Messages that arrived since the start, repeats included."""
        return self._shared.received

    @property
    def conflicts(self) -> int:
        """How often a sender, this node or another one, turned out to be cloned or restored from a copy."""
        return self._shared.conflicts

    def _effects(self) -> list[DurableEffect]:
        effects, self._shared.effects = self._shared.effects, []
        return effects

    def _peer(self, peer: PeerId) -> Correspondent:
        return self._peers.get(peer) or Correspondent(self._shared, peer)

    # ------------------------------------------------------------ links

    def _on_link_opened(self, opened: DurableLinkOpened) -> None:
        self._peer(opened.peer).link_opened(opened.link)

    def _on_link_failed(self, failed: DurableLinkFailed) -> None:
        peer = self._peers.get(failed.peer)
        if peer is not None:
            peer.link_failed()
            peer.leave_if_idle()

    def _on_link_closed(self, closed: DurableLinkClosed) -> None:
        peer = self._links.get(closed.link)
        if peer is not None:
            peer.link_closed(closed.link)
            peer.leave_if_idle()

    def _on_peer_came(self, came: PeerCame) -> None:
        peer = self._peers.get(came.peer)
        if peer is not None:
            peer.came()

    def _on_data_received(self, arrived: DurableDataReceived) -> None:
        peer = self._links.get(arrived.link)
        if peer is None:
            return
        try:
            peer.receive(arrived.link, arrived.data)
        except ProtocolError as error:
            self._shared.effects.append(DurableLinkViolated(arrived.link, error))
            self._on_link_closed(DurableLinkClosed(arrived.link))

    # ------------------------------------------------------------ the store

    def _on_outgoing_changed(self, changed: OutgoingChanged) -> None:
        for state in changed.streams:
            peer = self._peer(state.peer)
            peer.outgoing_changed(state)
            peer.leave_if_idle()

    def _on_outgoing_loaded(self, loaded: OutgoingLoaded) -> None:
        peer = self._peers.get(loaded.peer)
        if peer is not None:
            peer.outgoing_loaded(loaded)

    def _on_incoming_stored(self, stored: IncomingStored) -> None:
        peer = self._peers.get(stored.peer)
        if peer is not None:
            peer.incoming_stored(stored.size, stored.acknowledgement, stored.confirmed)
            peer.leave_if_idle()

    def _on_incoming_settled(self, settled: IncomingSettled) -> None:
        self._peer(settled.peer).incoming_settled(settled.acknowledgements)

    def _on_unconfirmed_loaded(self, loaded: UnconfirmedLoaded) -> None:
        peer = self._peers.get(loaded.peer)
        if peer is not None:
            peer.unconfirmed_loaded(loaded.acknowledgements)
            peer.leave_if_idle()

    def _on_protocol_received(self, received: ProtocolReceived) -> None:
        for peer in list(self._peers.values()):
            peer.protocol_received(received.protocol)
