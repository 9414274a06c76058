"""Having the gateway of this network map ports to this node: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP IGD.

One machine, `mapper`, tries one protocol after the other; each is a machine that knows nothing of sockets. A gateway is
not trusted with more than the mappings: only what comes from its own address counts, and all of it is bounded.

Import from its files: `statistics` is light, the others are loaded only where ports are mapped.
"""
