"""Announced addresses that cannot be right."""

from dataclasses import replace

import pytest

from sidecar.config import Config
from sidecar.core.errors import ConfigError
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.settings import check_announced


def test_an_announced_address_names_this_node_or_nobody() -> None:
    own, other = Identity(bytes(32)).peer_id, Identity(b"o" * 32).peer_id
    address = Multiaddr.from_text("/ip4/192.0.2.1/tcp/4747")
    config = Config()
    for fine in ((), (address,), (address.with_peer(own),)):
        check_announced(replace(config, listen=replace(config.listen, announce=fine)), own)
    with pytest.raises(ConfigError, match=f"names another peer than this node, which is {own}"):
        check_announced(replace(config, listen=replace(config.listen, announce=(address.with_peer(other),))), own)
