"""What readiness is made of: conditions with a reason, and what to do about each."""

from collections import deque
from typing import Never

from .. import events
from ..autonat import Reachability
from ..events import Condition, ReadinessChanged
from ..override import override
from .config import ConfigurationChanged
from .dialling import Dialling
from .reachability import ReachabilityService
from .service import Follower, Service
from .switch import Peer, Switch
from .unity import Unity

_LOSSES = 3  # times that the last peer went within `_WINDOW` seconds make a node unstable; guesses
_WINDOW = 300.0
_QUIET = 120.0  # seconds since the last of them after which it counts as stable again; a guess


_REMEDY = (
    "To be reached, open the port in the firewall, and have the router forward it to this machine, or turn on UPnP or "
    "NAT-PMP there (nat.mapping); where it is reached at another address, name that in listen.announce. Else nothing "
    "is to be done: this node reaches others."
)

ReadinessMatter = (
    events.ConnectionClosed | events.DialFailed | events.Resolved | events.AddressesChanged | ConfigurationChanged
)


class Readiness(Service[Never], Follower[ReadinessMatter]):
    """Keeps the node's conditions; says when one changes."""

    def __init__(
        self, switch: Switch, dialling: Dialling, unity: Unity, reachability: ReachabilityService, now: float
    ) -> None:
        self._switch = switch
        self._unity = unity
        self._dialling = dialling
        self._reachability = reachability
        self._lost: deque[float] = deque(maxlen=_LOSSES)  # when the last peer went
        self._had_peers = False
        starting = "the node is starting"
        self._conditions = {
            "Listening": Condition("Listening", False, "Starting", starting, "", now),
            "Bootstrapped": Condition("Bootstrapped", False, "Starting", starting, "", now),
        }

    def conditions(self) -> tuple[Condition, ...]:
        """The conditions as they stand, in the order in which they are shown."""
        return tuple(self._conditions.values())

    @override
    def followed(self, arrived: ReadinessMatter, now: float) -> None:
        self.update(now)

    @override
    def upkeep(self, now: float) -> None:
        self.update(now)

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        self.update(now)

    def update(self, now: float) -> None:
        """Look at everything again."""
        self._set(self._listening(now))
        self._set(self._bootstrapped(now))
        reachable = self._reachable(now)
        if reachable is not None:
            self._set(reachable)
        elif self._conditions.pop("Reachable", None) is not None:
            self._switch.emit(ReadinessChanged())

    def _set(self, condition: Condition) -> None:
        old = self._conditions.get(condition.type, condition._replace(met=not condition.met))
        if old[:5] == condition[:5]:
            return
        since = old.since if old.met is condition.met else condition.since
        self._conditions[condition.type] = condition._replace(since=since)
        self._switch.emit(ReadinessChanged())

    def _unstable(self, now: float) -> bool:
        lost = self._lost
        return len(lost) == _LOSSES and lost[-1] - lost[0] <= _WINDOW and now - lost[-1] < _QUIET

    def _listening(self, now: float) -> Condition:
        listening = self._switch.listening
        if listening:
            addresses = ", ".join(map(str, listening[:4]))
            return Condition("Listening", True, "Listening", f"listening at {addresses}", "", now)
        if not self._switch.config.listens:
            only = "no listen address is configured: this node only dials"
            return Condition("Listening", True, "OnlyDials", only, "", now)
        return Condition(
            "Listening",
            False,
            "NoAddress",
            "no address accepts connections",
            "Set listen addresses (listen.addresses) to ones that this host has, with a free port.",
            now,
        )

    def _bootstrapped(self, now: float) -> Condition:
        ready = any(peer.ready for peer in self._switch.peers.values())
        wanted = len(self._switch.config.bootstrap)
        if self._had_peers and not ready and wanted and not self._dialling.alone():
            self._lost.append(now)
            self._switch.deadlines.at(now + _QUIET, self.update)
        self._had_peers = ready
        if self._unstable(now):
            unstable = f"the last peer was lost {_LOSSES} times within {self._lost[-1] - self._lost[0]:.0f} s"
            return Condition(
                "Bootstrapped",
                False,
                "Unstable",
                f"{unstable}; ready again after {_QUIET:.0f} s without that",
                "Look for another node with this node's key, such as a copied state directory (`sidecar doctor`), "
                "and at why the log says that connections end.",
                now,
            )
        if ready and self._unity.cut_off():
            apart = (
                f"connected to peers, but none of {wanted} bootstrap peers has been reached for a minute or longer: "
                "this part of the mesh may be cut off from the rest"
            )
            return Condition("Bootstrapped", True, "BootstrapPeersUnreached", apart, "", now)
        if ready:
            return Condition("Bootstrapped", True, "HasPeers", "connected to the mesh", "", now)
        if not wanted:
            return Condition("Bootstrapped", True, "NoneConfigured", "no bootstrap peers are configured", "", now)
        if self._dialling.alone():
            alone = "the bootstrap addresses lead to this node alone: it is the first"
            return Condition("Bootstrapped", True, "OnlyOurselves", alone, "", now)
        error = self._dialling.entrances.last_error() or self._dialling.last_error
        seen = f"the last attempt: {error}" if error else "none has answered yet"
        return Condition(
            "Bootstrapped",
            False,
            "NoPeers",
            f"not connected to any of {wanted} bootstrap peers; {seen}",
            "Check that the bootstrap peers run, that their addresses and peer ids are right, and that they belong to "
            f"network {self._switch.config.network!r}.",
            now,
        )

    def _reachable(self, now: float) -> Condition | None:
        """Whether others reach this node from outside; None where no public address of it is known.

        Always met: a node that only dials is of use, and to have it restarted would not help.
        """
        verdicts = self._reachability.verdicts()
        if not verdicts:
            return None
        shown = {
            verdict: [str(each.address) for each in verdicts if each.verdict is verdict] for verdict in Reachability
        }
        at = ", ".join(shown[Reachability.CONFIRMED][:4])
        not_at = ", ".join(shown[Reachability.UNREACHABLE][:4])
        match self._reachability.verdict:
            case Reachability.CONFIRMED:
                return Condition("Reachable", True, "Confirmed", f"peers were seen to reach this node at {at}", "", now)
            case Reachability.UNREACHABLE:
                asks = "" if self._reachability.answers_lookups else "; in the DHT it only asks"
                message = f"peers cannot reach this node at {not_at}, so it does not announce that{asks}"
                return Condition("Reachable", True, "NotReachable", message, _REMEDY, now)
        message = "no peers have said yet whether they reach this node from outside"
        return Condition("Reachable", True, "Unknown", message, "", now)
