"""What a peer says about itself."""

from dataclasses import fields

from ..classes import dataclass
from ..identity import PublicKey
from ..multiaddr import Multiaddr

IDENTIFY = "/ipfs/id/1.0.0"
IDENTIFY_PUSH = "/ipfs/id/push/1.0.0"


@dataclass(frozen=True, slots=True)
class IdentifyInfo:
    """One identify message, or several merged; None or an empty tuple where the peer said nothing.

    `signed_record` is an envelope that nobody has opened yet: see `core.records.open_peer_record`.
    """

    protocol_version: str | None = None
    agent: str | None = None
    public_key: PublicKey | None = None
    listen_addresses: tuple[Multiaddr, ...] = ()
    observed_address: Multiaddr | None = None
    protocols: tuple[str, ...] = ()
    signed_record: bytes | None = None
    gossip_max_rpc: int | None = None  # bytes of the largest gossip RPC that it reads; only sidecars say it

    def updated(self, pushed: "IdentifyInfo") -> "IdentifyInfo":
        """This information after an identify/push: what the push leaves out stays as it was."""
        return IdentifyInfo(
            *(getattr(pushed, field.name) or getattr(self, field.name) for field in fields(IdentifyInfo))
        )
