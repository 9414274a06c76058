"""The protocols, pure: no sockets, no clock, no entropy of their own; bytes and values in, bytes and values out."""
