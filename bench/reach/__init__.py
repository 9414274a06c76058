"""The laboratory of reach: who behind which NAT gets to whom, and how (docs/reach.md)."""
