"""Generated from `protos/sidecar/v1`: the messages and stubs of the sidecar's API."""
