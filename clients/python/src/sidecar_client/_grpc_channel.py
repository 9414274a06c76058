"""The engine of gRPC's own library."""

from typing import Any

import grpc

from ._security import Credentials

_OPTIONS = (
    ("grpc.http2.bdp_probe", 0),  # keeps the window at 64 KiB: a slow reader is noticed early
    ("grpc.max_receive_message_length", -1),  # the sidecar bounds its batches
    ("grpc.max_send_message_length", -1),  # and says itself what is too large
    ("grpc.experimental.tcp_read_chunk_size", 262_144),  # as the sidecar: a quarter less CPU for bulk on byte streams
    ("grpc.use_local_subchannel_pool", 1),  # each client its own connection
    ("grpc.enable_http_proxy", 0),  # the API is on this machine
    ("grpc.initial_reconnect_backoff_ms", 50),
    # It also bounds each attempt to connect: on a machine under load a sidecar takes a while to greet.
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class GrpcChannel:
    """The way to a sidecar."""

    def __init__(self, address: str, credentials: Credentials | None) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        else:
            made = grpc.ssl_channel_credentials(credentials.roots, credentials.key, credentials.chain)
            self._channel = grpc.aio.secure_channel(address, made, options=_OPTIONS)

    @property
    def methods(self) -> Any:
        """What stubs are made of."""
        return self._channel

    async def until_lost(self) -> None:
        """Return at the end of the present connection, at once where there is none."""
        if self._channel.get_state() is grpc.ChannelConnectivity.READY:
            await self._channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

    async def close(self) -> None:
        """End all calls, and close it."""
        await self._channel.close()
