"""A p2p mesh as a process beside your app: libp2p on the wire, gRPC to the app."""

__version__ = "0.2.0"
