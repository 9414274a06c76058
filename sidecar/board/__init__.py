"""What people look at: one picture of the node, made from its answers, for the dashboard and for `sidecar top`."""
