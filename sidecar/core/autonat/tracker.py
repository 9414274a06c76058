"""What is known of each address of this node: whether others reach it, and whom to ask next about which.

A server proves that it has reached an address, by bringing the nonce of the request; that it has not is only a claim.
So one proof undoes all claims before it, and an address counts as not reachable when servers in several networks have
said so since the last proof. Who lies can neither confirm an address nor, alone, have one given up.
"""

import enum
from collections.abc import Hashable, Mapping, Sequence
from math import inf

from ..classes import NamedTuple
from ..multiaddr import Multiaddr
from ..parameters import AutonatConfig
from ..types import PeerId

_PROOFS = 2  # servers in networks apart that confirm an address; go-libp2p's least confidence
_ADDRESSES = 10  # in a request, as in go-libp2p
_RESULTS = 8  # kept of an address; a guess: more than are needed for either verdict
_KEPT = 5 * 3600.0  # seconds for which a result counts, as in go-libp2p
_CONFIRMED = 3600.0  # seconds after which a confirmed address is tried again, as in go-libp2p
_UNREACHABLE = 900.0  # the same of one that was not reached: somebody may have opened the way; a guess
_TRIES = 10  # of one address within `_WINDOW` seconds, as in go-libp2p
_WINDOW = 600.0
_REFUSALS = 5  # in a row, after which an address is left alone for `_WINDOW` seconds, as in go-libp2p
_AGAIN = 120.0  # seconds between two requests to one server, as in go-libp2p
_UNFIT = 1800.0  # the same of one that refused, broke off or claimed what is not so; a guess
MAX_CANDIDATES = 16
"""Addresses that are looked at. A guess: as many as others keep of a peer."""


class Reachability(enum.Enum):
    """Whether others reach an address, or the node."""

    UNKNOWN = "unknown"
    CONFIRMED = "confirmed"
    UNREACHABLE = "not reachable"


class AddressSource(enum.Enum):
    """From where an address of this node is known."""

    LISTENING = "listening"
    ANNOUNCED = "announced"
    MAPPED = "mapped"
    """The gateway says that its port leads here."""
    OBSERVED = "observed"
    """Peers see this node at its IP address."""


class Server(NamedTuple):
    """A connected peer that dials others. `network`: whose word it is; one network has one."""

    peer: PeerId
    network: Hashable


class Question(NamedTuple):
    """Ask the server to dial the first of these addresses that it is willing to."""

    server: Server
    addresses: tuple[Multiaddr, ...]


class AddressVerdict(NamedTuple):
    """What is known of one address. `since`: when the verdict became this, in monotonic seconds."""

    address: Multiaddr
    verdict: Reachability
    source: AddressSource
    since: float
    proofs: int  # servers that have reached it
    failures: int  # servers that say, later than those, that they have not


class _Result(NamedTuple):
    reached: bool
    at: float


class _Status:
    """One address."""

    __slots__ = ("asking", "refusals", "refused_at", "results", "since", "source", "tries", "verdict")

    def __init__(self, source: AddressSource, now: float) -> None:
        self.source = source
        self.verdict = Reachability.UNKNOWN
        self.since = now
        self.results: dict[Hashable, _Result] = {}  # the last one of each network, in the order of their times
        self.tries: list[float] = []  # when it was asked about, of late
        self.asking = 0
        self.refusals = 0
        self.refused_at = -inf

    def count(self, now: float) -> tuple[int, int]:
        """How many have reached it, and how many have said since then that they have not."""
        proofs = failures = 0
        for result in self.results.values():
            if now - result.at > _KEPT:
                continue
            if result.reached:
                proofs, failures = proofs + 1, 0
            else:
                failures += 1
        return proofs, failures

    def add(self, network: Hashable, reached: bool, now: float) -> None:
        self.refusals = 0
        self.results.pop(network, None)
        self.results[network] = _Result(reached, now)
        if len(self.results) > _RESULTS:
            del self.results[next(iter(self.results))]

    def wanted(self, servers: int, now: float) -> int:
        """How many more servers to ask about it now."""
        self.tries = [tried for tried in self.tries if now - tried < _WINDOW]
        if len(self.tries) >= _TRIES or (self.refusals >= _REFUSALS and now - self.refused_at < _WINDOW):
            return 0
        proofs, failures = self.count(now)
        last = next(reversed(self.results.values()), None)
        if last is not None and self.verdict is Reachability.CONFIRMED and not failures:
            missing = int(now - last.at >= _CONFIRMED)
        elif last is not None and self.verdict is Reachability.UNREACHABLE:
            missing = int(now - last.at >= _UNREACHABLE)
        else:
            missing = min(servers - failures, _PROOFS - proofs if not failures else servers)
        return max(0, missing - self.asking)

    def may_ask(self, network: Hashable, now: float) -> bool:
        """Whether a server of the network can say something new of it."""
        result = self.results.get(network)
        return result is None or now - result.at >= _UNREACHABLE


