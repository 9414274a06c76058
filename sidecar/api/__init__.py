"""The gRPC face toward apps: `sidecar.v1` over a Unix socket, and TCP where that is configured."""
