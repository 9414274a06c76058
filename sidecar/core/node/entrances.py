"""Bootstrap addresses that name no peer: whoever answers there lets this node in.

Such as the name of a headless service, behind which there are the addresses of several nodes, this one perhaps among
them. The name is resolved again for each attempt, and everybody behind it is dialled: two groups of nodes that found
only each other at first grow together.
"""

from collections.abc import Callable, Sequence

from .. import events
from ..errors import SelfDial, SidecarError
from ..events import LogLevel
from ..multiaddr import Multiaddr
from ..parameters import NodeConfig
from ..types import PeerId
from .switch import Peer, Switch

_AT_THE_DOOR = 0.05  # of the longest wait between dials; a guess

Reached = Callable[[Peer | SidecarError, float], None]
ReachAnyone = Callable[[Sequence[Multiaddr], Reached, float], None]


def pause_at_the_door(config: NodeConfig) -> float:
    """Seconds that a node without peers waits from one attempt at a bootstrap peer to the next.

    It has nobody else to ask, and a bootstrap peer that is full has room again before long. If who has waited for long
    tried more and more rarely, all that come later would get in before it.
    """
    return max(config.redial_base, config.redial_limit * _AT_THE_DOOR)


class _Entrance:
    """One configured address, and who was behind it when it was resolved last."""

    __slots__ = ("address", "behind", "error", "failures", "few", "open", "retry_at", "tried_at")

    def __init__(self, address: Multiaddr) -> None:
        self.address = address
        self.behind: dict[Multiaddr, PeerId | None] = {}  # as many as the resolver gives; None: no answer yet
        self.few = False  # the last look was one of a node with peers enough
        self.open = 0  # what is awaited: the name's resolution, then dials
        self.failures = 0
        self.retry_at = 0.0
        self.tried_at = 0.0  # when the last attempt was over
        self.error: SidecarError | None = None


class Entrances:
    """Dials whoever is behind the bootstrap addresses without a peer id."""

    def __init__(self, switch: Switch, reach_anyone: ReachAnyone) -> None:
        self._switch = switch
        self._reach_anyone = reach_anyone
        self._number = 0
        self._entrances: dict[int, _Entrance] = {}  # by the numbers of their lookups
        self.configured()

    def __len__(self) -> int:
        """Addresses that name no peer."""
        return len(self._entrances)

    def configured(self) -> None:
        """Go by the bootstrap addresses of the configuration; those that stay keep what is known of them."""
        wanted = dict.fromkeys(address for address in self._switch.config.bootstrap if address.peer_id is None)
        kept = {number: entrance for number, entrance in self._entrances.items() if entrance.address in wanted}
        present = {entrance.address for entrance in kept.values()}
        for address in wanted:
            if address in present:
                continue
            self._number += 1
            kept[self._number] = _Entrance(address)
        self._entrances = kept

    def seek(self, now: float, *, enough: bool = False) -> None:
        """Try the addresses whose time has come.

        `enough`: the node has all the peers it wants, and only sees to it that it is not cut off from those behind an
        address; rarely where it is connected to one of them.
        """
        for number, entrance in self._entrances.items():
            retry_at = entrance.retry_at
            if enough and any(peer in self._switch.peers for peer in entrance.behind.values()):
                retry_at += self._switch.config.kademlia.refresh_interval * (0.5 + self._switch.rng.random())
            if not self._switch.peers:
                retry_at = min(retry_at, entrance.tried_at + pause_at_the_door(self._switch.config))
            if not entrance.open and retry_at <= now:
                entrance.few = enough
                entrance.open, entrance.error = 1, None
                self._switch.emit(events.Resolve(number, entrance.address))

    def on_resolved(self, resolved: events.Resolved, now: float) -> None:
        """The answer to a `Resolve`."""
        entrance = self._entrances.get(resolved.lookup)
        if entrance is None:  # the configuration has changed meanwhile
            return
        if isinstance(resolved.result, SidecarError):
            entrance.behind = {}
            self._one_done(entrance, resolved.result, now)
            return
        own = dict.fromkeys(self._switch.listening, self._switch.local)  # known without a dial
        entrance.behind = {address: own.get(address, entrance.behind.get(address)) for address in resolved.result}
        peers = self._switch.peers
        missing = [address for address, peer in entrance.behind.items() if address not in own and peer not in peers]
        if entrance.few and len(missing) < len(entrance.behind):  # one of those who are not connected will do
            missing = self._switch.rng.sample(missing, min(1, len(missing)))
        entrance.open += len(missing)
        for address in missing:
            self._reach_anyone((address,), self._answered(entrance, address), now)
        self._one_done(entrance, None, now)

    def only_ourselves(self) -> bool:
        """Whether nobody but this node is behind any of the addresses: it is the first, and has nobody to join."""
        own = self._switch.local
        entrances = self._entrances.values()
        return bool(entrances) and all(
            entrance.behind and all(peer == own for peer in entrance.behind.values()) for entrance in entrances
        )

    def lead_to(self, peer: PeerId) -> bool:
        """Whether the peer has answered at one of them."""
        return any(peer == behind for entrance in self._entrances.values() for behind in entrance.behind.values())

    def lead_somewhere(self) -> bool:
        """Whether a peer that has answered at one of them is connected."""
        behind = (peer for entrance in self._entrances.values() for peer in entrance.behind.values())
        return any(peer in self._switch.peers for peer in behind)

    def last_error(self) -> SidecarError | None:
        """Why the last attempt at one of them led to nobody."""
        return next((entrance.error for entrance in self._entrances.values() if entrance.error is not None), None)

    def _answered(self, entrance: _Entrance, address: Multiaddr) -> Reached:
        def answered(result: Peer | SidecarError, now: float) -> None:
            if isinstance(result, SelfDial):
                who, error = self._switch.local, None
            elif isinstance(result, SidecarError):
                who, error = None, result
            else:
                who, error = result.id, None
                self._switch.note(LogLevel.INFO, result.id, "answered at the bootstrap address %s", entrance.address)
            if address in entrance.behind:
                entrance.behind[address] = who
            self._one_done(entrance, error, now)

        return answered

    def _one_done(self, entrance: _Entrance, error: SidecarError | None, now: float) -> None:
        entrance.open -= 1
        if error is not None:
            entrance.error = error
            self._switch.note(LogLevel.DEBUG, None, "bootstrap address %s: %s", entrance.address, error)
        if entrance.open:
            return
        entrance.tried_at = now
        config = self._switch.config
        if any(peer in self._switch.peers for peer in entrance.behind.values() if peer is not None):
            entrance.failures, entrance.error = 0, None
            entrance.retry_at = now + config.redial_limit  # for others, who may have come since
            return
        entrance.retry_at = now + min(config.redial_base * 2**entrance.failures, config.redial_limit)
        entrance.failures = min(entrance.failures + 1, 32)
