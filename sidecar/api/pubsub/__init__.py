"""`sidecar.v1.PubSubService`: broadcast on topics."""
