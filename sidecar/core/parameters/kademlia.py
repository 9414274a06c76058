"""The parameters of the Kademlia router."""

import enum
from dataclasses import fields

from ..classes import NamedTuple, dataclass
from ..errors import ConfigError

_LEAST = {"max_replacements": 0, "probe_after": 0, "max_answer": 256}
_DAY = 86400.0


class Rule(enum.Enum):
    """What a namespace's values must be."""

    PK = "pk"
    """`/pk/<peer id, binary>`: the peer's public key, as go- and js-libp2p have it."""
    SIGNED = "signed"
    """A signed value of the peer that the key names; the greatest sequence number wins."""
    GREATEST = "greatest"
    """Any value; of two the greatest as bytes."""


class Namespace(NamedTuple):
    """A namespace and its rule. Values that begin with `refuse_prefix`, unless that is empty, are invalid."""

    name: str
    rule: Rule
    refuse_prefix: bytes = b""


DEFAULT_NAMESPACES = (Namespace("pk", Rule.PK), Namespace("signed", Rule.SIGNED))


@dataclass(frozen=True, slots=True)
class KademliaConfig:
    """Bounds and intervals of one router; times in seconds, sizes in bytes. Raises ConfigError on a value too small."""

    k: int = 20
    """Peers in a bucket and in an answer (specs kad-dht, "Replication parameter")."""
    alpha: int = 10
    """Queries in flight in one lookup (specs kad-dht, "Alpha concurrency parameter")."""
    paths: int = 3
    """Disjoint paths of a lookup ("S/Kademlia", section 4.4, has 4 to 8, each a lookup of its own). A guess: three that
    have the closest peers in common cost hardly more than one."""
    max_network_contacts: int = 10
    """Peers of one network (IPv4 /24, IPv6 /48) in the routing table, where it is not exempt. A guess;
    go-libp2p-kad-dht: 3 of an IPv4 /16."""
    max_network_bucket: int = 3
    """The same in one bucket. A guess; go-libp2p-kad-dht: 2 of an IPv4 /16."""
    max_network_answers: int = 5
    """The same among the peers whose answers count in one lookup. A guess: a quarter of k."""
    query_timeout: float = 10.0
    """One query, dialling included (specs kad-dht, "Bootstrap process": QueryTimeout)."""
    slow_after: float = 3.0
    """A query that takes longer no longer holds up its lookup: another peer is asked in its place. Its answer counts as
    long as the lookup goes on. A guess: dialling over a way of 200 ms takes a second."""
    lookup_timeout: float = 60.0
    """A whole lookup; it then ends with what it has. go-libp2p-kad-dht gives its refresh queries one minute."""
    refresh_interval: float = 600.0
    """From one refresh of the buckets to the next (specs kad-dht: 10 minutes)."""
    join_interval: float = 2.2
    """From joining to the first repeated lookup of ourselves; it doubles up to `refresh_interval`. Nodes that join at
    the same moment do not see each other in their first lookup. A guess."""
    glance_until: float = 18.0
    """The longest interval after which a repeated lookup of ourselves is a short one. A guess: so the first minute has
    one whole lookup, and the second one soon after it."""
    glance: int = 2
    """Neighbours that a repeated lookup of ourselves asks, and as many of those whom they name and we do not know. A
    guess."""
    refresh_contacts: int = 2
    """Contacts with which a bucket is full enough on joining. A guess: a few that live do for a walk to go on, and
    whoever walks through here brings more; with 3, who joins 10,000 nodes asks 62 questions in the first minute rather
    than 56."""
    refresh_pause: float = 4.0
    """From the refresh of one bucket to that of the next on joining. A guess: in a network of 10,000 nodes nine buckets
    need it, which takes half a minute."""
    probe_timeout: float = 20.0
    """A probe that nobody answered by then failed. Above the driver's own time-outs, dial and ping. A guess."""
    probe_after: float = 60.0
    """A bucket entry heard of within this time is not probed for a newcomer's sake. A guess."""
    max_failures: int = 2
    """Queries in a row that an entry may fail before it goes; one is enough where a newcomer waits. A guess."""
    max_replacements: int = 128
    """Connected peers kept beside a full bucket; they are answered with, and take the place of the dead. A guess."""
    max_clients: int = 1024
    """Connected peers that are no DHT servers, kept so that a lookup for them is answered. A guess."""
    max_lookups: int = 16
    """Lookups running at a time. A guess: with alpha 10 at most 160 streams."""
    max_queued_lookups: int = 256
    """Lookups waiting for their turn; more are refused. A guess."""
    max_candidates: int = 256
    """Peers that one lookup keeps in mind. A guess that leaves room for a dozen answers of k unknown peers."""
    max_queries: int = 256
    """Peers that one lookup asks. A guess: in a network of 10,000 nodes it takes about 40."""
    max_addresses: int = 16
    """Addresses kept per peer. A guess."""
    max_answered_addresses: int = 8
    """Addresses per peer in our answers, the first ones. A guess that keeps an answer of 21 peers below its bound."""
    max_answer: int = 16 * 1024 - 2
    """An answer of ours. rust-libp2p reads at most 16 KiB by default, the length's varint included."""
    max_frame: int = 256 * 1024
    """A message that we read. go-libp2p allows 4 MiB; 21 peers with 100 addresses of 100 bytes fit into this."""
    max_key: int = 1024
    """A key in a request. A guess."""
    namespaces: tuple[Namespace, ...] = DEFAULT_NAMESPACES
    """Whose records are stored and believed: by default those that prove themselves."""
    record_ttl: float = 2 * _DAY
    """How long a record is kept after it was put last. go-libp2p-kad-dht: 48 hours."""
    provider_ttl: float = 2 * _DAY
    """How long a provider is kept after it was added last (specs kad-dht: 48 hours)."""
    provide_interval: float = 22 * 3600.0
    """From one announcement of a provider to the next (specs kad-dht: 22 hours)."""
    provide_retry: float = 5.0
    """From an announcement that fewer than k peers took to the next; it doubles up to `refresh_interval`, so that a
    young network learns what its first nodes provide. A guess."""
    max_value: int = 12 * 1024
    """A record's value. A guess that leaves room for closer peers in an answer that rust-libp2p reads."""
    max_records: int = 4096
    """Records kept. Beyond it those closest to us stay. A guess."""
    max_record_bytes: int = 16 * 1024 * 1024
    """Keys and values of them together. A guess."""
    max_providers: int = 16384
    """Provider entries kept. Beyond it those of the keys closest to us stay. A guess."""
    max_providers_per_key: int = 128
    """Beyond it the newest stay, those first whose networks have few. A guess: as many as an answer has room for."""
    max_providers_per_network: int = 16
    """Of one key, of a /24 of IPv4 or a /48 of IPv6; of more the newest stay. A guess."""
    max_providers_of_network: int = 1024
    """Of all keys together. A guess: it takes sixteen networks to fill the store."""
    max_provider_key: int = 80
    """Bytes of a provider record's key, as go-libp2p-kad-dht takes it."""
    max_found_providers: int = 4096
    """Providers that one search finds. A guess."""
    quorum: int = 3
    """Peers that must have answered with a value before a search for it ends early, when the asker names no number. A
    guess; go-libp2p-kad-dht asks to the end, rust-libp2p is content with one."""
    max_deliveries: int = 256
    """Records on their way to the peers that are to keep them; more are refused. A guess."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name == "namespaces":
                continue
            value = getattr(self, item.name)
            least = _LEAST.get(item.name, 0.001 if item.type is float else 1)
            if not value >= least:
                raise ConfigError(f"kademlia.{item.name} is {value}, at least {least}")
