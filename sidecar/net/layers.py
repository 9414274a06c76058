"""What may lie between a socket and its channel: each layer takes bytes in and gives bytes out, without doing I/O."""

from collections.abc import Sequence
from typing import Protocol

from ..core.errors import SidecarError

Buffers = Sequence[bytes | memoryview]


class Layer(Protocol):
    """One of them. A layer is fed pieces of any size; it keeps at most its own bound of unfinished input."""

    ready: bool  # whether `seal` may be called: the layer's own handshake is over as far as we need it
    ended: bool  # whether the remote has ended the layer in order: it will bring no more
    failure: SidecarError | None  # what ends the connection, once what `feed` returned is dealt with

    def feed(self, data: bytes) -> bytes:
        """The bytes within what the layer below brought. Raises a SidecarError, which ends the connection."""

    def seal(self, buffers: Buffers) -> Buffers:
        """The form of `buffers` for the layer below."""

    def output(self) -> list[bytes]:
        """What the layer itself has to say since it was last asked: handshakes, pongs."""

    def close(self) -> None:
        """Nothing more will be sealed; a goodbye, if the layer has one, is in the next `output`."""

    def explain(self, error: SidecarError | None) -> SidecarError | None:
        """A more telling error than `error`, with which the connection failed before its handshake was over."""


class Stack:
    """Layers as one, the one next to the socket first."""

    __slots__ = ("_layers",)

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    @property
    def ready(self) -> bool:
        """Whether `seal` may be called: all handshakes are over."""
        return all(layer.ready for layer in self._layers)

    @property
    def failure(self) -> SidecarError | None:
        """What ends the connection, of the layer nearest to the socket that failed."""
        return next((layer.failure for layer in self._layers if layer.failure is not None), None)

    @property
    def ended(self) -> bool:
        """Whether the remote has ended one of the layers in order: the channel gets no more bytes."""
        return any(layer.ended for layer in self._layers)

    def feed(self, data: bytes) -> bytes:
        """The channel's bytes in what the socket brought. Raises what a layer raises, which ends the connection."""
        for layer in self._layers:
            data = layer.feed(data)
            if not data:
                break
        return data

    def seal(self, buffers: Buffers) -> Buffers:
        """The channel's bytes in the form that the socket takes."""
        for layer in reversed(self._layers):
            buffers = layer.seal(buffers)
        return buffers

    def output(self) -> list[bytes | memoryview]:
        """What the layers say themselves, as bytes for the socket."""
        out: list[bytes | memoryview] = []
        for index, layer in enumerate(self._layers):
            own: Buffers = layer.output()
            if own:
                for below in reversed(self._layers[:index]):
                    own = below.seal(own)
                out += own
            if not layer.ready:  # those above cannot be heard yet
                break
        return out

    def close(self) -> list[bytes | memoryview]:
        """The goodbyes of the layers, as bytes for the socket."""
        out: list[bytes | memoryview] = []
        for layer in reversed(self._layers):
            layer.close()
            out += self.output()
        return out

    def explain(self, error: SidecarError | None) -> SidecarError | None:
        """A more telling error than `error`, if one of the layers knows one."""
        for layer in self._layers:
            error = layer.explain(error)
        return error