class ReachabilityTracker:
    """Keeps a verdict for each address of this node, and says whom to ask next.

    The verdict of the node is that it is reachable where one address is, and that it is not where all that were looked
    at are not. It then stays so until one is confirmed or none is left that is not reachable: each new address is
    unknown at first, and the node is not to change its ways with each.
    """

    def __init__(self, config: AutonatConfig) -> None:
        self._config = config
        self._statuses: dict[Multiaddr, _Status] = {}
        self._not_before: dict[PeerId, float] = {}  # when a server may be asked again
        self._now = -inf
        self.verdict = Reachability.UNKNOWN

    def update(self, candidates: Mapping[Multiaddr, AddressSource], now: float) -> None:
        """These are the addresses now, those that matter most first; what is known of the same ones stays."""
        self._now = now
        chosen = list(candidates.items())[:MAX_CANDIDATES]
        old, self._statuses = self._statuses, {}
        for address, source in chosen:
            status = self._statuses[address] = old.get(address) or _Status(source, now)
            status.source = source
            self._judge(status, now)
        self._judge_all()

    def __bool__(self) -> bool:
        return bool(self._statuses)

    def views(self) -> tuple[AddressVerdict, ...]:
        """What is known of each address."""
        return tuple(
            AddressVerdict(address, status.verdict, status.source, status.since, *status.count(self._now))
            for address, status in self._statuses.items()
        )

    def addresses(self, verdict: Reachability) -> tuple[Multiaddr, ...]:
        """Those of which this is the verdict."""
        return tuple(address for address, status in self._statuses.items() if status.verdict is verdict)

    # ------------------------------------------------------------ asking

    def wants(self, now: float) -> bool:
        """Whether any server is to be asked now."""
        return any(status.wanted(self._config.servers, now) for status in self._statuses.values())

    def ask(self, servers: Sequence[Server], now: float) -> Question | None:
        """Whom to ask next, about which addresses, as far as these servers can help; it counts as asked.

        The answer goes to `reached`, `failed`, `refused` or `no_answer`.
        """
        self._not_before = {peer: at for peer, at in self._not_before.items() if at > now}
        free = [server for server in servers if server.peer not in self._not_before]
        wanted = [address for address, status in self._statuses.items() if status.wanted(self._config.servers, now)]
        for address in wanted:
            status = self._statuses[address]
            server = next((server for server in free if status.may_ask(server.network, now)), None)
            if server is None:
                continue
            others = (other for other in wanted if other != address)
            further = [other for other in others if self._statuses[other].may_ask(server.network, now)]
            self._not_before[server.peer] = now + _AGAIN
            status.tries.append(now)
            status.asking += 1
            return Question(server, (address, *further[: _ADDRESSES - 1]))
        return None

    def reached(self, question: Question, index: int, now: float) -> None:
        """The server has dialled the address of that index, and has proved it."""
        self._over(question, index, now)
        self._add(question, index, True, now)

    def failed(self, question: Question, index: int, now: float) -> None:
        """The server says that it has dialled the address of that index in vain."""
        self._over(question, index, now)
        self._add(question, index, False, now)

    def refused(self, question: Question, now: float) -> None:
        """The server dials none of these addresses."""
        self._over(question, None, now)
        self._not_before[question.server.peer] = now + _UNFIT

    def no_answer(self, question: Question, now: float, *, unfit: bool) -> None:
        """Nothing came of it; `unfit`: and the server is to blame, so that it is left alone for longer."""
        status = self._statuses.get(question.addresses[0])
        if status is not None:
            status.asking = max(0, status.asking - 1)
        if unfit:
            self._not_before[question.server.peer] = now + _UNFIT

    # ------------------------------------------------------------

    def _over(self, question: Question, index: int | None, now: float) -> None:
        status = self._statuses.get(question.addresses[0])
        if status is not None:
            status.asking = max(0, status.asking - 1)
            if index != 0:  # it would not dial the first one
                status.refusals += 1
                status.refused_at = now

    def _add(self, question: Question, index: int, reached: bool, now: float) -> None:
        status = self._statuses.get(question.addresses[index])
        if status is not None:
            status.add(question.server.network, reached, now)
            self._judge(status, now)
            self._judge_all()

    def _judge(self, status: _Status, now: float) -> None:
        proofs, failures = status.count(now)
        verdict = status.verdict
        if failures >= self._config.servers:
            verdict = Reachability.UNREACHABLE
        elif proofs >= _PROOFS:
            verdict = Reachability.CONFIRMED
        elif verdict is Reachability.UNREACHABLE and not failures:
            verdict = Reachability.UNKNOWN  # one has reached it after all, or what was said is too old
        elif verdict is Reachability.CONFIRMED and not proofs:
            verdict = Reachability.UNKNOWN
        if verdict is not status.verdict:
            status.verdict, status.since = verdict, now

    def _judge_all(self) -> None:
        verdicts = [status.verdict for status in self._statuses.values()]
        if Reachability.CONFIRMED in verdicts:
            self.verdict = Reachability.CONFIRMED
        elif Reachability.UNREACHABLE not in verdicts:
            self.verdict = Reachability.UNKNOWN
        elif Reachability.UNKNOWN not in verdicts:
            self.verdict = Reachability.UNREACHABLE
        elif self.verdict is Reachability.CONFIRMED:
            self.verdict = Reachability.UNKNOWN
