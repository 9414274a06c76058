"""`sidecar.v1.StreamService`: byte streams between apps."""
