"""HTTP/2 and gRPC's framing, which the sidecar's own engine shares; `channel` is the client's engine on them."""
