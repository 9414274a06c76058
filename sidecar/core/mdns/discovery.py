"""The machine: asks, answers, and gathers who is there. Datagrams go in, peers and datagrams come out."""

import random
import string
from collections.abc import Mapping
from dataclasses import replace

from ..classes import NamedTuple
from ..errors import InvalidMultiaddr, ProtocolError
from ..multiaddr import Multiaddr
from ..token_bucket import TokenBucket
from ..types import PeerId
from .messages import MAX_TEXT, decode, encode_answer, encode_question, encode_services
from .statistics import MdnsStatistics

TTL = 360  # seconds that others may remember an answer; as rust-libp2p
_FIRST = 1.0  # seconds from the first question to the second; each next pause is twice as long; RFC 6762, section 5.2
_LONGEST = 120.0  # seconds between questions; rust-libp2p's is 300, go-libp2p asks once
_DELAYS = 0.02, 0.12  # seconds before an answer, so that not all answer at once; RFC 6762, section 6
_AGAIN = 1.0  # seconds between two answers on a link; RFC 6762, section 6
_RATE, _BURST = 50.0, 200.0  # messages of one link that are read, a second and at once; guesses
_MAX_ADDRESSES = 8  # of one peer, told and taken; a guess
_MAX_PEERS = 64  # of one message; a guess
_TOLD = 1024  # peers of which it is remembered what was told last; a guess
_RETELL = 30.0  # seconds after which a peer that is still there is told again; a guess

_LETTERS = string.ascii_lowercase + string.digits
_ADDRESS, _NETWORK = b"dnsaddr=", b"sidecar-network="


