"""Whether mesh peers that show nothing take part: such a peer is told of a message now and then, and should ask for it.

Scores cannot tell. Who sends nothing does nothing wrong, and a peer whose only link leads here has nothing to send. But
it needs what comes over that link. So once a mesh peer has shown nothing for many messages, one is named to it (IHAVE)
instead of sent. Who takes part asks for it, or shows that it has it from elsewhere; who does neither several times on
end is in the mesh for nothing. Nothing is lost by it: what was not asked for in time is sent.
"""

from collections.abc import Sequence

from ..types import PeerId
from .mesh import Mesh
from .messages import build_chunks, encode_ihaves
from .state import GossipPeer, GossipState, Silence, Topic

# Guesses. Who asks is believed twice as long each time, so that hardly any message takes longer.
_MESSAGES = 64  # of the topic that came while the peer showed nothing
_BEATS = 5  # heartbeats for which it did so, with messages in them
_PATIENCE = 128  # times these, at most
_TIME = 2.0  # seconds in which it should ask
_FAILURES = 3  # times on end that it did not
_LARGEST = 1 << 16  # bytes of a message that is kept for it meanwhile
_MOST = 1024  # that are kept at once


class _Trial:
    __slots__ = ("at", "peer", "raw", "silence", "topic")

    def __init__(self, at: float, topic: Topic, peer: GossipPeer, silence: Silence, raw: bytes) -> None:
        self.at = at
        self.topic = topic
        self.peer = peer
        self.silence = silence
        self.raw = raw


class Trials:
    """Names messages to mesh peers that show nothing, and ends links to those that do not ask."""

    def __init__(self, state: GossipState, mesh: Mesh) -> None:
        self._state = state
        self._mesh = mesh
        self._trials: dict[tuple[PeerId, bytes], _Trial] = {}  # in order of time

    def name(
        self, topic: Topic, targets: Sequence[GossipPeer], ids: Sequence[bytes], raws: Sequence[bytes]
    ) -> list[GossipPeer]:
        """Those of the peers, at most half, that the first of the messages was named to: it need not be sent to them.

        Need not be called where `topic.tried` has none.
        """
        state, identifier, raw = self._state, ids[0], raws[0]
        chosen: list[GossipPeer] = []
        if len(raw) > _LARGEST:
            return chosen
        most = min((len(targets) + 1) // 2, _MOST - len(self._trials))
        entry = encode_ihaves(topic.wire, (identifier,), state.config.max_chunk)
        for peer in targets:
            if len(chosen) >= most:
                break
            silence = topic.tried.get(peer.id)
            # Where something waits already, the answer would be late, and the gossip of a heartbeat be replaced.
            if silence is None or silence.tried or peer.queue or peer.violated or identifier in peer.unwanted:
                continue
            silence.tried = True
            chosen.append(peer)
            state.wake(peer)
            peer.queue.put_ihave(topic.name, entry)
            self._trials[peer.id, identifier] = _Trial(state.now, topic, peer, silence, raw)
        return chosen

    def asked(self, peer: GossipPeer, ids: Sequence[bytes]) -> None:
        """A peer has asked for messages, and gets them."""
        for identifier in ids if self._trials else ():
            trial = self._trials.pop((peer.id, identifier), None)
            if trial is not None and trial.peer is peer:
                peer.patience = min(peer.patience * 2, _PATIENCE)
                self._state.shows(peer, trial.topic)

    def heartbeat(self) -> None:
        """Judge who has not asked in time, and see who has shown nothing for long."""
        if self._trials:
            self._judge()
        if not self._state.config.score.enabled:
            return
        for topic in self._state.topics.values():
            if topic.mesh and topic.came != topic.looked_at:
                topic.looked_at = topic.came
                self._look(topic)

    def _look(self, topic: Topic) -> None:
        came = topic.came
        for identifier, peer in topic.mesh.items():
            if peer.unwanted:  # it told of messages that it has
                self._state.shows(peer, topic)
            silence = topic.silent.get(identifier)
            if silence is None:
                topic.silent[identifier] = Silence(came)
                continue
            silence.beats += 1
            if silence.beats >= _BEATS * peer.patience and came - silence.since >= _MESSAGES * peer.patience:
                topic.tried[identifier] = silence

    def _judge(self) -> None:
        state = self._state
        while self._trials:
            (_, identifier), trial = next(iter(self._trials.items()))
            if state.now - trial.at < _TIME:
                break
            del self._trials[trial.peer.id, identifier]
            peer, topic, silence = trial.peer, trial.topic, trial.silence
            if state.peers.get(peer.id) is not peer:
                continue
            busy = peer.queue or peer.backlog or peer.step is not None or peer.pending_bytes
            if identifier not in peer.unwanted:
                topic.counts.dropped += state.send_chunks((peer,), build_chunks((trial.raw,), len(trial.raw), 1))
            if topic.silent.get(peer.id) is not silence:
                continue
            silence.tried = False
            silence.failed += not busy
            if silence.failed >= _FAILURES and not state.exempt(peer.id):
                self._mesh.dismiss(topic, peer)
