"""An engine of our own for the API: gRPC over HTTP/2 frames that `binding` brings, on asyncio's sockets."""