class LocalPeer(NamedTuple):
    """Somebody says that this peer is at these addresses of the link."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]


LinkAddresses = Mapping[str, tuple[Multiaddr, ...]]
"""By the name of a link, the addresses that this node is reached at there; none: it only listens and asks."""


class _Link:
    __slots__ = ("addresses", "answer_at", "answered", "ask_at", "instance", "pause", "reads", "services_at")

    def __init__(self, instance: str, addresses: tuple[Multiaddr, ...], ask_at: float, now: float) -> None:
        # Not the peer id: a name of its own lets a node be found, and not tracked from one start to the next. And one
        # for each link: go-libp2p takes the first answer of an instance for all there is.
        self.instance = instance
        self.addresses = addresses
        self.ask_at = ask_at
        self.pause = _FIRST
        self.answer_at: float | None = None
        self.services_at: float | None = None
        self.answered = -_AGAIN
        self.reads = TokenBucket(_RATE, _BURST, now)


class LocalDiscovery:
    """Asks on every link who is there, answers for this node, and tells who answered."""

    def __init__(self, own: PeerId, network: str, service: str, rng: random.Random) -> None:
        """`network`: the name of the mesh; sidecars of another one are not told. `service`: as `service_of` has it."""
        self._own = own
        self._network = _NETWORK + network.encode()
        self._service = service
        self._rng = rng
        self._links: dict[str, _Link] = {}
        self._told: dict[PeerId, tuple[tuple[Multiaddr, ...], float]] = {}
        self._unsent: list[tuple[str, bytes]] = []
        self._statistics = MdnsStatistics()

    def relink(self, links: LinkAddresses, now: float) -> None:
        """The links that there are now; on new ones, and where addresses have changed, it asks at once."""
        links = {name: tuple(addresses[:_MAX_ADDRESSES]) for name, addresses in links.items()}
        for name in list(self._links):
            if name not in links:
                del self._links[name]
        for name, addresses in links.items():
            link = self._links.get(name)
            if link is None:
                instance = "".join(self._rng.choices(_LETTERS, k=32))
                self._links[name] = _Link(instance, addresses, now + self._delay(), now)
            elif link.addresses != addresses:
                link.addresses, link.pause, link.ask_at = addresses, _FIRST, now + self._delay()

    def receive_datagram(self, data: bytes, link_name: str, now: float) -> list[LocalPeer]:
        """A message of a link; returns the peers that it tells of and that are news."""
        link = self._links.get(link_name)
        if link is None:
            return []
        self._statistics.received += 1
        if not link.reads.take(now):
            self._statistics.refused += 1
            return []
        try:
            heard = decode(data, self._service)
        except ProtocolError:
            self._statistics.refused += 1
            return []
        if heard.is_answer:
            return self._gather(heard.texts, now)
        if heard.asks and link.instance not in heard.named and link.addresses and link.answer_at is None:
            link.answer_at = max(now + self._delay(), link.answered + _AGAIN)
        if heard.asks_services and link.services_at is None:
            link.services_at = now + self._delay()
        return []

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called; None: there is no link."""
        moments = (
            moment
            for link in self._links.values()
            for moment in (link.ask_at, link.answer_at, link.services_at)
            if moment is not None
        )
        return min(moments, default=None)

    def handle_deadline(self, now: float) -> None:
        """Ask and answer what is due."""
        for name, link in self._links.items():
            if link.ask_at <= now:
                self._unsent.append((name, encode_question(self._service)))
                self._statistics.questions += 1
                link.ask_at = now + link.pause * (0.9 + self._rng.random() / 5)
                link.pause = min(2 * link.pause, _LONGEST)
            if link.answer_at is not None and link.answer_at <= now:
                link.answer_at, link.answered = None, now
                self._unsent.append((name, self._answer(link, TTL)))
                self._statistics.answers += 1
            if link.services_at is not None and link.services_at <= now:
                link.services_at = None
                self._unsent.append((name, encode_services(self._service, TTL)))

    def data_to_send(self) -> list[tuple[str, bytes]]:
        """Datagrams, each with its link."""
        unsent, self._unsent = self._unsent, []
        return unsent

    def say_goodbye(self) -> None:
        """Tell every link that this node is gone (RFC 6762, section 10.1)."""
        self._unsent += [(name, self._answer(link, 0)) for name, link in self._links.items() if link.addresses]

    def statistics(self) -> MdnsStatistics:
        """A snapshot."""
        return replace(self._statistics, links=len(self._links))

    def _delay(self) -> float:
        return self._rng.uniform(*_DELAYS)

    def _answer(self, link: _Link, ttl: int) -> bytes:
        texts = [_ADDRESS + str(address.with_peer(self._own)).encode() for address in link.addresses]
        told = [text for text in texts if len(text) <= MAX_TEXT]
        ips = list(dict.fromkeys(address.ip for address in link.addresses if address.ip is not None))
        endpoint = link.addresses[0].endpoint()
        port = 0 if endpoint is None else endpoint.port
        return encode_answer(self._service, link.instance, [*told, self._network], ttl, ips, port)

    def _gather(self, texts: Mapping[str, tuple[bytes, ...]], now: float) -> list[LocalPeer]:
        """Those that are news: new ones, those with other addresses, and those not told for a while."""
        found: dict[PeerId, dict[Multiaddr, None]] = {}
        for strings in texts.values():
            networks = [string for string in strings if string.startswith(_NETWORK)]
            if networks and self._network not in networks:
                continue
            for text in strings:
                address = _dialable(text)
                peer = None if address is None else address.peer_id
                if address is None or peer is None or peer == self._own or len(found) == _MAX_PEERS:
                    continue
                found.setdefault(peer, {})[address.without_peer()] = None
        news = []
        for peer, several in found.items():
            addresses = tuple(several)[:_MAX_ADDRESSES]
            before, at = self._told.pop(peer, ((), 0.0))
            if before == addresses and now - at < _RETELL:
                self._told[peer] = before, at
                continue
            self._told[peer] = addresses, now
            news.append(LocalPeer(peer, addresses))
        while len(self._told) > _TOLD:
            del self._told[next(iter(self._told))]
        self._statistics.peers += len(news)
        return news


def _dialable(text: bytes) -> Multiaddr | None:
    """The address in a string of a TXT record; None where there is none that a node of this link can have."""
    if not text.startswith(_ADDRESS):
        return None
    try:
        address = Multiaddr.from_text(text.removeprefix(_ADDRESS).decode())
    except (InvalidMultiaddr, UnicodeDecodeError):
        return None
    if address.ip is None or address.is_relayed or address.endpoint() is None:
        return None
    return None if address.ip in ("0.0.0.0", "::") or _is_multicast(address.ip) else address


def _is_multicast(ip: str) -> bool:
    return ip.lower().startswith("ff") if ":" in ip else int(ip.partition(".")[0]) >= 224
