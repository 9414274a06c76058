"""`sidecar.v1.DirectService`: messages to one peer, and requests both ways."""
