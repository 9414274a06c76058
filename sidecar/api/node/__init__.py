"""`sidecar.v1.NodeService`: the node itself, its readiness, its numbers and its log."""
