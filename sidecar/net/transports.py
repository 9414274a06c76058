"""What connections are made of beside plain TCP, as configured."""

import os
from dataclasses import dataclass, field

from .layers import Layer, Stack
from .private import NONCE_SIZE, PrivateLayer


@dataclass(frozen=True, slots=True)
class Transports:
    """What the layers of connections need."""

    psk: bytes | None = field(default=None, repr=False)  # of the private network, 32 bytes

    def stack(self) -> Stack | None:
        """The layers of a new connection; None: there are none, its bytes go straight to the channel."""
        layers: list[Layer] = []
        if self.psk is not None:
            layers.append(PrivateLayer(self.psk, os.urandom(NONCE_SIZE)))
        return Stack(layers) if layers else None
