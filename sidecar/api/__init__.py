"""The gRPC face toward local apps: `sidecar.v1` over a Unix socket."""
