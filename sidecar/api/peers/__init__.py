"""`sidecar.v1.PeerService`: the peers, and who of them may connect."""
