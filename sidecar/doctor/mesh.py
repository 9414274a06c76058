"""Checks from outside, as a guest: who can be reached, and whether this node can be."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Iterator, Sequence

import sidecar_client
from sidecar_client import Client, NodeInfo

from ..core.errors import (
    HandshakeError,
    NotSupported,
    ProtocolError,
    SidecarError,
    Unreachable,
    WrongNetwork,
    WrongPeer,
    WrongPrivateNetwork,
)
from ..core.multiaddr import Multiaddr
from ..core.types import PeerId
from ..net.interfaces import interface_addresses
from ..net.resolve import Resolver, Target
from ..net.transports import Transports
from .finding import Finding, ok, problem, warning
from .guest import Guest, visiting

_ASKED = 16  # peers that are asked where this node is, all at once; a guess


async def bootstrap(
    peers: Sequence[Multiaddr], network: str, transports: Transports, resolver: Resolver, patience: float
) -> AsyncIterator[Finding]:
    """Each bootstrap peer, step by step: name, port, handshake, protocols, network."""
    if not peers:
        yield ok(
            "bootstrap", "no bootstrap peers are configured: this node waits for others, or goes by those it knows"
        )
    for address in peers:
        async with visiting(network, transports, patience) as guest:
            yield await _entrance(guest, address, network, resolver, patience)


async def _entrance(guest: Guest, address: Multiaddr, network: str, resolver: Resolver, patience: float) -> Finding:
    check = "bootstrap"
    try:
        targets = await resolver.resolve(address, address.peer_id)
    except SidecarError as error:
        return problem(check, f"{address}: name: {error}", "check the name, and this machine's name servers")
    try:
        if address.dnsaddr is None:
            view = await guest.meet(address.peer_id, (address.without_peer(),))
        else:
            view = await guest.meet(address.peer_id, [target.by_number(with_peer=True) for target in targets])
    except WrongPeer as error:
        return problem(check, f"{address}: handshake: {error}", "ask that node for its id with `sidecar id`")
    except WrongPrivateNetwork as error:
        return problem(
            check, f"{address}: handshake: {error}", "both need the same key at network.psk_file, or neither"
        )
    except WrongNetwork as error:
        return problem(check, f"{address}: network: {error}", f"this node is of network {network!r} (network.name)")
    except (HandshakeError, NotSupported, ProtocolError, Unreachable) as error:
        silent = [words for words in await asyncio.gather(*(_knock(target, patience) for target in targets)) if words]
        if len(silent) == len(targets):
            remedy = "check that it runs, its port, and the firewalls and port mappings between"
            return problem(check, f"{address}: TCP: {'; '.join(silent)}", remedy)
        return problem(check, f"{address}: handshake: {error}", "check that a libp2p node listens at that port")
    except SidecarError as error:
        return problem(check, f"{address}: {error}", "see the log of that node")
    if not view.protocols:
        return warning(check, f"{address}: protocols: it does not say what it speaks", "see the log of that node")
    agent = view.agent or "an agent without a name"
    return ok(check, f"{address}: {agent} answers, of network {network}")


async def _knock(target: Target, patience: float) -> str | None:
    """Whether something listens there; what is wrong where nothing does."""
    try:
        async with asyncio.timeout(patience):
            _, writer = await asyncio.open_connection(target.host, target.port)
    except TimeoutError:
        return f"{target.host} port {target.port} does not answer within {patience:g} s"
    except OSError as error:
        return f"{target.host} port {target.port}: {error.strerror or error}"
    writer.close()
    return None


async def reachable(
    client: Client, node: NodeInfo, network: str, transports: Transports, patience: float
) -> AsyncIterator[Finding]:
    """Whether the addresses that this node tells its peers lead to it."""
    announced = [Multiaddr.from_text(text) for text in node.announced_addresses or node.listening_addresses]
    me = PeerId.from_text(node.peer_id)
    if not announced:
        yield ok("address", "this node has no address that others could dial, as configured")
    for finding in translated(node, announced):
        yield finding
    for address in announced:
        async with visiting(network, transports, patience) as guest:
            yield await _back(client, guest, node, me, address)


def translated(node: NodeInfo, announced: Sequence[Multiaddr]) -> Iterator[Finding]:
    """Where peers see the node at an address that it does not tell: something between translates addresses."""
    hosts = {address.value("ip4", "ip6") for address in announced}
    seen = dict.fromkeys(Multiaddr.from_text(text).value("ip4", "ip6") for text in node.observed_addresses)
    strange = [host for host in seen if host is not None and host not in hosts and not _loopback(host)]
    if strange and None not in hosts:  # a name may lead anywhere
        words = f"peers see this node at {', '.join(strange)}, which it does not announce"
        remedy = (
            "map a port there to the one that it listens at and set listen.announce to it, if others are to dial it"
        )
        yield warning("address", words, remedy)


def _loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


async def _back(client: Client, guest: Guest, node: NodeInfo, me: PeerId, address: Multiaddr) -> Finding:
    check = "address"
    set_it = "set listen.announce to where others reach this node"
    seen = [Multiaddr.from_text(text).value("ip4", "ip6") for text in node.observed_addresses]
    host = address.value("ip4", "ip6")
    ours = host is None or host in interface_addresses("ip4" if address.value("ip4") else "ip6")
    as_seen = (
        f"peers see it at {', '.join(dict.fromkeys(map(str, seen)))}" if seen else "no peer has said where it sees it"
    )
    try:
        await guest.meet(me, (address,))
    except WrongPeer as error:
        return problem(check, f"another node answers at {address}: {error}", set_it)
    except SidecarError as error:
        if not ours and host not in seen:
            words = f"{address} is not an address of this machine and leads nowhere from here ({error}); {as_seen}"
            return problem(check, words, set_it)
        remedy = f"try it from another machine (`sidecar connect {address.with_peer(me)}`); if that fails too, {set_it}"
        return warning(check, f"{address} cannot be reached from here: {error}; {as_seen}", remedy)
    if not await _shows(client, guest):
        return problem(check, f"at {address} another node answers with this node's identity", _TWIN)
    return ok(check, f"{address} leads here")


_TWIN = (
    "give one of the two a state directory (state.directory) and so a key of its own; the usual cause is a copied "
    "volume or image with an identity.key in it"
)


async def identity(client: Client, node: NodeInfo, network: str, transports: Transports, patience: float) -> Finding:
    """Whether a second node of the network has this node's key: others name an address where one answers."""
    check = "twin"
    me = PeerId.from_text(node.peer_id)
    own = {*node.listening_addresses, *node.announced_addresses, *node.observed_addresses}
    peers = [peer async for peer in client.peers(connected_only=True) if peer.addresses][:_ASKED]
    answers = await asyncio.gather(*(_seen_by(peer, me, network, transports, patience) for peer in peers))
    asked = sum(answer is not None for answer in answers)
    if not asked:
        return ok(check, "no peer can be asked whether another node has this node's identity")
    found = dict.fromkeys(address.without_peer() for answer in answers if answer for address in answer)
    for address in found:
        if str(address) not in own:
            async with visiting(network, transports, patience) as guest:
                try:
                    await guest.meet(me, (address,))
                except SidecarError:
                    continue  # an old address, or one that is not reached from here
                if not await _shows(client, guest):
                    return problem(check, f"a second node with this node's identity answers at {address}", _TWIN)
    return ok(check, f"{_peers(asked)} know of no other node with this node's identity")


async def _seen_by(
    peer: sidecar_client.Peer, me: PeerId, network: str, transports: Transports, patience: float
) -> tuple[Multiaddr, ...] | None:
    """Where a peer, and those whom it names, would seek this node; None when it cannot be asked.

    Each is asked by a guest of its own: a lookup ends with the first answer, and they may differ.
    """
    async with visiting(network, transports, patience) as guest:
        try:
            await guest.meet(PeerId.from_text(peer.peer_id), [Multiaddr.from_text(text) for text in peer.addresses])
        except SidecarError:
            return None
        try:
            return await guest.find(me)
        except SidecarError:
            return ()


async def _shows(client: Client, guest: Guest) -> bool:
    """Whether the guest is connected to the very sidecar that the client talks to."""
    async for peer in client.peers(connected_only=True):
        if peer.peer_id == str(guest.peer_id):
            return True
    return False


def _peers(count: int) -> str:
    return "one peer, asked," if count == 1 else f"{count} peers, asked,"
